"""The scale subresource: an autoscaling/v1 Scale over whatever has replicas.

Who manages the replicas manages them in the object; while a Scale is written, its managers are those of the object's replicas.

Source: kubernetes pkg/registry/apps/*/storage (ScaleREST), apiextensions-apiserver pkg/registry/customresource, apimachinery
pkg/util/managedfields/scalehandler.go, v0.34.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kubelite.meta import errors, selectors
from kubelite.meta.types import Obj
from kubelite.registry import managed
from kubelite.registry.managed import Managed, Manager, Managers, OneVersion
from kubelite.registry.validation import metadata
from kubelite.registry.validation.fields import non_negative
from kubelite.schema import fieldsets, structure
from kubelite.schema.fieldsets import FieldSet
from kubelite.schema.kinds import Kind, Kinds

_REPLICAS: FieldSet = {"f:spec": {"f:replicas": {}}}
#: The replicas of an object that says none, while a patch may still say some.
_UNSET = -(2**31)


class ScaleBody:
    """See updates.Body. The paths of a custom kind come from its definition."""

    kind = ("autoscaling", "v1", "Scale")
    api_version = "autoscaling/v1"

    def __init__(self, kind: Kind, kinds: Kinds) -> None:
        self._kind, self._kinds = kind, kinds
        self.versions = OneVersion(self.api_version, structure.of_definition("io.k8s.api.autoscaling.v1.Scale"))
        self._replicas: Sequence[str] = ("spec", "replicas")
        self._current: Sequence[str] = ("status", "replicas")
        self._selector: Sequence[str] = ("spec", "selector")
        if kind.crd_version is not None:
            subresources: Any = kind.crd_version.get("subresources") or {}
            paths = subresources.get("scale") or {}
            self._replicas = _steps(paths.get("specReplicasPath", ""))
            self._current = _steps(paths.get("statusReplicasPath", ""))
            self._selector = _steps(paths.get("labelSelectorPath", ""))

    def of(self, obj: Obj) -> Obj:
        """The Scale of an object. Raises InternalError for a custom one without replicas."""
        replicas = _at(obj, self._replicas)
        if replicas is None and self._kind.custom:
            raise errors.InternalError.of(f'the spec replicas field ".{".".join(self._replicas)}" does not exist')
        return self._scale(obj, replicas)

    def _scale(self, obj: Obj, replicas: Any) -> Obj:
        meta = obj["metadata"]
        shown = {
            field: meta[field] for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if field in meta
        }
        status: Obj = {"replicas": _at(obj, self._current) or 0}
        selector = self._selector_text(obj)
        if selector:
            status["selector"] = selector
        spec: Obj = {"replicas": replicas} if replicas else {}
        return {"kind": "Scale", "apiVersion": self.api_version, "metadata": shown, "spec": spec, "status": status}

    def managed(self, obj: Obj) -> Obj:
        """The Scale with the managers of the object's replicas."""
        replicas = _at(obj, self._replicas)
        body = self._scale(obj, _UNSET if replicas is None and self._kind.custom else replicas)
        found: Managers = {}
        for manager, entry in self._managers(obj).items():
            if fieldsets.intersection(entry.fields, self._owned(entry.api_version)):
                there = self.api_version if manager.operation == "Update" else ""
                found[replace(manager, api_version=there)] = Managed(_REPLICAS, entry.time, self.api_version)
        if found:
            body["metadata"]["managedFields"] = managed.encode(found)
        return body

    def _managers(self, obj: Obj) -> Managers:
        return managed.decode(obj["metadata"].get("managedFields") or ()) or {}

    def _owned(self, api_version: str) -> FieldSet:
        """The replicas in objects of a version; nothing where that has no scale."""
        group, _, version = api_version.rpartition("/")
        kind = self._kinds.resource(group, version, self._kind.plural)
        if kind is None or "scale" not in kind.subresources:
            return {}
        found = fieldsets.LEAF
        for step in reversed(ScaleBody(kind, self._kinds)._replicas):
            found = {f"f:{step}": found}
        return found

    def _managed_after(self, body: Obj, old: Obj) -> list[Obj]:
        """The object's managers after its replicas are those of the Scale. None of them gets a time by that."""
        scaling = {_identity(manager): entry for manager, entry in self._managers(body).items()}
        found: Managers = {}
        for manager, entry in self._managers(old).items():
            fields, owned = entry.fields, self._owned(entry.api_version)
            if fieldsets.intersection(fields, owned) and scaling.pop(_identity(manager), None) is None:
                fields = fieldsets.difference(fields, owned)
            if fields:
                found[manager] = Managed(fields, entry.time, entry.api_version)
        version = self._kind.api_version
        for (name, operation, subresource), entry in scaling.items():
            if fieldsets.intersection(entry.fields, _REPLICAS):
                manager = Manager(name, operation, version if operation == "Update" else "", subresource)
                before = found[manager].fields if manager in found else {}
                found[manager] = Managed(fieldsets.union_roots(before, self._owned(version)), "", version)
        return managed.encode(found)

    def _selector_text(self, obj: Obj) -> str:
        value = _at(obj, self._selector) if self._selector else None
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping):
            return ""
        if self._kind.plural == "replicationcontrollers":
            return str(selectors.from_labels(dict(value)))
        try:
            return str(selectors.from_object(dict(value)))
        except ValueError:
            return ""

    def into(self, body: Obj, old: Obj) -> Obj:
        """The object scaled.

        Raises:
            BadRequest: it still says no replicas. Invalid: metadata or replicas are wrong.
        """
        replicas, meta = body["spec"].get("replicas", 0), body["metadata"]
        if replicas == _UNSET:
            raise errors.BadRequest(f'the spec replicas field ".{".".join(self._replicas)}" cannot be empty')
        if not self._kind.custom:
            causes = metadata.validate({**meta, "namespace": old["metadata"]["namespace"]}, True, metadata.subdomain_faults)
            causes += non_negative(replicas, "spec.replicas")
            if causes:
                raise errors.Invalid.of("autoscaling", "Scale", old["metadata"]["name"], causes)
        new = _with(old, self._replicas, replicas)
        entries = self._managed_after(body, old)
        kept = {key: value for key, value in old["metadata"].items() if key != "managedFields"}
        new["metadata"] = kept | {"resourceVersion": meta["resourceVersion"]} | ({"managedFields": entries} if entries else {})
        return new


def _identity(manager: Manager) -> tuple[str, str, str]:
    """What a manager of the object and of its Scale have in common."""
    return manager.name, manager.operation, manager.subresource


def _steps(path: str) -> Sequence[str]:
    return tuple(step for step in path.split(".") if step)


def _at(obj: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(step)
    return obj if steps else None


def _with(obj: Obj, steps: Sequence[str], value: Any) -> Obj:
    """The object with one value replaced; shares the rest."""
    first, *rest = steps
    inner = obj.get(first)
    if not rest:
        return {**obj, first: value}
    return {**obj, first: _with(inner if isinstance(inner, dict) else {}, rest, value)}
