"""Which pods stand behind a service, under which ports. What Endpoints and EndpointSlices have in common.

Source: kubernetes pkg/api/v1/endpoints and staging endpointslice/utils.go and util, v1.34.
"""

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from kubelite.client.informers import Informer
from kubelite.controllers import conditions, pods
from kubelite.controllers.reconciler import key_of
from kubelite.meta import selectors
from kubelite.meta.types import Obj

HEADLESS_LABEL = "service.kubernetes.io/headless"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"


def is_headless(service: Obj) -> bool:
    """The service has no address of its own."""
    return service["spec"].get("clusterIP", "") in ("", "None")


def publishes_unready(service: Obj) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses", False))


def has_backends(pod: Obj, *, terminating: bool) -> bool:
    """The pod can stand behind a service: it runs or is to run, has an address, and is not going away (unless wanted)."""
    if pods.is_finished(pod) or not pod.get("status", {}).get("podIP"):
        return False
    return terminating or not pods.is_terminating(pod)


def addresses(pod: Obj, family: str) -> list[str]:
    """The pod's addresses of a family, IPv4 or IPv6."""
    found = [entry["ip"] for entry in pod["status"].get("podIPs") or () if entry.get("ip")] or [pod["status"]["podIP"]]
    return [ip for ip in found if family_of(ip) == family]


def family_of(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def families(service: Obj) -> list[str]:
    """The families that the service has slices for."""
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return list(spec["ipFamilies"])
    if not is_headless(service):
        return [family_of(spec["clusterIP"])]
    return ["IPv4", "IPv6"]


def ports(service: Obj, pod: Obj) -> list[Obj]:
    """The ports that the service has on this pod; ports that the pod does not name are left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _container_port(pod, port)
        if number is not None:
            entry = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            if "appProtocol" in port:
                entry["appProtocol"] = port["appProtocol"]
            found.append(entry)
    return found


def _container_port(pod: Obj, port: Obj) -> int | None:
    target: Any = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or int(port["port"])
    sidecars = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for candidate in container.get("ports") or ():
            if candidate.get("name") == target and candidate.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(candidate["containerPort"])
    return None


def hostname(service: Obj, pod: Obj) -> str:
    """The name that the pod has under its service; empty where it has none."""
    spec, meta = pod["spec"], pod["metadata"]
    same = spec.get("subdomain") == service["metadata"]["name"] and meta["namespace"] == service["metadata"]["namespace"]
    return str(spec.get("hostname", "")) if same else ""


def pod_reference(pod: Obj) -> Obj:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def selected(service: Obj, all_pods: Informer) -> list[Obj]:
    """The pods that match the service's selector, in the order of their names."""
    selector = selectors.from_labels(service["spec"]["selector"])
    namespace = service["metadata"]["namespace"]
    found = [pod for pod in all_pods.list(namespace) if selector.matches(pod["metadata"].get("labels"))]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


class TriggerTimes:
    """When what the endpoints of each service show began to change, for whoever measures how long a change takes."""

    def __init__(self) -> None:
        #: key -> (the service's creation, by pod when it became ready or not).
        self._seen: dict[str, tuple[str, dict[str, str]]] = {}

    def changed(self, key: str, service: Obj, selected: Iterable[Obj]) -> str:
        """The earliest of the changes since the last call, of a new service its creation; empty where nothing changed."""
        created = str(service["metadata"]["creationTimestamp"])
        ready = {p["metadata"]["name"]: conditions.find(p.get("status", {}).get("conditions"), "Ready") for p in selected}
        turned = {name: condition.get("lastTransitionTime") or "" for name, condition in ready.items() if condition}
        known = self._seen.get(key)
        self._seen[key] = created, turned
        if known is None:
            return created
        newer = [at for name, at in turned.items() if at > known[1].get(name, "")]
        return min([*newer, created] if created > known[0] else newer, default="")

    def forget(self, key: str) -> None:
        """The service is gone."""
        self._seen.pop(key, None)


def repacked(subsets: Iterable[Obj]) -> list[Obj]:
    """The subsets of an Endpoints in the form that it has: ports that the same addresses offer stand in one."""
    addresses: dict[tuple[str, str], Obj] = {}
    by_port: dict[str, dict[tuple[str, str], bool]] = {}
    for subset in subsets:
        for port in [orjson.dumps(p, option=orjson.OPT_SORT_KEYS).decode() for p in subset.get("ports") or ()] or [""]:
            offered = by_port.setdefault(port, {})
            for field, ready in (("addresses", True), ("notReadyAddresses", False)):
                for address in subset.get(field) or ():
                    key = address["ip"], (address.get("targetRef") or {}).get("uid", "")
                    addresses.setdefault(key, address)
                    offered[key] = ready and offered.get(key, True)
    groups: dict[tuple[tuple[tuple[str, str], bool], ...], list[str]] = {}
    for port, offered in by_port.items():
        groups.setdefault(tuple(sorted(offered.items())), []).extend([port] if port else [])
    made = []
    for offers, ports_ in groups.items():
        subset = {
            "addresses": [addresses[key] for key, ready in offers if ready],
            "notReadyAddresses": [addresses[key] for key, ready in offers if not ready],
            "ports": [orjson.loads(port) for port in sorted(ports_)],
        }
        made.append({name: listed for name, listed in subset.items() if listed})
    return sorted(made, key=orjson.dumps)


def follow_pods(all_pods: Informer, services: Informer, add: Callable[[str], None]) -> None:
    """Calls `add` with the keys of the services that a changed pod matters to."""

    def changed(old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _relevant(old) == _relevant(new):
            return
        pod = new or old
        assert pod is not None
        kinds = [state["metadata"].get("labels") or {} for state in (old, new) if state is not None]
        for service in services.list(pod["metadata"]["namespace"]):
            wanted = (service["spec"].get("selector") or {}).items()
            if wanted and any(wanted <= labels.items() for labels in kinds):
                add(key_of(service))

    all_pods.subscribe(changed)


def _relevant(pod: Obj) -> tuple[Any, ...]:
    status, spec, meta = pod.get("status", {}), pod["spec"], pod["metadata"]
    return (
        meta.get("labels"),
        pods.is_terminating(pod),
        status.get("phase") in ("Succeeded", "Failed"),
        status.get("podIP"),
        status.get("podIPs"),
        pods.is_ready(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )
