"""What the registry is given and what it calls: options of requests, attributes for admission, and the view of an entry.

The registry is the one place where an object is decoded, defaulted, prepared, admitted, validated and written, whatever its
kind; `registry.Registry` has the verbs. Store errors become ApiErrors there and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Entry

FieldValidation = Literal["Ignore", "Warn", "Strict"]
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. `name` is empty for a create without one and for collections."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(slots=True)
class WriteOptions:
    """The query options of a write. `warnings` collects texts for the response's Warning headers."""

    user: User
    dry_run: bool = False
    field_manager: str = ""
    field_validation: FieldValidation = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    #: What is not strictly right about the body, as its reader found it: keys that it has more than once.
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """A delete's options. None for a grace period or policy means: the kind's default."""

    grace_period_s: int | None = None
    propagation_policy: Literal["Orphan", "Background", "Foreground"] | None = None
    precondition_uid: str = ""
    precondition_resource_version: str = ""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """A list's or watch's options, as they stand in the query. Selectors are texts; the registry parses and caches them."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    #: None: not given. "": given empty, the same as not given.
    resource_version: str | None = None
    resource_version_match: Literal["", "Exact", "NotOlderThan"] = ""
    allow_watch_bookmarks: bool = False
    send_initial_events: bool | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch's body and what kind it is: `json`, `merge`, `strategic` or `apply`."""

    form: Literal["json", "merge", "strategic", "apply"]
    body: bytes


@dataclass(frozen=True, slots=True)
class Attributes:
    """What admission sees of one request. `obj` and `old` are in the request's version; `old` is the true stored object at the
    moment of the write, None for a create. Nobody mutates either: a mutating plugin returns a changed copy."""

    operation: Operation
    target: Target
    obj: Obj | None
    old: Obj | None
    user: User
    dry_run: bool
    options: Mapping[str, Any]
    #: The subresource's own kind where the body has one (Scale, Eviction, Binding), else the target's.
    body_kind: tuple[str, str, str] = ("", "", "")
    warnings: list[str] = field(default_factory=list)


class Admission(Protocol):
    """What the registry calls between decoding and the store. Raises ApiError to refuse."""

    async def mutate(self, attributes: Attributes) -> Obj | None:
        """The object as the mutating plugins want it (the same one where none changed it; None for a delete): in normal form and
        with its defaults, as it was, and sharing nothing that may be changed with what an informer handed out."""
        ...

    async def validate(self, attributes: Attributes) -> None: ...


class AllowAll:
    """An Admission that has no opinion, for tests and for parts that are not composed yet."""

    async def mutate(self, attributes: Attributes) -> Obj | None:
        return attributes.obj

    async def validate(self, attributes: Attributes) -> None:
        return None


@dataclass(slots=True)
class View:
    """What the registry keeps beside an entry's bytes: what selectors look at, and the parsed object only while someone needs
    it (a write keeps it until its event is published; `Registry.parsed` parses again where it is gone)."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]
    obj: Obj | None = None
    #: What readers of a custom kind's rows get of the entry, where that had to be found out; None: the entry itself.
    shown: Mapping[Kind, Entry | None] | None = None
