"""Between an entry's bytes and what the registry looks at: parsing, the view beside the bytes, versions, encoding.

An entry's bytes are the object in its storage version with its resourceVersion in it. The parsed object is kept only for the
entries that were written or parsed last (`KEPT`), so an idle server holds bytes; whoever needs an object longer holds it
itself, and it is then the same dict.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kubelite.meta import copies
from kubelite.meta.types import Obj
from kubelite.registry.contract import View
from kubelite.registry.conversions import Conversions
from kubelite.registry.selection import Selection
from kubelite.schema import checking, defaults, structure
from kubelite.schema.kinds import Kind, Kinds
from kubelite.store.contract import Encode, Entry, Revision

#: So many entries keep their parsed object.
KEPT = 2048

_NONE: Mapping[str, str] = {}

#: Selectable fields whose value stands elsewhere, or that are never empty: (resource, field) -> (path, value where absent).
_SPECIAL: dict[tuple[str, str], tuple[str, str]] = {
    ("jobs.batch", "status.successful"): ("status.succeeded", "0"),
    ("nodes", "spec.unschedulable"): ("spec.unschedulable", "false"),
    ("pods", "spec.hostNetwork"): ("spec.hostNetwork", "false"),
    ("replicasets.apps", "status.replicas"): ("status.replicas", "0"),
    ("replicationcontrollers", "status.replicas"): ("status.replicas", "0"),
    ("namespaces", "name"): ("metadata.name", ""),
    ("persistentvolumes", "name"): ("metadata.name", ""),
    ("persistentvolumeclaims", "name"): ("metadata.name", ""),
    ("events", "source"): ("source.component", ""),
    ("events", "reportingComponent"): ("reportingComponent", ""),
}

#: Selectable fields that another one stands in for where they are empty.
_INSTEAD: dict[tuple[str, str], str] = {("events", "source"): "reportingComponent"}

Fields = Callable[[Obj], dict[str, str]]


@dataclass(frozen=True, slots=True)
class CustomRow:
    """What a custom kind's row means for objects that are stored: those written before revision `since` may lack defaults of
    its schema or have fields that it doesn't know; `only_version` says that all are stored in this row's version. New ones are
    stored as `stored`, which need not be served. `versions`: apiVersion -> row, of all that the definition has."""

    since: Revision
    only_version: bool
    has_defaults: bool
    stored: Kind
    versions: Mapping[str, Kind]


def _text(value: Any, absent: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return absent
    if value is True:
        return "true"
    return "false" if value is False else str(value)


def fields_of(kind: Kind) -> Fields:
    """A function from an object of this kind to the fields that its selectors may use."""
    rows: list[tuple[str, str | None, str, str]] = []
    deep: list[tuple[str, tuple[str, ...], str]] = []
    for name in kind.selectable_fields:
        path, absent = _SPECIAL.get((kind.group_resource, name), (name, ""))
        steps = tuple(path.removeprefix(".").split("."))
        if len(steps) <= 2:
            rows.append((name, steps[0] if len(steps) == 2 else None, steps[-1], absent))
        else:
            deep.append((name, steps, absent))
    namespaced = kind.namespaced
    instead = {name: other for (resource, name), other in _INSTEAD.items() if resource == kind.group_resource}

    def fields(obj: Obj) -> dict[str, str]:
        meta = obj["metadata"]
        found = {"metadata.name": meta["name"]}
        if namespaced:
            found["metadata.namespace"] = meta.get("namespace", "")
        for name, parent, leaf, absent in rows:
            holder = obj if parent is None else obj.get(parent)
            value = holder.get(leaf) if isinstance(holder, dict) else None
            found[name] = value if value.__class__ is str else _text(value, absent)
        for name, steps, absent in deep:
            value = obj
            for step in steps:
                value = value.get(step) if isinstance(value, dict) else None
            found[name] = _text(value, absent)
        for name, other in instead.items():
            found[name] = found[name] or _text(obj.get(other), "")
        return found

    return fields


class Entries:
    """Parses, views, converts and encodes. One for each registry."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._fields: dict[Kind, Fields] = {}
        self._by_prefix: dict[str, Kind] = {}
        self._generation = -1
        self._kept: deque[View] = deque()
        #: The rows of custom kinds, kept by `crds`.
        self.custom_rows: dict[Kind, CustomRow] = {}
        self.conversions = Conversions(self)

    def storage_kind(self, kind: Kind) -> Kind:
        """The row that this kind's objects are stored as: itself for nearly all."""
        if kind.custom:
            row = self.custom_rows.get(kind)
            return kind if row is None else row.stored
        stored = kind.stored_as
        if stored is None or stored == (kind.group, kind.version):
            return kind
        found = self._kinds.resource(*stored, kind.plural)
        return kind if found is None else found

    def fields(self, kind: Kind, obj: Obj) -> dict[str, str]:
        getter = self._fields.get(kind)
        if getter is None:
            getter = self._fields[kind] = fields_of(kind)
        return getter(obj)

    def view_of(self, kind: Kind, obj: Obj) -> View:
        """The view of an object that is about to be written, in its storage version."""
        view = View(obj["metadata"].get("labels") or _NONE, self.fields(kind, obj), obj)
        self._keep(view)
        return view

    def view(self, entry: Entry) -> View:
        """The entry's view, made now where no one looked before."""
        view: View | None = entry.view
        if view is None:
            self.parsed(entry)
            view = entry.view
            assert view is not None
        return view

    def parsed(self, entry: Entry) -> Obj:
        """The entry's object, shared by all who ask: nobody mutates it."""
        view: View | None = entry.view
        if view is not None and view.obj is not None:
            return view.obj
        obj: Obj = orjson.loads(entry.value)
        if view is None:
            kind = self._kind_of_key(entry.key)
            fields = self.fields(kind, obj) if kind is not None else {}
            view = entry.view = View(obj["metadata"].get("labels") or _NONE, fields, obj)
        else:
            view.obj = obj
        self._keep(view)
        return obj

    def _keep(self, view: View) -> None:
        kept = self._kept
        kept.append(view)
        if len(kept) > KEPT:
            kept.popleft().obj = None

    def _kind_of_key(self, key: str) -> Kind | None:
        if self._generation != self._kinds.generation:
            self._by_prefix = {}
            for kind in self._kinds:
                if self.storage_kind(kind) is kind:
                    self._by_prefix[kind.prefix] = kind
            known = set(self._kinds)
            self._fields = {kind: getter for kind, getter in self._fields.items() if kind in known}
            self._generation = self._kinds.generation
        return self._by_prefix.get(key[: key.index("/", 1) + 1])

    def convert(self, obj: Obj, kind: Kind, to: Kind) -> Obj:
        """The object in another version; itself where it is in that one already. Never mutates."""
        if to.custom:
            # a stored object is of the version that its definition stored at the time, which need not be today's
            return obj if obj.get("apiVersion") == to.api_version else {**obj, "apiVersion": to.api_version}
        if kind is to:
            return obj
        from kubelite.schema import conversion  # few kinds have two versions

        return conversion.convert(obj, kind, to)

    def is_current(self, entry: Entry, kind: Kind) -> bool:
        """Whether an entry's bytes are what a reader of this kind gets."""
        if not kind.custom:
            return self.storage_kind(kind) is kind
        row = self.custom_rows.get(kind)
        if row is None or not row.only_version:
            return False
        if entry.revision >= row.since:
            return True
        shown = entry.view.shown if entry.view is not None else None
        return shown is not None and kind in shown and shown[kind] is None

    def in_version(self, entry: Entry, kind: Kind) -> Entry:
        """The entry with its bytes in the version that was asked for, as its schema is now."""
        if self.is_current(entry, kind):
            return entry
        prepared = self.conversions.prepared(entry, kind)
        if prepared is not None:
            return prepared
        obj = self.parsed(entry)
        shown = self.shown(obj, kind)
        if shown is obj:
            self._note_shown(entry, kind, None)
            return entry
        return self._holding(shown, entry, kind)

    def object_in(self, entry: Entry, kind: Kind) -> Obj:
        """`parsed`, as `in_version` shows it."""
        if self.is_current(entry, kind):
            return self.parsed(entry)
        prepared = self.conversions.prepared(entry, kind)
        if prepared is not None:
            return self.parsed(prepared)
        return self.shown(self.parsed(entry), kind)

    def keep_shown(self, entry: Entry, kind: Kind, obj: Obj) -> None:
        """Keeps what a webhook made of the entry's object for this kind, as bytes and for as long as the entry is there."""
        made = self._holding(checking.prune(structure.structure_of(kind), obj), entry, kind)
        self._keep(self.view(made))
        self._note_shown(entry, kind, made)

    def _note_shown(self, entry: Entry, kind: Kind, shown: Entry | None) -> None:
        """Beside what others get; but a definition that changes makes new rows, and what was for the old ones goes."""
        if kind in self.custom_rows:
            view = self.view(entry)
            view.shown = {row: of for row, of in (view.shown or {}).items() if row in self.custom_rows} | {kind: shown}

    def _holding(self, obj: Obj, entry: Entry, kind: Kind) -> Entry:
        view = View(obj["metadata"].get("labels") or _NONE, self.fields(kind, obj), obj)
        return Entry(entry.key, orjson.dumps(obj), entry.revision, entry.create_revision, view)

    def shown(self, obj: Obj, kind: Kind) -> Obj:
        """What readers of a kind get of a stored object; itself where that is all."""
        stored = self.completed(obj, kind)
        shown = self.convert(stored, self.storage_kind(kind), kind)
        return shown if shown is stored or not kind.custom else checking.prune(structure.structure_of(kind), shown)

    def completed(self, obj: Obj, kind: Kind) -> Obj:
        """An object of a custom kind as the schema of its own version is now: what that knows, with its defaults. Defaults of
        another version, in which it is read, are none of its own."""
        row = self.custom_rows.get(kind)
        own = row.versions.get(obj.get("apiVersion", "")) if row is not None else None
        if own is None:
            return obj
        shape = structure.structure_of(own)
        completed = checking.prune(shape, obj)
        if self.custom_rows[own].has_defaults:
            completed = copies.deep_copy(completed)
            defaults.structural(shape, completed)
        return obj if completed == obj else completed

    def to_store(self, obj: Obj, kind: Kind) -> Obj:
        """The object as it is stored, a custom one as its stored version's schema has it."""
        stored = self.storage_kind(kind)
        converted = self.convert(obj, kind, stored)
        return converted if stored is kind or not kind.custom else self.completed(converted, kind)

    def is_stored_as_shown(self, entry: Entry, kind: Kind) -> bool:
        """Whether writing the object again as it is would change nothing: it is stored in today's version, defaults and all."""
        if not kind.custom:
            return True
        stored, obj = self.storage_kind(kind), self.parsed(entry)
        return obj.get("apiVersion") == stored.api_version and self.object_in(entry, stored) is obj

    def matcher(self, kind: Kind, chosen: Selection) -> Callable[[Entry], bool]:
        """Tells the entries that a selection means. What its fields are called depends on the kind's version."""
        view, fields = self.view, chosen.fields
        is_stored = self.storage_kind(kind) is kind and not kind.custom
        if is_stored or (fields is None and not self.conversions.needs(kind)):
            matches = chosen.matches
            return lambda entry: matches(entry.view or view(entry))
        labels = chosen.labels

        def match(entry: Entry) -> bool:
            seen = self.object_in(entry, kind)
            if labels is not None and not labels.matches(seen["metadata"].get("labels") or _NONE):
                return False
            return fields is None or fields.matches(self.fields(kind, seen))

        return match


def encoder(obj: Obj) -> Encode:
    """What the store calls for the bytes. Writes the revision into the object, which from then on is shared."""
    meta = obj["metadata"]

    def encode(revision: Revision) -> bytes:
        meta["resourceVersion"] = str(revision)
        return orjson.dumps(obj)

    return encode
