"""What a kind does beyond the generic: one Strategy for each kind that needs one, found by `of`.

A strategy is stateless; what it needs of a request it gets as a `Request`. `new` is the request's own object and may be
changed in the prepare methods only; `old` is shared and never changed. Every subresource that takes the parent's kind
(status, approval, finalize, ...) is an update with `request.subresource` set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from kubelite.meta.errors import Cause, MethodNotAllowed, invalid
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions, WriteOptions
from kubelite.registry.validation import metadata
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: Called when the write that something was taken for has ended: True when it was committed.
Finish: TypeAlias = Callable[[bool], None]

Orphaning = Literal["delete", "orphan", "unsupported"]


@dataclass(slots=True)
class Request:
    """One write as its strategy sees it. `now` is the request's time stamp."""

    registry: "Registry"
    kind: Kind
    options: WriteOptions
    now: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Strategy:
    """The generic strategy, and the base of the others."""

    #: PUT of a name that is not there creates it.
    allow_create_on_update = False
    #: An update may leave its resourceVersion out.
    allow_unconditional_update = True
    #: Delete answers with the object, not with a Status.
    returns_deleted = False
    #: Where faults are told to be of another group than the kind's own.
    fault_group: str | None = None
    #: What happens to dependents where a delete does not say.
    orphaning: Orphaning = "delete"
    #: metadata.generation is kept: 1 at the start, one more when what `generation_paths` name changes.
    has_generation = False
    generation_paths: tuple[str, ...] = ("spec",)
    #: The status that a new object gets in place of what the client sent; None: the kind has none or keeps the client's.
    initial_status: ClassVar[Obj | None] = None
    #: Top-level fields that only subresources change.
    has_status = False
    #: A write of the status changes nothing else, not even labels.
    status_keeps_metadata = False
    #: `validate` says all that the structure demands, required fields and enums among them.
    checks_structure = False
    #: A finalizer that is none of Kubernetes' own has a domain.
    qualified_finalizers = True
    #: An update looks at the form of generateName again.
    update_checks_names = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        """What is wrong with a name (or, with `prefix`, a generateName)."""
        return metadata.subdomain_faults(name, prefix)

    def normalize(self, obj: Obj) -> None:
        """Brings a received object into the form that is stored, in place, before anything else looks at it."""

    def begin_create(self, request: Request, obj: Obj) -> Finish | None:
        """Takes what a new object needs (addresses, ports); what it returns is called when the write has ended."""
        return None

    def begin_update(self, request: Request, new: Obj, old: Obj) -> Finish | None:
        return None

    def prepare_create(self, request: Request, obj: Obj) -> None:
        if self.has_status:
            if self.initial_status is None:
                obj.pop("status", None)
            else:
                obj["status"] = dict(self.initial_status)
        if self.has_generation:
            obj["metadata"]["generation"] = 1

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        """Takes back what this request may not change; counts the generation."""
        if request.subresource:
            prepare = getattr(self, f"prepare_{request.subresource}", None)
            if prepare is not None:
                prepare(request, new, old)
            return
        if self.has_status:
            keep(new, old, "status")
        if self.has_generation and any(new.get(path) != old.get(path) for path in self.generation_paths):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status(self, request: Request, new: Obj, old: Obj) -> None:
        """Only the status changes, and for most kinds labels and annotations."""
        for field in old.keys() | new.keys():
            if field not in ("metadata", "status", "apiVersion", "kind"):
                keep(new, old, field)
        if self.status_keeps_metadata:
            for field in ("labels", "annotations", "finalizers", "ownerReferences"):
                keep(new["metadata"], old["metadata"], field)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        """What is wrong with a new object beyond its metadata and its structure."""
        return []

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) if not request.subresource else []

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return ()

    def delete_warnings(self, options: DeleteOptions) -> Sequence[str]:
        return ()

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        """The paths that a write of the subresource (or of the object itself) takes back, so that nobody manages them by it."""
        if subresource == "status":
            return (("spec",),)
        return (("status",),) if self.has_status and not subresource else ()

    def grace_period_s(self, obj: Obj, options: DeleteOptions) -> int | None:
        """The seconds between a delete and the object's end; None for a kind that ends at once."""
        return None

    def plan_delete(self, request: Request, old: Obj, options: DeleteOptions) -> tuple[Obj | None, bool] | None:
        """A delete of the kind's own: (state to write or None to leave it, whether it is the last). None: the generic one."""
        return None

    def is_finished(self, new: Obj) -> bool:
        """Whether an object that is being deleted and has no finalizers may go now."""
        return True

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        """Called after a write is durable: create (old None), update, or delete (new None)."""


def keep(new: Obj, old: Obj, field: str) -> None:
    """Puts the old value of a top-level field back. The value is shared: prepare methods replace values, not change them."""
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


class CustomStrategy(Strategy):
    """Objects of CustomResourceDefinitions: the status subresource and the generation as the definition has them."""

    allow_unconditional_update = False
    has_generation = True
    qualified_finalizers = False

    def begin_create(self, request: Request, obj: Obj) -> Finish | None:
        if request.registry.custom_kinds.is_terminating(request.kind):
            text = "create not allowed while custom resource definition is terminating"
            raise MethodNotAllowed(text, group=request.kind.group, kind=request.kind.plural)
        return None

    def prepare_create(self, request: Request, obj: Obj) -> None:
        if "status" in request.kind.subresources:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        """What the scale subresource shows are counts and a selector."""
        version = request.kind.crd_version or {}
        subresources: Any = version.get("subresources") or {}
        scale = subresources.get("scale")
        if scale is None:
            return []
        causes = [] if request.subresource == "status" else _count_faults(obj, scale["specReplicasPath"])
        causes += _count_faults(obj, scale["statusReplicasPath"])
        selector = scale.get("labelSelectorPath")
        if selector:
            found = get(obj, *selector.strip(".").split("."))
            if found is not None and not isinstance(found, str):
                causes.append(invalid(selector, "", _of_type(selector, found, "string")))
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        known = (old or {}).get("metadata", {}).get("finalizers") or ()
        return [
            f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name to avoid '
            "accidental conflicts with other finalizer writers"
            for name in new["metadata"].get("finalizers") or ()
            if "/" not in name and name not in (*known, metadata.ORPHAN, metadata.FOREGROUND)
        ]

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        return (("spec",),) if subresource == "status" else ()

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        has_status = "status" in request.kind.subresources
        if request.subresource == "status":
            status = new.get("status")
            managed = new["metadata"].get("managedFields")
            version = new["metadata"].get("resourceVersion")
            new.clear()
            new.update(old)
            new["metadata"] = meta = dict(old["metadata"])
            meta["resourceVersion"] = version
            if managed is None:
                meta.pop("managedFields", None)
            else:
                meta["managedFields"] = managed
            if status is None:
                new.pop("status", None)
            else:
                new["status"] = status
            return
        if has_status:
            keep(new, old, "status")
        ignored = ("metadata", "status") if has_status else ("metadata",)
        if any(new.get(f) != old.get(f) for f in new.keys() | old.keys() if f not in ignored):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


_GO_TYPES = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    dict: "map[string]interface {}",
    list: "[]interface {}",
}
_MAX_INT32 = 2**31 - 1


def _count_faults(obj: Obj, path: str) -> list[Cause]:
    value = get(obj, *path.strip(".").split("."))
    if value is None:
        return []
    if type(value) is not int:
        return [invalid(path, 0, _of_type(path, value, "int64"))]
    if value < 0:
        return [invalid(path, value, "should be a non-negative integer")]
    return [invalid(path, value, f"should be less than or equal to {_MAX_INT32}")] if value > _MAX_INT32 else []


def _of_type(path: str, value: Any, wanted: str) -> str:
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{path} accessor error: {shown} is of the type {_GO_TYPES[type(value)]}, expected {wanted}"


GENERIC = Strategy()
CUSTOM = CustomStrategy()

_found: dict[tuple[str, str], Strategy] | None = None


def of(kind: Kind) -> Strategy:
    """The strategy of a kind, the same for all of its versions."""
    if kind.custom:
        return CUSTOM
    global _found
    if _found is None:
        _found = _all()
    return _found.get((kind.group, kind.plural), GENERIC)


def _all() -> dict[tuple[str, str], Strategy]:
    from kubelite.registry.strategies import table  # the modules of the groups import this one

    return dict(table.STRATEGIES)


def get(obj: Mapping[str, Any] | None, *path: str) -> Any:
    """The value at a path of field names, None where a step is missing."""
    value: Any = obj
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
