import asyncio

import pytest

from kubelite.admission import usage
from kubelite.admission.plugins import quotas
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes
from tests.admission.fakes import StaticClient, pod, request
from tests.auth.fakes import StaticInformers, named


def quota(name: str = "q", used: dict[str, str] | None = None, spec: Obj | None = None, **hard: str) -> Obj:
    hard = {key.replace("__", ".").replace("count_", "count/"): value for key, value in hard.items()}
    used = used if used is not None else dict.fromkeys(hard, "0")
    return named(name, "ns", spec={"hard": hard, **(spec or {})}, status={"hard": hard, "used": used})


def plugin(*found: Obj) -> tuple[quotas.ResourceQuota, StaticClient, StaticInformers]:
    informers = StaticInformers({"resourcequotas": list(found)})
    client = StaticClient(informers)
    return quotas.ResourceQuota(client, informers), client, informers  # type: ignore[arg-type]


def create(obj: Obj, resource: str = "pods", **options: bool) -> Attributes:
    return request("CREATE", resource, obj, **options)  # type: ignore[arg-type]


def sized(cpu: str, name: str = "p") -> Obj:
    return pod(name, containers=[{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}])


async def test_what_fits_is_noted_and_what_does_not_is_refused_with_the_numbers() -> None:
    checked, client, _informers = plugin(quota(pods="5", requests__cpu="1"))
    await checked.validate(create(sized("600m")))
    assert client.updates[-1]["status"]["used"] == {"pods": "1", "requests.cpu": "600m"}
    with pytest.raises(errors.Forbidden) as refused:
        await checked.validate(create(sized("600m")))
    assert refused.value.message == (
        'pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1'
    )
    assert len(client.updates) == 1


async def test_many_creates_at_once_never_pass_the_limit_and_share_one_update() -> None:
    checked, client, _informers = plugin(quota(count_configmaps="10"))
    results = await asyncio.gather(
        *(checked.validate(create(named(f"c{n}", "ns"), "configmaps")) for n in range(25)), return_exceptions=True
    )
    assert sum(1 for r in results if r is None) == 10
    assert sum(1 for r in results if isinstance(r, errors.Forbidden)) == 15
    assert client.updates[-1]["status"]["used"] == {"count/configmaps": "10"}
    assert len(client.updates) <= 2


async def test_a_stale_cache_does_not_let_more_in() -> None:
    checked, client, _informers = plugin(quota(count_configmaps="1"))
    client.show_updates = False
    await checked.validate(create(named("a", "ns"), "configmaps"))
    with pytest.raises(errors.Forbidden, match="exceeded quota"):
        await checked.validate(create(named("b", "ns"), "configmaps"))


async def test_a_dry_run_is_weighed_but_not_noted() -> None:
    checked, client, _informers = plugin(quota(count_configmaps="1"))
    await checked.validate(create(named("a", "ns"), "configmaps", dry_run=True))
    assert client.updates == []


async def test_a_quota_on_cpu_requires_every_container_to_say_it() -> None:
    checked, _, _ = plugin(quota(limits__cpu="1", requests__memory="1Gi"))
    with pytest.raises(errors.Forbidden, match=r"failed quota: q: must specify limits\.cpu for: c; requests\.memory for: c"):
        await checked.validate(create(pod()))


async def test_a_quota_that_was_not_counted_yet_lets_nothing_in() -> None:
    checked, _, _ = plugin(quota(used={}, pods="1"))
    with pytest.raises(errors.Forbidden, match="status unknown for quota: q, resources: pods"):
        await checked.validate(create(pod()))


async def test_scopes_limit_which_pods_a_quota_counts() -> None:
    best_effort = quota("be", spec={"scopes": ["BestEffort"]}, pods="0")
    important = [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
    high = quota("high", spec={"scopeSelector": {"matchExpressions": important}}, pods="0")
    checked, _, _ = plugin(best_effort, high)
    await checked.validate(create(sized("1")))
    with pytest.raises(errors.Forbidden, match="exceeded quota: be"):
        await checked.validate(create(pod()))
    with pytest.raises(errors.Forbidden, match="exceeded quota: high"):
        urgent = sized("1")
        urgent["spec"]["priorityClassName"] = "high"
        await checked.validate(create(urgent))


async def test_an_update_is_weighed_by_what_it_adds() -> None:
    checked, client, _ = plugin(quota(used={"services.nodeports": "1"}, services__nodeports="2"))

    def service(ports: int) -> Obj:
        return named("s", "ns", spec={"type": "NodePort", "ports": [{"port": n} for n in range(ports)]})

    await checked.validate(request("UPDATE", "services", service(2), old=service(1)))
    assert client.updates[-1]["status"]["used"] == {"services.nodeports": "2"}
    await checked.validate(request("UPDATE", "services", service(1), old=service(2)))
    with pytest.raises(errors.Forbidden):
        await checked.validate(request("UPDATE", "services", service(2), old=service(1)))


async def test_a_conflict_is_tried_again_with_the_newest_quota() -> None:
    checked, client, informers = plugin(quota(count_configmaps="10"))
    attributes = create(named("a", "ns"), "configmaps")
    stale = informers.of("resourcequotas").list("ns")
    informers.put(
        "resourcequotas", stale[0] | {"status": {"hard": {"count/configmaps": "10"}, "used": {"count/configmaps": "4"}}}
    )
    checked._current = lambda namespace: stale  # type: ignore[method-assign]  # as if the informer lagged
    await checked.validate(attributes)
    assert client.updates[-1]["status"]["used"] == {"count/configmaps": "5"}


def test_pods_are_counted_with_init_containers_sidecars_and_overhead() -> None:
    def container(cpu: str, **rest: str) -> Obj:
        return {"name": f"c{cpu}", "resources": {"requests": {"cpu": cpu}}, **rest}

    counted = pod(
        containers=[container("100m"), container("200m")],
        initContainers=[container("50m", restartPolicy="Always"), container("1")],
        overhead={"cpu": "10m"},
    )
    assert usage.pod_requests(counted) == {"cpu": "1060m"}
    finished = counted | {"status": {"phase": "Succeeded"}}
    assert usage.usage_of("pods", finished) == {"count/pods": "1"}
    assert usage.counted_resources(["count/deployments.apps", "pods", "requests.storage", "secrets"]) == {
        "deployments.apps",
        "pods",
        "persistentvolumeclaims",
        "secrets",
    }


def test_claims_are_counted_by_their_class() -> None:
    claim = named("c", "ns", spec={"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}})
    assert usage.usage_of("persistentvolumeclaims", claim) == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "1Gi",
        "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "fast.storageclass.storage.k8s.io/requests.storage": "1Gi",
    }
