"""What objects use of a quota, and arithmetic on lists of resources.

Pure. The quota plugin and the quota controller both count with it. A resource list maps names to quantities as the API
writes them; sums keep the format (binary or decimal) of what they add to.

Source: pkg/quota/v1/{resources,evaluator/core,generic/evaluator}.go, component-helpers resource/helpers.go.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from kubelite.meta import pods, quantities, selectors, times
from kubelite.meta.types import Obj

Resources: TypeAlias = Mapping[str, str]

#: Resources that a plain count of core objects has as an old name beside `count/...`.
_COUNTED_BY_NAME = frozenset({"configmaps", "secrets", "resourcequotas", "replicationcontrollers"})
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_RESOURCES = frozenset(
    {"count/pods", "pods", *_COMPUTE, *(f"{form}.{name}" for form in ("requests", "limits") for name in _COMPUTE)}
)
_CLAIM_RESOURCES = frozenset({"count/persistentvolumeclaims", "persistentvolumeclaims", "requests.storage"})
_SERVICE_RESOURCES = frozenset({"count/services", "services", "services.nodeports", "services.loadbalancers"})
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
#: A quota on these must be matched by a request or limit of every container.
_REQUIRED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
#: Kinds that no quota counts.
IGNORED = frozenset({"events", "events.events.k8s.io", "bindings"})


def usage_of(resource: str, obj: Obj) -> dict[str, str]:
    """What an object of a resource (`pods`, `deployments.apps`) uses, by the names that quotas have."""
    match resource:
        case "pods":
            return _pod_usage(obj)
        case "services":
            return _service_usage(obj)
        case "persistentvolumeclaims":
            return _claim_usage(obj)
    result = {f"count/{resource}": "1"}
    if resource in _COUNTED_BY_NAME:
        result[resource] = "1"
    return result


def concerns(resource: str, names: Iterable[str]) -> set[str]:
    """Which of a quota's names count objects of a resource."""
    match resource:
        case "pods":
            return {
                name
                for name in names
                if name in _POD_RESOURCES or name.startswith(("hugepages-", "requests.hugepages-")) or _is_extended(name)
            }
        case "services":
            return {name for name in names if name in _SERVICE_RESOURCES}
        case "persistentvolumeclaims":
            suffixes = tuple(_CLASS_SUFFIX + name for name in ("persistentvolumeclaims", "requests.storage"))
            return {name for name in names if name in _CLAIM_RESOURCES or name.endswith(suffixes)}
    own = {f"count/{resource}"} | ({resource} & _COUNTED_BY_NAME)
    return {name for name in names if name in own}


def counted_resources(names: Iterable[str]) -> set[str]:
    """The resources whose objects a quota with these names counts; what a controller must watch to recompute it."""
    found = set()
    for name in names:
        if name.startswith("count/"):
            found.add(name.removeprefix("count/"))
        elif name in _COUNTED_BY_NAME:
            found.add(name)
        elif concerns("services", (name,)):
            found.add("services")
        elif concerns("persistentvolumeclaims", (name,)):
            found.add("persistentvolumeclaims")
        elif concerns("pods", (name,)):
            found.add("pods")
    return found


def missing(names: Iterable[str], pod: Obj) -> str:
    """What a quota on these names requires of a pod's containers and they lack, as its refusal says; else an empty text."""
    required = _REQUIRED & set(names)
    if not required or _pod_level(pod):
        return ""
    lacking: dict[str, set[str]] = {}
    for container in (*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())):
        resources = container.get("resources") or {}
        used = _compute(resources.get("requests") or {}, resources.get("limits") or {})
        for name in required - used.keys():
            lacking.setdefault(name, set()).add(container["name"])
    if not lacking:
        return ""
    return "must specify " + "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))


def matches_scopes(quota: Obj, resource: str, obj: Obj) -> bool:
    """Whether an object is in every scope of a quota."""
    return all(_in_scope(scope, resource, obj) for scope in scopes_of(quota))


def scopes_of(quota: Obj) -> list[Obj]:
    """A quota's scopes in the form of its scopeSelector's expressions."""
    spec = quota.get("spec") or {}
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return scopes + list((spec.get("scopeSelector") or {}).get("matchExpressions") or ())


def added(a: Resources, b: Resources) -> dict[str, str]:
    return {name: _combined(a.get(name), b.get(name), 1) for name in {**a, **b}}


def subtracted(a: Resources, b: Resources) -> dict[str, str]:
    return {name: _combined(a.get(name), b.get(name), -1) for name in {**a, **b}}


def masked(resources: Resources, names: Iterable[str]) -> dict[str, str]:
    wanted = set(names)
    return {name: value for name, value in resources.items() if name in wanted}


def exceeding(resources: Resources, limits: Resources) -> list[str]:
    """The names of which there is more than the limit, where there is one."""
    return sorted(n for n, value in resources.items() if n in limits and quantities.parse(value) > quantities.parse(limits[n]))


def without_zeros(resources: Resources) -> dict[str, str]:
    return {name: value for name, value in resources.items() if quantities.parse(value) != 0}


def without_negatives(resources: Resources) -> dict[str, str]:
    return {name: value if quantities.parse(value) >= 0 else "0" for name, value in resources.items()}


def format_resources(resources: Resources) -> str:
    return ",".join(f"{name}={quantities.canonical(resources[name])}" for name in sorted(resources))


def same(a: Resources, b: Resources) -> bool:
    return a.keys() == b.keys() and all(quantities.parse(a[name]) == quantities.parse(b[name]) for name in a)


def pod_requests(pod: Obj) -> dict[str, str]:
    """What a pod asks for: its containers together, or its largest init step, its own figures before both, and overhead."""
    return _pod_resources(pod, "requests")


def pod_limits(pod: Obj) -> dict[str, str]:
    return _pod_resources(pod, "limits")


def is_terminating(pod: Obj) -> bool:
    """Whether a pod ends by itself, in the sense of the scope Terminating."""
    deadline = pod["spec"].get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _pod_resources(pod: Obj, form: str) -> dict[str, str]:
    spec = pod["spec"]
    total: dict[str, str] = {}
    for container in spec.get("containers") or ():
        total = added(total, _container(pod, container, form))
    sidecars: dict[str, str] = {}
    largest: dict[str, str] = {}
    for container in spec.get("initContainers") or ():
        resources = _container(pod, container, form)
        if container.get("restartPolicy") == "Always":
            total = added(total, resources)
            sidecars = added(sidecars, resources)
            step: Resources = sidecars
        else:
            step = added(resources, sidecars)
        largest = _larger(largest, step)
    total = _larger(total, largest)
    pod_level = (spec.get("resources") or {}).get(form) or {}
    total.update({n: v for n, v in pod_level.items() if n in ("cpu", "memory") or n.startswith("hugepages-")})
    overhead = spec.get("overhead") or {}
    if form == "limits":
        overhead = {name: value for name, value in overhead.items() if name in total}
    return added(total, overhead) if overhead else total


def _container(pod: Obj, container: Obj, form: str) -> Resources:
    """A container's figures; of a running pod's requests the larger of what is asked and what it was given, while it is
    being resized."""
    wanted: Resources = (container.get("resources") or {}).get(form) or {}
    if form == "requests":
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            if status.get("name") == container["name"]:
                allocated = (status.get("resources") or {}).get("requests") or status.get("allocatedResources") or {}
                return _larger(wanted, {n: v for n, v in allocated.items() if n in wanted})
    return wanted


def _pod_level(pod: Obj) -> bool:
    resources = pod["spec"].get("resources") or {}
    return bool(resources.get("requests") or resources.get("limits"))


def _pod_usage(pod: Obj) -> dict[str, str]:
    result = {"count/pods": "1"}
    metadata = pod["metadata"]
    if pods.is_finished(pod):
        return result
    deleted, grace_s = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if deleted is not None and grace_s is not None and datetime.now(UTC) > times.parse_time(deleted) + timedelta(seconds=grace_s):
        return result
    return result | {"pods": "1"} | _compute(pod_requests(pod), pod_limits(pod))


def _compute(requests: Resources, limits: Resources) -> dict[str, str]:
    result = {}
    for name in _COMPUTE:
        if name in requests:
            result[name] = result[f"requests.{name}"] = requests[name]
        if name in limits:
            result[f"limits.{name}"] = limits[name]
    for name, value in requests.items():
        if name.startswith("hugepages-"):
            result[name] = result[f"requests.{name}"] = value
        elif "/" in name and "kubernetes.io/" not in name:
            result[f"requests.{name}"] = value
    return result


def _service_usage(service: Obj) -> dict[str, str]:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    node_ports = balancers = 0
    if spec.get("type") == "NodePort":
        node_ports = len(ports)
    elif spec.get("type") == "LoadBalancer":
        balancers, node_ports = 1, len(ports)
        if spec.get("allocateLoadBalancerNodePorts") is False:
            node_ports = sum(1 for port in ports if port.get("nodePort"))
    counts = {"services.loadbalancers": str(balancers), "services.nodeports": str(node_ports)}
    return {"count/services": "1", "services": "1", **counts}


def _claim_usage(claim: Obj) -> dict[str, str]:
    result = {"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1"}
    spec = claim.get("spec") or {}
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    if storage_class:
        result[f"{storage_class}{_CLASS_SUFFIX}persistentvolumeclaims"] = "1"
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is not None:
        allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
        if allocated is not None and quantities.parse(allocated) > quantities.parse(storage):
            storage = allocated
        storage = quantities.format_value(quantities.value(storage), storage)
        result["requests.storage"] = storage
        if storage_class:
            result[f"{storage_class}{_CLASS_SUFFIX}requests.storage"] = storage
    return result


def _in_scope(scope: Obj, resource: str, obj: Obj) -> bool:
    name = scope["scopeName"]
    if resource == "persistentvolumeclaims" and name == "VolumeAttributesClass":
        used = (obj.get("spec") or {}).get("volumeAttributesClassName") or ""
        return _names_match(scope, name, used)
    if resource != "pods":
        return False
    match name:
        case "Terminating":
            return is_terminating(obj)
        case "NotTerminating":
            return not is_terminating(obj)
        case "BestEffort":
            return _is_best_effort(obj)
        case "NotBestEffort":
            return not _is_best_effort(obj)
        case "PriorityClass":
            return _names_match(scope, name, obj["spec"].get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _has_cross_namespace_affinity(obj)
    return False


def _names_match(scope: Obj, key: str, value: str) -> bool:
    if scope["operator"] == "Exists":
        return bool(value)
    expression = {"key": key, "operator": scope["operator"], "values": scope.get("values") or []}
    return selectors.from_object({"matchExpressions": [expression]}).matches({key: value} if value else {})


def _is_best_effort(pod: Obj) -> bool:
    if _pod_level(pod):
        return False
    for container in pods.containers(pod["spec"]):
        resources = container.get("resources") or {}
        for form in ("requests", "limits"):
            for name, value in (resources.get(form) or {}).items():
                if name in ("cpu", "memory") and quantities.parse(value) > 0:
                    return False
    return True


def _has_cross_namespace_affinity(pod: Obj) -> bool:
    affinity = pod["spec"].get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        found = list(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        found += (t["podAffinityTerm"] for t in terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ())
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in found):
            return True
    return False


def _is_extended(name: str) -> bool:
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


def _combined(a: str | None, b: str | None, sign: int) -> str:
    if b is None:
        return a or "0"
    if a is None and sign > 0:
        return b
    total = quantities.parse(a or "0") + sign * quantities.parse(b)
    like = b if a is None or quantities.parse(a) == 0 else a
    return quantities.format_value(total, like)


def _larger(a: Resources, b: Resources) -> dict[str, str]:
    result = dict(a)
    for name, value in b.items():
        if name not in result or quantities.parse(value) > quantities.parse(result[name]):
            result[name] = value
    return result
