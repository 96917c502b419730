"""Custom kinds: CustomResourceDefinitions become rows of the table of kinds, and go with their objects.

A definition is served from the moment that its write is committed. Deleting one marks it, deletes its objects, and ends when
the last of them is gone; its rows stay until then.

Source: apiextensions-apiserver pkg/registry/customresourcedefinition, pkg/controller/{status,establish,finalizer},
pkg/apis/apiextensions/validation, v0.34.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from kubelite.meta import errors
from kubelite.meta.errors import ApiError, Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions, ListOptions, Target
from kubelite.registry.entries import CustomRow
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import definitions
from kubelite.schema import structure
from kubelite.schema.kinds import Kind, Subresource

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

log = structlog.get_logger()

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
PREFIX = "/customresourcedefinitions.apiextensions.k8s.io/"

#: Between two looks at whether the objects of a deleted definition are gone, when something holds them.
RETRY_S = 1.0


#: In the order of the real server's discovery.
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def rows_of(definition: Obj) -> list[Kind]:
    """The rows of a definition, one for each version; not all need be served."""
    spec = definition["spec"]
    wanted = spec["names"]
    stored = next((v["name"] for v in spec["versions"] if v.get("storage")), spec["versions"][0]["name"])
    rows = []
    for version in spec["versions"]:
        subresources: dict[str, Subresource] = {}
        offered: Mapping[str, Any] = version.get("subresources") or {}
        if offered.get("status") is not None:
            subresources["status"] = Subresource("status", wanted["kind"])
        if offered.get("scale") is not None:
            subresources["scale"] = Subresource("scale", "Scale", "autoscaling", "v1")
        rows.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                kind=wanted["kind"],
                plural=wanted["plural"],
                singular=wanted.get("singular") or wanted["kind"].lower(),
                namespaced=spec.get("scope") == "Namespaced",
                verbs=_VERBS,
                short_names=tuple(wanted.get("shortNames") or ()),
                categories=tuple(wanted.get("categories") or ()),
                subresources=subresources,
                selectable_fields=tuple(field["jsonPath"].removeprefix(".") for field in version.get("selectableFields") or ()),
                stored_as=(spec["group"], stored),
                list_kind=wanted.get("listKind") or f"{wanted['kind']}List",
                custom=True,
                crd_version=version,
            )
        )
    return rows


def has_defaults(schema: Mapping[str, Any]) -> bool:
    """Whether a schema has defaults anywhere."""
    return structure.somewhere(schema, lambda part: "default" in part)


class CustomKinds:
    """The rows that definitions put into the table, and the end of definitions that are deleted."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._rows: dict[str, tuple[Obj, list[Kind]]] = {}
        self._terminating: set[str] = set()
        self._deleted: asyncio.Queue[str] = asyncio.Queue()  # bounded by the number of definitions

    def load(self) -> None:
        """Adds what the store has."""
        for entry in self._registry.store.scan(PREFIX):
            self.changed(self._registry.parsed(entry))

    def changed(self, definition: Obj) -> None:
        """A definition was written."""
        name = definition["metadata"]["name"]
        if not _is_established(definition):
            return
        spec = definition["spec"]
        before = self._rows.get(name)
        if before is None or before[0] != spec:
            rows = rows_of(definition)
            self._remove(before[1] if before else ())
            served = {version["name"] for version in spec["versions"] if version.get("served")}
            for row in rows:
                if row.version in served:
                    self._registry.kinds.add(row)
            self._rows[name] = (spec, rows)
            self._note(definition, rows)
        if definition["metadata"].get("deletionTimestamp") and name not in self._terminating:
            self._terminating.add(name)
            self._deleted.put_nowait(name)

    def removed(self, name: str) -> None:
        """A definition is gone."""
        self._terminating.discard(name)
        _, rows = self._rows.pop(name, (None, []))
        self._remove(rows)

    def _remove(self, rows: Iterable[Kind]) -> None:
        for row in rows:
            self._registry.kinds.remove(row)
            self._registry.entries.custom_rows.pop(row, None)
            self._registry.entries.conversions.set(row, None)

    def _note(self, definition: Obj, rows: Sequence[Kind]) -> None:
        """Tells the entries what of their objects may have to be brought up to these rows when it is read."""
        since = int(definition["metadata"].get("resourceVersion") or 0)
        versions = (definition.get("status") or {}).get("storedVersions") or []
        stored = next(row for row in rows if row.stored_as == (row.group, row.version))
        by_version = {row.api_version: row for row in rows}
        for row in rows:
            schema: Any = (row.crd_version or {}).get("schema") or {}
            self._registry.entries.custom_rows[row] = CustomRow(
                since, versions == [row.version], has_defaults(schema.get("openAPIV3Schema") or {}), stored, by_version
            )
            self._registry.entries.conversions.set(row, definition["spec"].get("conversion"))

    def is_terminating(self, kind: Kind) -> bool:
        return f"{kind.plural}.{kind.group}" in self._terminating

    async def run(self) -> None:
        """Ends deleted definitions, one after the other."""
        while True:
            name = await self._deleted.get()
            try:
                ended = await self._end(name)
            except ApiError as e:
                log.warning("custom_kind_not_ended", definition=name, fault=e.message)
                ended = False
            if not ended:
                asyncio.get_running_loop().call_later(RETRY_S, self._deleted.put_nowait, name)

    async def _end(self, name: str) -> bool:
        """Deletes the objects of a definition; once they are gone, lets go of the definition too."""
        registry = self._registry
        entry = registry.store.newest(PREFIX + name)
        if entry is None:
            return True
        rows = self._rows.get(name, ({}, []))[1]
        if rows:
            # as what they are stored: the webhook that converts them may be gone already
            everything = Target(registry.entries.storage_kind(rows[0]))
            await registry.delete_collection(
                everything, ListOptions(), DeleteOptions(propagation_policy="Background"), registry.own_options
            )
            if registry.store.count(rows[0].prefix):
                return False
        kind = registry.kinds.preferred("customresourcedefinitions.apiextensions.k8s.io")
        obj = registry.parsed(entry)
        meta = dict(obj["metadata"])
        meta["finalizers"] = [f for f in meta.get("finalizers") or () if f != FINALIZER]
        try:
            await registry.update(Target(kind, "", name), {**obj, "metadata": meta}, registry.own_options)
        except errors.Conflict:
            return False
        except errors.NotFound:
            return True
        return True


def _is_established(definition: Obj) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _condition(kind: str, status: str, reason: str, message: str, now: str) -> Obj:
    return {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}


class DefinitionStrategy(Strategy):
    """CustomResourceDefinitions."""

    checks_structure = True
    has_status = True
    has_generation = True
    allow_unconditional_update = False

    def normalize(self, obj: Obj) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        wanted = spec.get("names")
        if isinstance(wanted, dict) and isinstance(wanted.get("kind"), str) and wanted["kind"]:
            wanted.setdefault("singular", wanted["kind"].lower())
            wanted.setdefault("listKind", f"{wanted['kind']}List")
        conversion = spec.setdefault("conversion", {"strategy": "None"})
        webhook = conversion.get("webhook", {"clientConfig": None})
        if "clientConfig" not in webhook and not webhook.get("conversionReviewVersions"):
            del conversion["webhook"]

    def prepare_create(self, request: Request, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1
        spec = obj.get("spec") or {}
        stored = [v.get("name") for v in spec.get("versions") or () if v.get("storage")]
        obj["status"] = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored[:1]}
        self._accept(request, obj)

    def _accept(self, request: Request, obj: Obj) -> None:
        """Takes the names, unless another definition of the group has them."""
        spec, status = obj.get("spec") or {}, dict(obj["status"])
        wanted = spec.get("names") or {}
        conflict = self._conflict(request, obj)
        kept = [c for c in status.get("conditions") or () if c.get("type") not in ("NamesAccepted", "Established")]
        before = {c.get("type"): c for c in status.get("conditions") or ()}
        if conflict:
            names_accepted = _condition("NamesAccepted", "False", conflict[0], conflict[1], request.now)
            established = _condition("Established", "False", "NotAccepted", "not all names are accepted", request.now)
        else:
            status["acceptedNames"] = wanted
            names_accepted = _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found", request.now)
            text = "the initial names have been accepted"
            established = _condition("Established", "True", "InitialNamesAccepted", text, request.now)
        for condition in (names_accepted, established):
            was = before.get(condition["type"])
            kept.append(was if was is not None and was.get("status") == condition["status"] else condition)
        status["conditions"] = kept
        obj["status"] = status

    def _conflict(self, request: Request, obj: Obj) -> tuple[str, str] | None:
        spec = obj.get("spec") or {}
        wanted, group = spec.get("names") or {}, spec.get("group")
        own = obj["metadata"].get("name")
        taken: set[str] = set()
        kinds: set[str] = set()
        for kind in request.registry.kinds:
            if kind.group == group and f"{kind.plural}.{kind.group}" != own:
                taken |= {kind.plural, kind.singular, *kind.short_names}
                kinds |= {kind.kind, kind.list_kind}
        for field, reason in (("plural", "PluralConflict"), ("singular", "SingularConflict")):
            if wanted.get(field) in taken:
                return reason, f'"{wanted[field]}" is already in use'
        for short in wanted.get("shortNames") or ():
            if short in taken:
                return "ShortNamesConflict", f'"{short}" is already in use'
        if wanted.get("kind") in kinds:
            return "KindConflict", f'"{wanted["kind"]}" is already in use'
        if wanted.get("listKind") in kinds:
            return "ListKindConflict", f'"{wanted["listKind"]}" is already in use'
        return None

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if request.subresource == "status":
            keep(new, old, "spec")
            return
        keep(new, old, "status")
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
            status = dict(new["status"])
            stored = list(status.get("storedVersions") or ())
            writing = [v["name"] for v in new["spec"].get("versions") or () if v.get("storage")][:1]
            status["storedVersions"] = stored + [name for name in writing if name not in stored]
            new["status"] = status
            self._accept(request, new)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return definitions.check(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource:
            return definitions.check_status(new)
        return definitions.check_update(new, old, _is_established(old))

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return definitions.warnings(new, old) if not request.subresource else ()

    def plan_delete(self, request: Request, old: Obj, options: DeleteOptions) -> tuple[Obj | None, bool] | None:
        meta = old["metadata"]
        if meta.get("deletionTimestamp"):
            return (None, False) if meta.get("finalizers") else None
        if not _is_established(old):
            return None
        finalizers = meta.get("finalizers") or []
        if FINALIZER not in finalizers:
            finalizers = [*finalizers, FINALIZER]
        status = dict(old.get("status") or {})
        text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        condition = _condition("Terminating", "True", "InstanceDeletionPending", text, request.now)
        status["conditions"] = [*(status.get("conditions") or ()), condition]
        changed = {**meta, "deletionTimestamp": request.now, "finalizers": finalizers}
        return {**old, "metadata": changed, "status": status}, False

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        custom = request.registry.custom_kinds
        if new is not None:
            custom.changed(new)
        elif old is not None:
            custom.removed(old["metadata"]["name"])
