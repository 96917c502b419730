"""The scale subresource: an autoscaling/v1 Scale over whatever has replicas.

Source: kubernetes pkg/registry/apps/*/storage (ScaleREST), apiextensions-apiserver pkg/registry/customresource, v0.34.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, selectors
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind


class ScaleBody:
    """See updates.Body. The paths of a custom kind come from its definition."""

    kind = ("autoscaling", "v1", "Scale")

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
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
        """The Scale of an object."""
        meta = obj["metadata"]
        shown = {
            field: meta[field] for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if field in meta
        }
        replicas = _at(obj, self._replicas)
        if replicas is None and self._kind.custom:
            raise errors.NotFound.of(self._kind.group, self._kind.plural, meta["name"])
        status: Obj = {"replicas": _at(obj, self._current) or 0}
        selector = self._selector_text(obj)
        if selector:
            status["selector"] = selector
        spec: Obj = {"replicas": replicas} if replicas else {}
        return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": shown, "spec": spec, "status": status}

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
        """The object scaled. Raises Invalid for replicas that are no count."""
        spec = body.get("spec") or {}
        replicas = spec.get("replicas", 0) if isinstance(spec, dict) else spec
        meta = body["metadata"]
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise errors.BadRequest(
                'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal into Go struct field '
                "ScaleSpec.spec.replicas of type int32"
            )
        if replicas < 0 and not self._kind.custom:
            cause = errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise errors.Invalid.of("autoscaling", "Scale", old["metadata"]["name"], [cause])
        new = _with(old, self._replicas, replicas)
        new["metadata"] = {**old["metadata"], "resourceVersion": meta["resourceVersion"]}
        return new


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
