from kubelite.controllers import conditions
from kubelite.controllers.namespaces import Namespaces, Remains, status_of
from kubelite.controllers.serviceaccounts import ROOT_CA, DefaultAccounts, RootCertificates
from tests.controllers.conftest import Cluster, pod_template


async def test_a_namespace_that_is_deleted_is_emptied_and_goes(cluster: Cluster) -> None:
    cluster.start(Namespaces)
    await cluster.client.create("namespaces", {"metadata": {"name": "shop"}})
    await cluster.client.create("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}}, "shop")
    await cluster.client.create("secrets", {"metadata": {"name": "b"}}, "shop")
    await cluster.client.create("configmaps", {"metadata": {"name": "other"}}, "default")
    await cluster.client.delete("namespaces", "shop")
    await cluster.until_gone("namespaces", "shop", "")
    assert await cluster.list("configmaps", "shop") == []
    assert len(await cluster.list("configmaps", "default")) == 1


async def test_pods_go_before_everything_else(cluster: Cluster) -> None:
    (controller,) = cluster.start(Namespaces)
    await cluster.client.create("namespaces", {"metadata": {"name": "shop"}})
    held = {"metadata": {"name": "p", "finalizers": ["example.com/hold"]}, "spec": pod_template()["spec"]}
    await cluster.client.create("pods", held, "shop")
    await cluster.client.create("configmaps", {"metadata": {"name": "a"}}, "shop")
    await cluster.client.delete("namespaces", "shop")

    async def told() -> bool:
        found = await cluster.get("namespaces", "shop", "")
        listed = (found or {}).get("status", {}).get("conditions")
        remaining = conditions.find(listed, "NamespaceFinalizersRemaining")
        return remaining is not None and remaining["status"] == "True"

    await cluster.until(told)
    assert await cluster.get("configmaps", "a", "shop") is not None
    assert controller.queue.statistics()["added"] < 10  # it waits, it does not ask again and again
    await cluster.client.patch("pods", "p", "shop", {"metadata": {"finalizers": None}})
    await cluster.until_gone("namespaces", "shop", "")


def test_the_conditions_of_a_namespace_name_what_remains_and_keep_their_times() -> None:
    remains = Remains()
    remains.by_resource["pods."] = 2
    remains.by_finalizer["example.com/hold"] = 1
    namespace = {"metadata": {"name": "shop"}, "status": {"phase": "Active"}}
    first = status_of(namespace, remains.faults(), "2026-01-01T00:00:00Z")
    assert first["phase"] == "Terminating"
    content = conditions.find(first["conditions"], "NamespaceContentRemaining")
    assert content is not None
    assert content["message"] == "Some resources are remaining: pods. has 2 resource instances"
    finalizers = conditions.find(first["conditions"], "NamespaceFinalizersRemaining")
    assert finalizers is not None
    assert finalizers["message"].endswith("finalizers remaining: example.com/hold in 1 resource instances")
    failure = conditions.find(first["conditions"], "NamespaceDeletionContentFailure")
    assert failure is not None and (failure["status"], failure["reason"]) == ("False", "ContentDeleted")

    again = status_of({**namespace, "status": first}, remains.faults(), "2026-01-02T00:00:00Z")
    assert again == first
    done = status_of({**namespace, "status": first}, {}, "2026-01-03T00:00:00Z")
    content = conditions.find(done["conditions"], "NamespaceContentRemaining")
    assert content is not None and content["lastTransitionTime"] == "2026-01-03T00:00:00Z"


async def test_each_namespace_has_a_default_account_and_the_root_certificates(cluster: Cluster) -> None:
    cluster.start(DefaultAccounts, RootCertificates)
    await cluster.client.create("namespaces", {"metadata": {"name": "shop"}})
    for namespace in ("default", "shop"):
        await cluster.until_count("serviceaccounts", 1, namespace)
        (config,) = await cluster.until_count("configmaps", 1, namespace)
        assert config["metadata"]["name"] == ROOT_CA and config["data"] == {"ca.crt": "CERTIFICATE"}
    await cluster.client.delete("serviceaccounts", "default", "shop")
    await cluster.client.patch("configmaps", ROOT_CA, "shop", {"data": {"ca.crt": "other", "more": "x"}})
    await cluster.until_count("serviceaccounts", 1, "shop")

    async def mended() -> bool:
        found = await cluster.get("configmaps", ROOT_CA, "shop")
        return found is not None and found["data"] == {"ca.crt": "CERTIFICATE"}

    await cluster.until(mended)
