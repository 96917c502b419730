"""The APIService objects of what this server serves itself, kept as the kinds come and go.

Source: kube-aggregator pkg/controllers/autoregister and pkg/controlplane/apiserver/aggregator.go (priorities), v1.34.
"""

import asyncio

import structlog

from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubelite.meta.types import Obj
from kubelite.registry.strategies.others import locally_available
from kubelite.schema.kinds import Kinds

log = structlog.get_logger(__name__)

RESOURCE = "apiservices.apiregistration.k8s.io"
AUTO_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
#: Group -> its priority, which orders discovery.
_GROUPS = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
_VERSIONS = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("resource.k8s.io", "v1"): 21,
}
_CUSTOM_GROUP, _CUSTOM_VERSION = 1000, 100
#: An APIService that stands for itself would be no answer to who serves it.
_UNREGISTERED = ("apiregistration.k8s.io",)
RETRY_S = 1.0


class LocalApiServices:
    def __init__(self, client: Client, informers: Informers, kinds: Kinds) -> None:
        self._client = client
        self._kinds = kinds
        self._services = informers.of(RESOURCE)
        self._definitions = informers.of(_CRDS)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        await self._services.synced.wait()
        self._definitions.subscribe(self._changed)
        self._services.subscribe(self._changed)
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._apply()
            except ApiError as e:
                log.warning("api_services_not_applied", error=e.message, again_in_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        self._wake.set()

    async def _apply(self) -> None:
        wanted = {obj["metadata"]["name"]: obj for obj in self._wanted()}
        work = []
        for name, obj in wanted.items():
            found = self._services.get(name)
            if found is None:
                work.append(self._create(obj))
            elif (found["metadata"].get("labels") or {}).get(AUTO_MANAGED) and found["spec"] != obj["spec"]:
                work.append(self._update({**found, "spec": obj["spec"]}))
            elif not found["spec"].get("service") and not _is_available(found):
                work.append(self._tell_available(found))
        for found in self._services.list():
            name = found["metadata"]["name"]
            managed = (found["metadata"].get("labels") or {}).get(AUTO_MANAGED)
            if managed == "true" and name not in wanted:
                work.append(self._delete(name))
        await asyncio.gather(*work)

    def _wanted(self) -> list[Obj]:
        custom: dict[tuple[str, str], bool] = {}
        for kind in self._kinds:
            key = (kind.group, kind.version)
            custom[key] = custom.get(key, True) and kind.custom
        objects = []
        for (group, version), is_custom in custom.items():
            if group in _UNREGISTERED:
                continue
            spec: Obj = {"version": version}
            if group:
                spec["group"] = group
            spec["groupPriorityMinimum"] = _CUSTOM_GROUP if is_custom else _GROUPS.get(group, _CUSTOM_GROUP)
            spec["versionPriority"] = _CUSTOM_VERSION if is_custom else _VERSIONS.get((group, version), 15)
            objects.append(
                {
                    "apiVersion": "apiregistration.k8s.io/v1",
                    "kind": "APIService",
                    "metadata": {
                        "name": f"{version}.{group}",
                        "labels": {AUTO_MANAGED: "true" if is_custom else "onstart"},
                    },
                    "spec": spec,
                }
            )
        return objects

    async def _create(self, obj: Obj) -> None:
        try:
            await self._client.create(RESOURCE, obj)
        except AlreadyExists:
            return

    async def _tell_available(self, obj: Obj) -> None:
        try:
            await self._client.update(RESOURCE, {**obj, "status": {"conditions": [locally_available()]}}, subresource="status")
        except (Conflict, NotFound):
            return  # somebody changed it meanwhile, and that change wakes us again

    async def _update(self, obj: Obj) -> None:
        try:
            await self._client.update(RESOURCE, obj)
        except (Conflict, NotFound):
            return

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(RESOURCE, name)
        except NotFound:
            return


def _is_available(obj: Obj) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
