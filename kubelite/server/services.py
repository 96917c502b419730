"""The services of the cluster itself: `kubernetes`, which leads to this server, and `kube-dns`, which every node answers.

Both are kept as they should be while the server runs: what somebody deletes or changes comes back.

Source: pkg/controlplane/controller/kubernetesservice and pkg/controlplane/reconcilers, v1.34.
"""

import asyncio
import ipaddress
from typing import Any

import structlog

from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubelite.meta.types import Obj
from kubelite.server.settings import Settings

log = structlog.get_logger(__name__)

_SLICES = "endpointslices.discovery.k8s.io"
RETRY_S = 1.0


class ClusterServices:
    def __init__(self, client: Client, informers: Informers, settings: Settings, address: str, port: int) -> None:
        self._client = client
        self._settings = settings
        self._address = address
        self._port = port
        self._wake = asyncio.Event()
        self._informers = informers

    async def apply(self) -> None:
        """Makes everything as it should be, once. Raises ApiError."""
        wanted = [("services", self._kubernetes())]
        if self._settings.is_enabled("dns"):
            wanted.append(("services", self._dns()))
        if not ipaddress.ip_address(self._address).is_loopback:
            # An endpoint can't be a loopback address; on a machine without another one the service leads nowhere.
            wanted += [("endpoints", self._endpoints()), (_SLICES, self._slice())]
        await asyncio.gather(*(self._ensure(resource, obj) for resource, obj in wanted))

    async def run(self) -> None:
        """Watches for changes and undoes them."""
        for resource in ("services", "endpoints", _SLICES):
            self._informers.of(resource).subscribe(self._changed)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.apply()
            except ApiError as e:
                log.warning("cluster_services_not_applied", error=e.message, again_in_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        if meta["name"] in ("kubernetes", "kube-dns") and meta.get("namespace") in ("default", "kube-system"):
            self._wake.set()

    async def _ensure(self, resource: str, wanted: Obj) -> None:
        meta = wanted["metadata"]
        try:
            found = await self._client.get(resource, meta["name"], meta["namespace"])
        except NotFound:
            try:
                await self._client.create(resource, wanted)
            except AlreadyExists:
                return
            return
        changed = _merged(found, wanted)
        if changed != found:
            try:
                await self._client.update(resource, changed)
            except Conflict:
                self._wake.set()

    def _kubernetes(self) -> Obj:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self._settings.api_service_ip,
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self._port}],
                "sessionAffinity": "None",
            },
        }

    def _dns(self) -> Obj:
        """Without a selector and marked as not the proxy's: each node answers the address itself."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/name": "CoreDNS",
                    "kubernetes.io/cluster-service": "true",
                    "service.kubernetes.io/service-proxy-name": "kubelite-dns",
                },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self._settings.dns_service_ip,
                "ipFamilyPolicy": "SingleStack",
                "ports": [
                    {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                    {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
                ],
                "sessionAffinity": "None",
            },
        }

    def _endpoints(self) -> Obj:
        return {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [
                {
                    "addresses": [{"ip": self._address}],
                    "ports": [{"name": "https", "port": self._port, "protocol": "TCP"}],
                }
            ],
        }

    def _slice(self) -> Obj:
        version = ipaddress.ip_address(self._address).version
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [self._address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": self._port, "protocol": "TCP"}],
        }


def _merged(found: Any, wanted: Any) -> Any:
    """`found` with what is wanted in it; lists are replaced where they lack something."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return {**found, **{key: _merged(found.get(key), value) for key, value in wanted.items()}}
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        return [_merged(f, w) for f, w in zip(found, wanted, strict=True)]
    return wanted
