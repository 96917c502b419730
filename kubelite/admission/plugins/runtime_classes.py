"""RuntimeClass: a pod gets its runtime class's overhead and scheduling constraints.

Source: plugin/pkg/admission/runtimeclass.
"""

from kubelite.admission import faults
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors, quantities
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_CLASSES = "runtimeclasses.node.k8s.io"


class RuntimeClass:
    name = "RuntimeClass"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._classes = informers.of(_CLASSES)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource == "pods" and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        pod = attributes.obj
        if pod is None or not pod["spec"].get("runtimeClassName"):
            return pod
        runtime_class = await self._of(attributes, pod)
        spec = dict(pod["spec"])
        overhead = _overhead(runtime_class)
        if overhead:
            if spec.get("overhead") and not _same(overhead, spec["overhead"]):
                raise faults.forbidden(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = overhead
        scheduling = runtime_class.get("scheduling")
        if scheduling is not None:
            _schedule(attributes, spec, scheduling)
        return pod if spec == pod["spec"] else pod | {"spec": spec}

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None:
            return
        overhead = {}
        if pod["spec"].get("runtimeClassName"):
            overhead = _overhead(await self._of(attributes, pod))
        if overhead and not _same(overhead, pod["spec"].get("overhead") or {}):
            raise faults.forbidden(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        if not overhead and pod["spec"].get("overhead") is not None:
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise faults.forbidden(attributes, why)

    async def _of(self, attributes: Attributes, pod: Obj) -> Obj:
        name = pod["spec"]["runtimeClassName"]
        found = self._classes.get(name)
        if found is None:
            try:
                found = await self._client.get(_CLASSES, name)
            except errors.NotFound:
                raise faults.forbidden(attributes, f'pod rejected: RuntimeClass "{name}" not found') from None
        return found


def _overhead(runtime_class: Obj) -> Obj:
    return (runtime_class.get("overhead") or {}).get("podFixed") or {}


def _same(a: Obj, b: Obj) -> bool:
    return {k: quantities.parse(v) for k, v in a.items()} == {k: quantities.parse(v) for k, v in b.items()}


def _schedule(attributes: Attributes, spec: Obj, scheduling: Obj) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            why = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
            raise faults.forbidden(attributes, why)
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    tolerations = spec.get("tolerations") or []
    missing = [t for t in scheduling.get("tolerations") or () if t not in tolerations]
    if missing:
        spec["tolerations"] = [*tolerations, *missing]
