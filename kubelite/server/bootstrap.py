"""What every cluster has from its first second on: system namespaces, standard roles, priority classes, flow schemas.

Everything is created when it is missing; roles, bindings and flow schemas are brought up to date where they did not opt
out. All of it is written concurrently, so that it shares a few commits of the store.

Source: pkg/controlplane (controllers/systemnamespaces, apiserver), pkg/registry/{rbac,scheduling}/rest, v1.34.
"""

import asyncio
from collections.abc import Awaitable

from kubelite.auth import policy
from kubelite.client.contract import Client
from kubelite.meta.errors import AlreadyExists, Conflict, NotFound
from kubelite.meta.types import Obj
from kubelite.server import flowcontrol
from kubelite.server.settings import Settings

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_AUTO_UPDATE_SPEC = "apf.kubernetes.io/autoupdate-spec"
_RBAC = {
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "ClusterRoleBinding": "clusterrolebindings.rbac.authorization.k8s.io",
    "Role": "roles.rbac.authorization.k8s.io",
    "RoleBinding": "rolebindings.rbac.authorization.k8s.io",
}


async def apply(client: Client, settings: Settings, ca_pem: bytes) -> None:
    """Brings the store up to what a cluster starts with. Running it again changes nothing."""
    await asyncio.gather(*(_ensure(client, "namespaces", _namespace(name)) for name in NAMESPACES))
    # Roles before what is bound to them, as anybody would who checks that a role exists.
    rules = policy.bootstrap_objects()
    work: list[Awaitable[None]] = [_reconcile_role(client, obj) for obj in rules]
    work += [_ensure(client, "priorityclasses.scheduling.k8s.io", obj) for obj in _priority_classes()]
    resource = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
    work += [_reconcile_spec(client, resource, obj) for obj in flowcontrol.priority_levels()]
    resource = "flowschemas.flowcontrol.apiserver.k8s.io"
    work += [_reconcile_spec(client, resource, obj) for obj in flowcontrol.flow_schemas()]
    work.append(_reconcile_data(client, _authentication(ca_pem)))
    await asyncio.gather(*work)


def _namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _priority_classes() -> list[Obj]:
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "globalDefault": False,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, value, description in (
            (
                "system-node-critical",
                2000001000,
                "Used for system critical pods that must not be moved from their current node.",
            ),
            (
                "system-cluster-critical",
                2000000000,
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
            ),
        )
    ]


def _authentication(ca_pem: bytes) -> Obj:
    """Where an aggregated API server reads which client certificates to trust."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": ca_pem.decode(),
            "requestheader-client-ca-file": ca_pem.decode(),
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-username-headers": '["X-Remote-User"]',
        },
    }


async def _found(client: Client, resource: str, obj: Obj) -> Obj | None:
    meta = obj["metadata"]
    try:
        return await client.get(resource, meta["name"], meta.get("namespace", ""))
    except NotFound:
        return None


async def _ensure(client: Client, resource: str, obj: Obj) -> None:
    if await _found(client, resource, obj) is None:
        try:
            await client.create(resource, obj)
        except AlreadyExists:
            return  # another server of this cluster was faster


async def _reconcile_role(client: Client, wanted: Obj) -> None:
    resource = _RBAC[wanted["kind"]]
    found = await _found(client, resource, wanted)
    if found is None:
        await _ensure(client, resource, wanted)
    elif (changed := policy.reconciled(wanted, found)) is not None:
        await _update(client, resource, changed)


async def _reconcile_spec(client: Client, resource: str, wanted: Obj) -> None:
    found = await _found(client, resource, wanted)
    if found is None:
        await _ensure(client, resource, wanted)
        return
    updates = (found["metadata"].get("annotations") or {}).get(_AUTO_UPDATE_SPEC) == "true"
    if updates and not _contains(found.get("spec"), wanted["spec"]):
        await _update(client, resource, {**found, "spec": wanted["spec"]})


async def _reconcile_data(client: Client, wanted: Obj) -> None:
    found = await _found(client, "configmaps", wanted)
    if found is None:
        await _ensure(client, "configmaps", wanted)
    elif found.get("data") != wanted["data"]:
        await _update(client, "configmaps", {**found, "data": wanted["data"]})


async def _update(client: Client, resource: str, obj: Obj) -> None:
    try:
        await client.update(resource, obj)
    except (Conflict, NotFound):
        return  # somebody changed it meanwhile; the next start looks again


def _contains(found: object, wanted: object) -> bool:
    """Whether everything wanted is there; defaults that were added do not count."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_contains(f, w) for f, w in zip(found, wanted, strict=True))
        )
    return found == wanted
