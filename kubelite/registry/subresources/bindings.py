"""pods/binding: a pod gets its node. The hottest write of the scheduler, so it changes the stored pod directly.

Source: kubernetes pkg/registry/core/pod/storage/storage.go (BindingREST), v1.34.
"""

from typing import TYPE_CHECKING

from kubelite.meta import errors, times
from kubelite.meta.types import Obj
from kubelite.registry import updates, writes
from kubelite.registry.contract import Attributes, Target, WriteOptions
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry


async def bind(registry: "Registry", target: Target, binding: Obj, options: WriteOptions) -> Entry:
    """Assigns the pod to the binding's node.

    Raises:
        NotFound; Conflict: it has a node, is being deleted, or is gated; Invalid: the binding names no node.
    """
    from kubelite.registry.subresources import success

    meta = binding.get("metadata") or {}
    if meta.get("name", "") != target.name:
        raise errors.BadRequest("name in URL does not match name in Binding object")
    meta = {**meta}
    writes.match_namespace(target, meta)
    binding = {**binding, "metadata": meta}
    node = _node_of(binding)
    if not target.name:
        raise errors.BadRequest("Name parameter required.")
    attributes = Attributes(
        "CREATE", target, binding, None, options.user, options.dry_run, {}, ("", "v1", "Binding"), options.warnings
    )
    changed = await registry.admission.mutate(attributes)
    if changed is not None and changed is not binding:
        binding, node = changed, _node_of(changed)
    await registry.admission.validate(attributes)

    def make(pod: Obj) -> Obj:
        _check(pod, meta)
        return _bound(pod, node, binding)

    await updates.modify(registry, Target(target.kind, target.namespace, target.name), make, dry_run=options.dry_run)
    return success()


def _node_of(binding: Obj) -> str:
    given = binding.get("target") or {}
    causes = []
    if given.get("kind") not in (None, "", "Node"):
        causes.append(f'target.kind: Unsupported value: "{given["kind"]}": supported values: "Node", "<empty>"')
    if not given.get("name"):
        causes.append("target.name: Required value")
    if causes:
        text = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
        raise errors.ApiError(text, reason="", code=500)  # the real server has no reason for it either
    return str(given["name"])


def _check(pod: Obj, wanted: Obj) -> None:
    meta, spec = pod["metadata"], pod["spec"]
    name = meta["name"]
    why = ""
    if wanted.get("uid") and wanted["uid"] != meta.get("uid"):
        why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {meta.get('uid')}"
    elif wanted.get("resourceVersion") and wanted["resourceVersion"] != meta.get("resourceVersion"):
        why = (
            f"Precondition failed: ResourceVersion in precondition: {wanted['resourceVersion']}, "
            f"ResourceVersion in object meta: {meta.get('resourceVersion')}"
        )
    elif meta.get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        raise errors.Conflict.of("", "pods" if why.startswith("Precondition") else "pods/binding", name, why)


def _bound(pod: Obj, node: str, binding: Obj) -> Obj:
    meta = dict(pod["metadata"])
    for field in ("annotations", "labels"):
        added = binding["metadata"].get(field)
        if added:
            meta[field] = {**(meta.get(field) or {}), **added}
    status = dict(pod.get("status") or {})
    status.pop("nominatedNodeName", None)
    status["conditions"] = with_condition(status.get("conditions") or [], {"type": "PodScheduled", "status": "True"})
    return {**pod, "metadata": meta, "spec": {**pod["spec"], "nodeName": node}, "status": status}


def with_condition(conditions: list[Obj], condition: Obj) -> list[Obj]:
    """The conditions with one of them set; its transition time is now where its status changed."""
    now = times.now()
    for position, present in enumerate(conditions):
        if present.get("type") == condition["type"]:
            same = present.get("status") == condition["status"]
            at = present.get("lastTransitionTime", now) if same else now
            changed = {"lastProbeTime": None, **condition, "lastTransitionTime": at}
            if "observedGeneration" in present:
                changed.setdefault("observedGeneration", present["observedGeneration"])
            return [*conditions[:position], changed, *conditions[position + 1 :]]
    return [*conditions, {"lastProbeTime": None, **condition, "lastTransitionTime": now}]
