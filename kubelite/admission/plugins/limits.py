"""LimitRanger: a namespace's limit ranges give containers default resources and bound what they and claims may ask for.

Source: plugin/pkg/admission/limitranger.
"""

from collections.abc import Iterator

from kubelite.admission import faults, usage
from kubelite.client.informers import Informers
from kubelite.meta import quantities
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger:
    name = "LimitRanger"

    def __init__(self, informers: Informers) -> None:
        self._ranges = informers.of("limitranges")

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        if kind.group_resource == "pods":
            return (operation == "CREATE" and not subresource) or (operation == "UPDATE" and subresource == "resize")
        return kind.group_resource == "persistentvolumeclaims" and operation in ("CREATE", "UPDATE") and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        obj = attributes.obj
        if obj is None or attributes.target.kind.group_resource != "pods" or self._is_ending(attributes):
            return obj
        for limit_range in self._ranges.list(attributes.target.namespace):
            obj = _defaulted(obj, limit_range)
        return obj

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or self._is_ending(attributes):
            return
        is_pod = attributes.target.kind.group_resource == "pods"
        for limit_range in self._ranges.list(attributes.target.namespace):
            found = [
                text for limit in limit_range["spec"]["limits"] for text in (_pod_faults if is_pod else _claim_faults)(limit, obj)
            ]
            if found:
                distinct = list(dict.fromkeys(found))
                raise faults.forbidden(attributes, distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]")

    def _is_ending(self, attributes: Attributes) -> bool:
        return attributes.old is not None and attributes.old["metadata"].get("deletionTimestamp") is not None


def _defaulted(pod: Obj, limit_range: Obj) -> Obj:
    """The pod with the defaults of a range's container limits, the same one where there are none to add."""
    requests: Obj = {}
    limits: Obj = {}
    for limit in limit_range["spec"]["limits"]:
        if limit["type"] == "Container":
            requests |= limit.get("defaultRequest") or {}
            limits |= limit.get("default") or {}
    if not requests and not limits:
        return pod
    notes: list[str] = []
    spec = dict(pod["spec"])
    for field, word in (("containers", "container"), ("initContainers", "init container")):
        if spec.get(field):
            spec[field] = [_with_defaults(container, requests, limits, word, notes) for container in spec[field]]
    if not notes:
        return pod
    annotations = (pod["metadata"].get("annotations") or {}) | {ANNOTATION: f"LimitRanger plugin set: {'; '.join(notes)}"}
    return pod | {"spec": spec, "metadata": pod["metadata"] | {"annotations": annotations}}


def _with_defaults(container: Obj, requests: Obj, limits: Obj, word: str, notes: list[str]) -> Obj:
    resources = container.get("resources") or {}
    changed = {}
    for form, defaults, noun in (("requests", requests, "request"), ("limits", limits, "limit")):
        given = resources.get(form) or {}
        missing = {name: value for name, value in defaults.items() if name not in given}
        if missing:
            changed[form] = given | missing
            notes.append(f"{', '.join(sorted(missing))} {noun} for {word} {container['name']}")
    return container | {"resources": resources | changed} if changed else container


def _claim_faults(limit: Obj, claim: Obj) -> Iterator[str]:
    if limit["type"] != "PersistentVolumeClaim":
        return
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    for name, bound in (limit.get("min") or {}).items():
        yield from _below(limit["type"], name, bound, requests, {})
    for name, bound in (limit.get("max") or {}).items():
        text = f"maximum {name} usage per {limit['type']} is {quantities.canonical(bound)}"
        if name not in requests:
            yield f"{text}.  No request is specified"
        elif quantities.parse(requests[name]) > quantities.parse(bound):
            yield f"{text}, but request is {quantities.canonical(requests[name])}"


def _pod_faults(limit: Obj, pod: Obj) -> Iterator[str]:
    if limit["type"] == "Container":
        spec = pod["spec"]
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            yield from _faults(limit, resources.get("requests") or {}, resources.get("limits") or {})
    elif limit["type"] == "Pod":
        yield from _faults(limit, usage.pod_requests(pod), usage.pod_limits(pod))


def _faults(limit: Obj, requests: Obj, limits: Obj) -> Iterator[str]:
    for name, bound in (limit.get("min") or {}).items():
        yield from _below(limit["type"], name, bound, requests, limits)
    for name, bound in (limit.get("max") or {}).items():
        yield from _above(limit["type"], name, bound, requests, limits)
    for name, bound in (limit.get("maxLimitRequestRatio") or {}).items():
        yield from _out_of_ratio(limit["type"], name, bound, requests, limits)


def _below(kind: str, name: str, bound: str, requests: Obj, limits: Obj) -> Iterator[str]:
    text, least = f"minimum {name} usage per {kind} is {quantities.canonical(bound)}", quantities.parse(bound)
    if name not in requests:
        yield f"{text}.  No request is specified"
    elif quantities.parse(requests[name]) < least:
        yield f"{text}, but request is {quantities.canonical(requests[name])}"
    elif name in limits and quantities.parse(limits[name]) < least:
        yield f"{text}, but limit is {quantities.canonical(limits[name])}"


def _above(kind: str, name: str, bound: str, requests: Obj, limits: Obj) -> Iterator[str]:
    text, most = f"maximum {name} usage per {kind} is {quantities.canonical(bound)}", quantities.parse(bound)
    if name not in limits:
        yield f"{text}.  No limit is specified"
    elif quantities.parse(limits[name]) > most:
        yield f"{text}, but limit is {quantities.canonical(limits[name])}"
    elif name in requests and quantities.parse(requests[name]) > most:
        yield f"{text}, but request is {quantities.canonical(requests[name])}"


def _out_of_ratio(kind: str, name: str, bound: str, requests: Obj, limits: Obj) -> Iterator[str]:
    text = f"{name} max limit to request ratio per {kind} is {quantities.canonical(bound)}"
    request, limit = quantities.parse(requests.get(name, "0")), quantities.parse(limits.get(name, "0"))
    if request == 0:
        yield f"{text}, but no request is specified or request is 0"
    elif limit == 0:
        yield f"{text}, but no limit is specified or limit is 0"
    elif limit / request > quantities.parse(bound):
        yield f"{text}, but provided ratio is {float(limit / request):f}"
