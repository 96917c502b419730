"""Priority: a pod's priority class becomes its priority; only one class may be the default.

Source: plugin/pkg/admission/priority.
"""

from kubelite.admission import faults
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_CLASSES = "priorityclasses.scheduling.k8s.io"
#: The classes that every cluster has, whatever the informer has seen so far.
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class Priority:
    name = "Priority"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._classes = informers.of(_CLASSES)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and not subresource and kind.group_resource in ("pods", _CLASSES)

    async def admit(self, attributes: Attributes) -> Obj | None:
        pod = attributes.obj
        if pod is None or attributes.target.kind.group_resource != "pods":
            return pod
        spec = pod["spec"]
        if attributes.operation == "UPDATE":
            old = (attributes.old or {}).get("spec") or {}
            kept = {f: old[f] for f in ("priority", "preemptionPolicy") if old.get(f) is not None and spec.get(f) is None}
            return pod | {"spec": spec | kept} if kept else pod
        name, value, policy = await self._of(attributes, spec.get("priorityClassName") or "")
        if spec.get("priority") is not None and spec["priority"] != value:
            raise _contradicted(attributes, f"the integer value of priority ({spec['priority']})", value)
        changed: Obj = {"priority": value}
        if name:
            changed["priorityClassName"] = name
        if policy:
            given = spec.get("preemptionPolicy")
            if given is not None and given != policy:
                raise _contradicted(attributes, f"the string value of PreemptionPolicy ({given})", policy)
            changed["preemptionPolicy"] = policy
        return pod | {"spec": spec | changed}

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or attributes.target.kind.group_resource != _CLASSES or not obj.get("globalDefault"):
            return
        default = self._default()
        if default is not None and (attributes.operation == "CREATE" or default["metadata"]["name"] != obj["metadata"]["name"]):
            why = f"PriorityClass {default['metadata']['name']} is already marked as default. Only one default can exist"
            raise faults.forbidden(attributes, why)

    async def _of(self, attributes: Attributes, name: str) -> tuple[str, int, str]:
        if not name:
            default = self._default()
            if default is None:
                return "", 0, "PreemptLowerPriority"
            return default["metadata"]["name"], default["value"], default.get("preemptionPolicy", "")
        found = self._classes.get(name)
        if found is None:
            if name in SYSTEM_CLASSES:
                return name, SYSTEM_CLASSES[name], "PreemptLowerPriority"
            try:
                found = await self._client.get(_CLASSES, name)
            except errors.NotFound:
                raise faults.forbidden(attributes, f"no PriorityClass with name {name} was found") from None
        return name, found["value"], found.get("preemptionPolicy", "")

    def _default(self) -> Obj | None:
        defaults = [c for c in self._classes.list() if c.get("globalDefault")]
        return min(defaults, key=lambda c: c["value"], default=None)


def _contradicted(attributes: Attributes, what: str, computed: int | str) -> errors.Forbidden:
    computed_by = f"priority admission controller computed {computed} from the given PriorityClass name"
    return faults.forbidden(attributes, f"{what} must not be provided in pod spec; {computed_by}")
