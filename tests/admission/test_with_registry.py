"""Admission in the real write path: registry, store, informers and the loopback client, without a server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubelite.admission import builtin as admission
from kubelite.api.loopback import LoopbackClient
from kubelite.auth.authorizers import Union
from kubelite.auth.escalation import EscalationCheck
from kubelite.auth.nodes import NodeAuthorizer
from kubelite.auth.rbac import Rbac
from kubelite.client.informers import Informers
from kubelite.client.webhooks import HttpCaller
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.registry import bodies
from kubelite.registry.contract import AllowAll
from kubelite.registry.registry import Registry, Settings
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore

HEAVY = {
    "overhead": {"podFixed": {"cpu": "100m"}},
    "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]},
}
DEFAULT_CLASS = {
    "storageclass.kubernetes.io/is-default-class": "true",
    "ingressclass.kubernetes.io/is-default-class": "true",
}
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))


class Cluster:
    def __init__(self, registry: Registry, informers: Informers, authorizer: Union) -> None:
        self.registry, self.informers, self.authorizer = registry, informers, authorizer
        self.client = LoopbackClient(registry, registry.kinds, authorizer)

    def as_user(self, user: User) -> LoopbackClient:
        return self.client.as_user(user)

    async def shown(self, resource: str, name: str, namespace: str = "", revision: str = "") -> Obj:
        """Waits until the informer shows an object (of at least a revision), as a client would see admission act on it."""
        informer = self.informers.of(resource)
        seen = asyncio.Event()

        def look(old: Obj | None, new: Obj | None) -> None:
            meta = (new or {}).get("metadata") or {}
            if meta.get("name") == name and int(meta["resourceVersion"]) >= int(revision or 0):
                seen.set()

        unsubscribe = informer.subscribe(look)
        async with asyncio.timeout(30):
            await seen.wait()
        unsubscribe()
        found = informer.get(name, namespace)
        assert found is not None
        return found


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore(tmp_path / "store.db")
    await store.start()
    kinds = builtin.kinds()
    registry = Registry(store, kinds, AllowAll(), Settings())
    await registry.start()
    client = LoopbackClient(registry, kinds)
    for name in ("default", "kube-system"):
        await client.create("namespaces", {"metadata": {"name": name}})
    await client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
    informers = Informers(client)
    rbac = Rbac(informers)
    authorizer = Union([NodeAuthorizer(informers), rbac])

    def permits(user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str, /) -> bool:
        return False

    caller = HttpCaller(informers)
    configured = [
        EscalationCheck(rbac, authorizer),
        *admission.configured_plugins(client, informers, permits, kinds, caller),
    ]
    registry.admission = admission.chain(client, informers, permits, configured=configured)
    running = asyncio.create_task(informers.run())
    await informers.wait_synced()
    yield Cluster(registry, informers, authorizer)
    running.cancel()
    await asyncio.wait([running])
    await caller.close()
    await registry.stop()
    await store.stop()


def pod(name: str, **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_a_created_pod_has_what_the_plugins_add(cluster: Cluster) -> None:
    created = await cluster.client.create("pods", pod("web"))
    spec = created["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["volumes"][0]["projected"]["defaultMode"] == 0o644
    assert spec["priority"] == 0
    assert [t["effect"] for t in spec["tolerations"]] == ["NoExecute", "NoExecute"]
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True


async def test_what_the_plugins_make_is_in_normal_form_and_has_its_defaults(cluster: Cluster) -> None:
    client = cluster.client
    classes = [
        ("runtimeclasses.node.k8s.io", {"metadata": {"name": "heavy"}, "handler": "h", **HEAVY}),
        ("priorityclasses.scheduling.k8s.io", {"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}),
        (
            "storageclasses.storage.k8s.io",
            {"metadata": {"name": "s", "annotations": DEFAULT_CLASS}, "provisioner": "example.com/p"},
        ),
        (
            "ingressclasses.networking.k8s.io",
            {"metadata": {"name": "i", "annotations": DEFAULT_CLASS}, "spec": {"controller": "example.com/i"}},
        ),
    ]
    for resource, obj in classes:
        await client.create(resource, obj)
        await cluster.shown(resource, obj["metadata"]["name"])
    limits = {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"memory": "1Mi"}}]}
    await client.create("limitranges", {"metadata": {"name": "l", "namespace": "default"}, "spec": limits})
    await cluster.shown("limitranges", "l", "default")
    account = {"metadata": {"name": "puller", "namespace": "default"}, "imagePullSecrets": [{"name": "registry"}]}
    await client.create("serviceaccounts", account)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = [
        ("pods", pod("plain")),
        ("pods", pod("full", runtimeClassName="heavy", priorityClassName="high", serviceAccountName="puller")),
        ("nodes", {"metadata": {"name": "n1"}}),
        ("persistentvolumeclaims", {"metadata": {"name": "c", "namespace": "default"}, "spec": claim}),
        ("ingresses.networking.k8s.io", {"metadata": {"name": "i", "namespace": "default"}, "spec": {"defaultBackend": BACKEND}}),
    ]
    for resource, obj in made:
        created = await client.create(resource, obj)
        kind = cluster.registry.kinds.preferred(resource)
        assert bodies.admitted(kind, created) == created
        assert created["metadata"].get("finalizers") or created["spec"] != obj.get("spec"), (
            f"no plugin added anything to {resource}"
        )


async def test_a_namespace_that_does_not_exist_takes_nothing(cluster: Cluster) -> None:
    with pytest.raises(errors.NotFound, match='namespaces "none" not found'):
        await cluster.client.create("configmaps", {"metadata": {"name": "x", "namespace": "none"}})
    await cluster.client.create("namespaces", {"metadata": {"name": "fresh"}})
    await cluster.client.create("configmaps", {"metadata": {"name": "x", "namespace": "fresh"}})


async def test_a_quota_counts_what_is_written_in_the_same_moment(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"count/configmaps": "5"}}}
    created = await cluster.client.create("resourcequotas", quota)
    status = {"hard": {"count/configmaps": "5"}, "used": {"count/configmaps": "0"}}
    updated = await cluster.client.update("resourcequotas", {**created, "status": status}, subresource="status")
    await cluster.shown("resourcequotas", "q", "default", updated["metadata"]["resourceVersion"])
    maps = ({"metadata": {"name": f"c{n}", "namespace": "default"}} for n in range(12))
    results = await asyncio.gather(*(cluster.client.create("configmaps", m) for m in maps), return_exceptions=True)
    assert sum(1 for r in results if isinstance(r, dict)) == 5
    assert sum(1 for r in results if isinstance(r, errors.Forbidden)) == 7
    stored = await cluster.client.get("resourcequotas", "q", "default")
    assert stored["status"]["used"] == {"count/configmaps": "5"}


async def test_CVE_2021_25735_admission_compares_with_the_stored_node_and_not_with_the_one_that_was_sent(
    cluster: Cluster,
) -> None:
    node = {"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/zone": "a"}}}
    await cluster.client.create("nodes", node)
    found = await cluster.client.get("nodes", "n1")
    assert found["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    client = cluster.as_user(NODE)
    freed = {**found, "spec": {**found["spec"], "taints": []}}
    with pytest.raises(errors.Forbidden, match="not allowed to modify taints"):
        await client.update("nodes", freed)
    with pytest.raises(errors.Forbidden, match="not allowed to modify labels"):
        await client.patch("nodes", "n1", "", {"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "b"}}})
    mine = {"conditions": [{"type": "Ready", "status": "True"}]}
    reported = await client.patch("nodes", "n1", "", {"status": mine}, subresource="status")
    assert reported["status"]["conditions"][0]["status"] == "True"
    await cluster.client.create("nodes", {"metadata": {"name": "n2"}})
    with pytest.raises(errors.Forbidden, match='not allowed to modify node "n2"'):
        await client.patch("nodes", "n2", "", {"status": mine}, subresource="status")


async def test_a_policy_and_its_binding_hold_as_soon_as_they_are_seen(cluster: Cluster) -> None:
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object.data.size() <= 1", "message": "too much"}],
    }
    group = "admissionregistration.k8s.io"
    await cluster.client.create(f"validatingadmissionpolicies.{group}", {"metadata": {"name": "p"}, "spec": spec})
    binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
    await cluster.client.create(f"validatingadmissionpolicybindings.{group}", binding)
    await cluster.shown(f"validatingadmissionpolicies.{group}", "p")
    await cluster.shown(f"validatingadmissionpolicybindings.{group}", "b")
    await cluster.client.create("configmaps", {"metadata": {"name": "a", "namespace": "default"}, "data": {"a": "1"}})
    with pytest.raises(errors.ApiError, match="denied request: too much"):
        data = {"a": "1", "b": "2"}
        await cluster.client.create("configmaps", {"metadata": {"name": "b", "namespace": "default"}, "data": data})


async def test_a_user_grants_only_what_they_have(cluster: Cluster) -> None:
    group = "rbac.authorization.k8s.io"
    rules = [
        {"verbs": ["create"], "apiGroups": [group], "resources": ["roles"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
    ]
    await cluster.client.create(f"roles.{group}", {"metadata": {"name": "author", "namespace": "default"}, "rules": rules})
    ref = {"apiGroup": group, "kind": "Role", "name": "author"}
    subjects = [{"apiGroup": group, "kind": "User", "name": "alice"}]
    binding = {"metadata": {"name": "author", "namespace": "default"}, "roleRef": ref, "subjects": subjects}
    await cluster.client.create(f"rolebindings.{group}", binding)
    await cluster.shown(f"roles.{group}", "author", "default")
    await cluster.shown(f"rolebindings.{group}", "author", "default")
    alice = cluster.as_user(User("alice", ("system:authenticated",)))
    await alice.create(f"roles.{group}", {"metadata": {"name": "small", "namespace": "default"}, "rules": rules[1:]})
    with pytest.raises(errors.Forbidden, match="attempting to grant RBAC permissions not currently held"):
        large = [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]
        await alice.create(f"roles.{group}", {"metadata": {"name": "large", "namespace": "default"}, "rules": large})
