import copy
import time

import pytest

from kubelite.admission import builtin
from kubelite.admission.plugins import (
    certificates,
    event_rates,
    external_ips,
    ingress_classes,
    limits,
    namespaces,
    node_restriction,
    node_taints,
    priorities,
    runtime_classes,
    service_accounts,
    storage,
    tolerations,
)
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from tests.admission.fakes import NODE, StaticClient, pod, request
from tests.auth.fakes import StaticInformers, named


def setup(**objects: list[Obj]) -> tuple[StaticClient, StaticInformers]:
    informers = StaticInformers({name.replace("__", "."): items for name, items in objects.items()})
    return StaticClient(informers), informers


def namespace(name: str = "ns", phase: str = "Active", **labels: str) -> Obj:
    return named(name, metadata={"labels": labels}, status={"phase": phase})


ACCOUNT = named("default", "ns", imagePullSecrets=[{"name": "registry"}])


async def test_nothing_is_created_in_a_namespace_that_ends_or_is_missing() -> None:
    client, informers = setup(namespaces=[namespace(), namespace("ending", "Terminating")])
    plugin = namespaces.NamespaceLifecycle(client, informers)  # type: ignore[arg-type]
    await plugin.admit(request("CREATE", "configmaps", named("c", "ns")))
    with pytest.raises(errors.Forbidden) as refused:
        await plugin.admit(request("CREATE", "configmaps", named("c", "ending"), namespace="ending"))
    assert refused.value.message == (
        'configmaps "c" is forbidden: unable to create new content in namespace ending because it is being terminated'
    )
    assert refused.value.causes[0].reason == "NamespaceTerminating"
    with pytest.raises(errors.NotFound, match='namespaces "none" not found'):
        await plugin.admit(request("CREATE", "configmaps", named("c", "none"), namespace="none"))
    with pytest.raises(errors.Forbidden, match="this namespace may not be deleted"):
        await plugin.admit(request("DELETE", "namespaces", None, name="default"))
    assert not plugin.handles("CREATE", request("CREATE", "nodes", {}).target.kind, "")


async def test_a_pod_gets_its_service_account_token_and_pull_secrets() -> None:
    client, informers = setup(serviceaccounts=[ACCOUNT])
    plugin = service_accounts.ServiceAccount(client, informers)  # type: ignore[arg-type]
    original = pod(initContainers=[{"name": "i", "image": "x"}])
    before = copy.deepcopy(original)
    changed = await plugin.admit(request("CREATE", "pods", original))
    assert original == before
    assert changed is not None
    spec = changed["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    for container in spec["containers"] + spec["initContainers"]:
        assert container["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    again = await plugin.admit(request("CREATE", "pods", changed))
    assert again == changed
    await plugin.validate(request("CREATE", "pods", changed))


async def test_a_pod_can_go_without_a_token_but_not_without_an_account() -> None:
    client, informers = setup(serviceaccounts=[ACCOUNT])
    plugin = service_accounts.ServiceAccount(client, informers)  # type: ignore[arg-type]
    changed = await plugin.admit(request("CREATE", "pods", pod(automountServiceAccountToken=False)))
    assert changed is not None
    assert "volumes" not in changed["spec"]
    with pytest.raises(errors.Forbidden, match='error looking up service account ns/other: serviceaccount "other" not found'):
        await plugin.admit(request("CREATE", "pods", pod(serviceAccountName="other")))


async def test_CVE_2023_2728_CVE_2024_3177_mountable_secrets_are_checked_everywhere() -> None:
    account = named("strict", "ns", metadata={"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}})
    client, informers = setup(serviceaccounts=[account | {"secrets": [{"name": "good"}]}])
    plugin = service_accounts.ServiceAccount(client, informers)  # type: ignore[arg-type]

    async def check(**spec: object) -> None:
        await plugin.validate(request("CREATE", "pods", pod(serviceAccountName="strict", **spec)))

    await check(volumes=[{"name": "v", "secret": {"secretName": "good"}}])
    bad_env = {"name": "x", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "bad", "key": "k"}}}]}
    bad_from = {"name": "x", "envFrom": [{"secretRef": {"name": "bad"}}]}
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in (bad_env, bad_from):
            with pytest.raises(errors.Forbidden, match=r'secret\.secretName="bad" is not allowed'):
                await check(**{field: [container]})
    with pytest.raises(errors.Forbidden):
        await check(volumes=[{"name": "v", "secret": {"secretName": "bad"}}])
    with pytest.raises(errors.Forbidden, match="imagePullSecret"):
        await check(imagePullSecrets=[{"name": "bad"}])
    ephemeral = pod(serviceAccountName="strict", ephemeralContainers=[bad_from])
    with pytest.raises(errors.Forbidden):
        await plugin.validate(request("UPDATE", "pods", ephemeral, old=ephemeral, subresource="ephemeralcontainers"))


async def test_priority_comes_from_the_class() -> None:
    client, informers = setup(priorityclasses__scheduling__k8s__io=[])
    informers.put("priorityclasses.scheduling.k8s.io", named("high", value=1000, preemptionPolicy="Never"))
    plugin = priorities.Priority(client, informers)  # type: ignore[arg-type]

    async def spec(**given: object) -> Obj:
        changed = await plugin.admit(request("CREATE", "pods", pod(**given)))
        assert changed is not None
        spec: Obj = changed["spec"]
        return spec

    assert (await spec())["priority"] == 0
    high = await spec(priorityClassName="high")
    assert (high["priority"], high["preemptionPolicy"]) == (1000, "Never")
    assert (await spec(priorityClassName="system-node-critical"))["priority"] == 2000001000
    with pytest.raises(errors.Forbidden, match="no PriorityClass with name none was found"):
        await spec(priorityClassName="none")
    with pytest.raises(errors.Forbidden, match=r"the integer value of priority \(5\) must not be provided in pod spec"):
        await spec(priority=5)
    informers.put("priorityclasses.scheduling.k8s.io", named("usual", value=7, globalDefault=True))
    assert (await spec())["priorityClassName"] == "usual"
    with pytest.raises(errors.Forbidden, match="already marked as default"):
        second = named("second", value=1, globalDefault=True)
        await plugin.validate(request("CREATE", "priorityclasses.scheduling.k8s.io", second))


async def test_pods_tolerate_lost_nodes_for_five_minutes_unless_they_say_otherwise() -> None:
    plugin = tolerations.DefaultTolerationSeconds()
    changed = await plugin.admit(request("CREATE", "pods", pod()))
    assert changed is not None
    assert [t["tolerationSeconds"] for t in changed["spec"]["tolerations"]] == [300, 300]
    assert await plugin.admit(request("CREATE", "pods", changed)) is changed
    everything = pod(tolerations=[{"operator": "Exists"}])
    assert await plugin.admit(request("CREATE", "pods", everything)) is everything
    own = pod(tolerations=[{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}])
    changed = await plugin.admit(request("CREATE", "pods", own))
    assert changed is not None
    assert [t["key"] for t in changed["spec"]["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]


async def test_a_new_node_takes_no_pods() -> None:
    plugin = node_taints.TaintNodesByCondition()
    changed = await plugin.admit(request("CREATE", "nodes", named("n")))
    assert changed is not None
    assert changed["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert await plugin.admit(request("CREATE", "nodes", changed)) is changed


async def test_a_runtime_class_gives_overhead_and_scheduling() -> None:
    client, informers = setup()
    runtime_class = named(
        "kata",
        handler="kata",
        overhead={"podFixed": {"cpu": "250m"}},
        scheduling={"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata", "operator": "Exists"}]},
    )
    informers.put("runtimeclasses.node.k8s.io", runtime_class)
    plugin = runtime_classes.RuntimeClass(client, informers)  # type: ignore[arg-type]
    changed = await plugin.admit(request("CREATE", "pods", pod(runtimeClassName="kata", nodeSelector={"a": "b"})))
    assert changed is not None
    assert changed["spec"]["overhead"] == {"cpu": "250m"}
    assert changed["spec"]["nodeSelector"] == {"a": "b", "kata": "yes"}
    await plugin.validate(request("CREATE", "pods", changed))
    with pytest.raises(errors.Forbidden, match='RuntimeClass "none" not found'):
        await plugin.admit(request("CREATE", "pods", pod(runtimeClassName="none")))
    with pytest.raises(errors.Forbidden, match="conflict: runtimeClass"):
        await plugin.admit(request("CREATE", "pods", pod(runtimeClassName="kata", nodeSelector={"kata": "no"})))
    with pytest.raises(errors.Forbidden, match="Overhead set without"):
        await plugin.validate(request("CREATE", "pods", pod(overhead={"cpu": "1"})))


def claim(size: str = "1Gi", **spec: object) -> Obj:
    return named("c", "ns", spec={"resources": {"requests": {"storage": size}}, **spec}, status={"phase": "Bound"})


async def test_a_claim_gets_the_newest_default_class_and_protection() -> None:
    _, informers = setup()
    for name, created in (("old", "2024-01-01T00:00:00Z"), ("new", "2025-01-01T00:00:00Z")):
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
        informers.put(
            "storageclasses.storage.k8s.io", named(name, metadata={"annotations": annotations, "creationTimestamp": created})
        )
    plugin = storage.DefaultStorageClass(informers)  # type: ignore[arg-type]
    changed = await plugin.admit(request("CREATE", "persistentvolumeclaims", claim()))
    assert changed is not None
    assert changed["spec"]["storageClassName"] == "new"
    explicit = claim(storageClassName="")
    assert await plugin.admit(request("CREATE", "persistentvolumeclaims", explicit)) is explicit
    protected = await storage.StorageObjectInUseProtection().admit(request("CREATE", "persistentvolumeclaims", claim()))
    assert protected is not None
    assert protected["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


async def test_a_claim_grows_only_where_its_class_allows_it() -> None:
    _, informers = setup()
    informers.put("storageclasses.storage.k8s.io", named("fixed"))
    informers.put("storageclasses.storage.k8s.io", named("elastic", allowVolumeExpansion=True))
    plugin = storage.PersistentVolumeClaimResize(informers)  # type: ignore[arg-type]
    for name in ("fixed", "elastic"):
        update = request(
            "UPDATE", "persistentvolumeclaims", claim("2Gi", storageClassName=name), old=claim(storageClassName=name)
        )
        if name == "elastic":
            await plugin.validate(update)
        else:
            with pytest.raises(errors.Forbidden, match="must support resize"):
                await plugin.validate(update)


async def test_an_ingress_gets_the_default_class() -> None:
    _, informers = setup()
    informers.put(
        "ingressclasses.networking.k8s.io",
        named("nginx", metadata={"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}),
    )
    plugin = ingress_classes.DefaultIngressClass(informers)  # type: ignore[arg-type]
    changed = await plugin.admit(request("CREATE", "ingresses.networking.k8s.io", named("i", "ns", spec={})))
    assert changed is not None
    assert changed["spec"]["ingressClassName"] == "nginx"


async def test_CVE_2020_8554_external_ips_are_refused() -> None:
    plugin = external_ips.DenyServiceExternalIPs()
    with_ip = named("s", "ns", spec={"externalIPs": ["8.8.8.8"]})
    with pytest.raises(errors.Forbidden):
        await plugin.validate(request("CREATE", "services", with_ip))
    await plugin.validate(request("UPDATE", "services", with_ip, old=with_ip))


async def test_limit_ranges_give_defaults_and_say_so() -> None:
    _, informers = setup()
    limit = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"}}
    informers.put("limitranges", named("l", "ns", spec={"limits": [limit]}))
    plugin = limits.LimitRanger(informers)  # type: ignore[arg-type]
    given = pod(containers=[{"name": "a", "resources": {"requests": {"cpu": "200m"}}}, {"name": "b"}])
    changed = await plugin.admit(request("CREATE", "pods", given))
    assert changed is not None
    assert changed["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "200m", "memory": "64Mi"},
        "limits": {"cpu": "500m"},
    }
    assert changed["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: memory request for container a; cpu limit for container a; "
        "cpu, memory request for container b; cpu limit for container b"
    )


async def test_limit_ranges_bound_containers_pods_and_claims() -> None:
    _, informers = setup()
    bounds = [
        {"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}},
        {"type": "Pod", "max": {"memory": "1Gi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}},
    ]
    informers.put("limitranges", named("l", "ns", spec={"limits": bounds}))
    plugin = limits.LimitRanger(informers)  # type: ignore[arg-type]

    async def check(request_cpu: str, limit_cpu: str, memory: str = "1Gi") -> None:
        resources = {"requests": {"cpu": request_cpu, "memory": memory}, "limits": {"cpu": limit_cpu, "memory": memory}}
        await plugin.validate(request("CREATE", "pods", pod(containers=[{"name": "c", "resources": resources}])))

    await check("500m", "1")
    with pytest.raises(errors.Forbidden) as refused:
        await check("50m", "2")
    assert refused.value.message == (
        'pods "p" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, '
        "maximum cpu usage per Container is 1, but limit is 2, "
        "cpu max limit to request ratio per Container is 2, but provided ratio is 40.000000]"
    )
    with pytest.raises(errors.Forbidden, match="maximum memory usage per Pod is 1Gi, but limit is 2Gi"):
        await check("500m", "1", "2Gi")
    with pytest.raises(errors.Forbidden, match="maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi"):
        await plugin.validate(request("CREATE", "persistentvolumeclaims", claim("20Gi")))


def permits(*allowed: str):  # type: ignore[no-untyped-def]
    def permit(user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str) -> bool:
        return f"{verb} {name}" in allowed

    return permit


async def test_a_node_changes_only_itself() -> None:
    _, informers = setup()
    plugin = node_restriction.NodeRestriction(informers, permits())  # type: ignore[arg-type]

    async def update(new: Obj, old: Obj) -> None:
        await plugin.admit(request("UPDATE", "nodes", new, old=old, user=NODE))

    node = named("n1", spec={"taints": []})
    await update(node | {"status": {"phase": "x"}}, node)
    with pytest.raises(errors.Forbidden, match='node "n1" is not allowed to modify node "n2"'):
        await update(named("n2"), named("n2"))
    with pytest.raises(errors.Forbidden, match="modify taints"):
        await update(node | {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, node)
    for label, fine in (
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/x", True),
        ("mine/x", True),
        ("node-restriction.kubernetes.io/x", False),
        ("foo.k8s.io/x", False),
        ("node-role.kubernetes.io/control-plane", False),
    ):
        labelled = named("n1", metadata={"labels": {label: "v"}}, spec={"taints": []})
        if fine:
            await update(labelled, node)
        else:
            with pytest.raises(errors.Forbidden, match="not allowed to modify labels"):
                await update(labelled, node)


async def test_CVE_2025_5187_a_node_cannot_give_itself_an_owner() -> None:
    _, informers = setup()
    plugin = node_restriction.NodeRestriction(informers, permits())  # type: ignore[arg-type]
    owned = named("n1", metadata={"ownerReferences": [{"kind": "ConfigMap", "name": "x", "uid": "u", "apiVersion": "v1"}]})
    with pytest.raises(errors.Forbidden, match="modify ownerReferences"):
        await plugin.admit(request("UPDATE", "nodes", owned, old=named("n1"), user=NODE))


async def test_a_node_reports_and_ends_only_its_own_pods() -> None:
    _, informers = setup(pods=[pod("mine", nodeName="n1"), pod("theirs", nodeName="n2")])
    plugin = node_restriction.NodeRestriction(informers, permits())  # type: ignore[arg-type]
    for name, node, fine in (("mine", "n1", True), ("theirs", "n2", False)):
        old = pod(name, nodeName=node)
        for attributes in (
            request("UPDATE", "pods", old | {"status": {"phase": "Running"}}, old=old, user=NODE, subresource="status"),
            request("DELETE", "pods", None, old=old, user=NODE),
            request("CREATE", "pods", named(name, "ns"), user=NODE, subresource="eviction"),
        ):
            if fine:
                await plugin.admit(attributes)
            else:
                with pytest.raises(errors.Forbidden):
                    await plugin.admit(attributes)
    with pytest.raises(errors.Forbidden, match="can only create mirror pods"):
        await plugin.admit(request("CREATE", "pods", pod("new", nodeName="n1"), user=NODE))
    relabelled = pod("mine", nodeName="n1", labels={"a": "b"})
    with pytest.raises(errors.Forbidden, match="cannot update labels"):
        await plugin.admit(request("UPDATE", "pods", relabelled, old=pod("mine", nodeName="n1"), user=NODE, subresource="status"))


async def test_a_node_gets_tokens_only_for_its_pods_and_their_audiences() -> None:
    token_volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}
    _, informers = setup(pods=[pod("mine", nodeName="n1", volumes=[token_volume]), pod("theirs", nodeName="n2")])
    plugin = node_restriction.NodeRestriction(informers, permits("request-serviceaccounts-token-audience default"))  # type: ignore[arg-type]
    strict = node_restriction.NodeRestriction(informers, permits())  # type: ignore[arg-type]

    def ask(name: str, audience: str, uid: str = ""):  # type: ignore[no-untyped-def]
        ref = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid or f"uid-{name}"}
        body = {"metadata": {"name": "default"}, "spec": {"audiences": [audience], "boundObjectRef": ref}}
        return request("CREATE", "serviceaccounts", body, user=NODE, subresource="token")

    await strict.admit(ask("mine", "vault"))
    await plugin.admit(ask("mine", "else"))
    for bad in (ask("theirs", "vault"), ask("mine", "else"), ask("mine", "vault", "other-uid")):
        with pytest.raises(errors.Forbidden):
            await strict.admit(bad)


async def test_only_who_may_use_a_signer_approves_and_signs_for_it() -> None:
    old = named("csr", spec={"signerName": "example.com/app"})
    new = old | {"status": {"certificate": "x"}}
    user = User("bob")
    resource = certificates.REQUESTS
    for allowed in ("approve example.com/app", "approve example.com/*"):
        approval = certificates.CertificateApproval(permits(allowed))
        await approval.validate(request("UPDATE", resource, new, old=old, user=user, subresource="approval"))
    with pytest.raises(errors.Forbidden, match=r'user not permitted to approve requests with signerName "example\.com/app"'):
        await certificates.CertificateApproval(permits()).validate(
            request("UPDATE", resource, new, old=old, user=user, subresource="approval")
        )
    with pytest.raises(errors.Forbidden, match="not permitted to sign"):
        await certificates.CertificateSigning(permits()).validate(
            request("UPDATE", resource, new, old=old, user=user, subresource="status")
        )


async def test_events_of_one_namespace_are_limited() -> None:
    now = 0.0
    plugin = event_rates.EventRateLimit(namespace_per_s=2, burst_s=1, clock=lambda: now)
    event = request("CREATE", "events", named("e", "ns"))
    await plugin.validate(event)
    await plugin.validate(event)
    with pytest.raises(errors.TooManyRequests, match="limit reached on type Namespace for key ns"):
        await plugin.validate(event)
    await plugin.validate(request("CREATE", "events", named("e", "other"), namespace="other"))
    now = 1.0
    await plugin.validate(event)


async def test_admission_of_a_config_map_costs_microseconds() -> None:
    client, informers = setup(namespaces=[namespace()])
    chain = builtin.chain(client, informers, permits())  # type: ignore[arg-type]
    attributes = request("CREATE", "configmaps", named("c", "ns", data={"k": "v"}))
    await chain.mutate(attributes)
    await chain.validate(attributes)
    start = time.process_time()
    for _ in range(1000):
        assert await chain.mutate(attributes) is attributes.obj
        await chain.validate(attributes)
    assert (time.process_time() - start) / 1000 < 60e-6
