"""Kinds of the core group but pods and services.

Source: kubernetes pkg/registry/core/*/strategy.go and pkg/apis/core/validation, v1.34.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import ClassVar

import orjson

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import endpoints, events, metadata, nodes, quotas
from kubelite.registry.validation.metadata import FOREGROUND, IMMUTABLE, ORPHAN

MAX_DATA_BYTES = 1024 * 1024
_SEALED = "field is immutable when `immutable` is set"


class NamespaceStrategy(Strategy):
    checks_structure = True
    returns_deleted = True
    has_status = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.label_faults(name, prefix)

    def prepare_create(self, request: Request, obj: Obj) -> None:
        obj["status"] = {"phase": "Active"}
        spec = obj.get("spec") or {}
        finalizers = spec.get("finalizers") or []
        if "kubernetes" not in finalizers:
            finalizers = [*finalizers, "kubernetes"]
        obj["spec"] = {**spec, "finalizers": finalizers}
        self._label(obj)

    def _label(self, obj: Obj) -> None:
        meta = obj["metadata"]
        name = meta.get("name")
        if name:
            meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": name}

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if request.subresource == "finalize":
            keep(new, old, "status")
        elif request.subresource == "status":
            keep(new, old, "spec")
        else:
            keep(new, old, "status")
            spec = dict(new.get("spec") or {})
            keep(spec, old.get("spec") or {}, "finalizers")
            new["spec"] = spec
        self._label(new)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        causes: list[Cause] = []
        for name in (obj.get("spec") or {}).get("finalizers") or ():
            causes += metadata.finalizer(name, "spec.finalizers", "spec.finalizers")
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes: list[Cause] = []
        if request.subresource == "finalize":
            for index, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
                causes += metadata.finalizer(name, f"spec.finalizers[{index}]", f"spec.finalizers[{index}]")
        elif request.subresource == "status":
            phase = (new.get("status") or {}).get("phase")
            deleted = bool(new["metadata"].get("deletionTimestamp"))
            if deleted and phase != "Terminating":
                text = "may only be 'Terminating' if `deletionTimestamp` is not empty"
                causes.append(errors.invalid("status.Phase", phase or "", text))
            elif not deleted and phase != "Active":
                text = "may only be 'Active' if `deletionTimestamp` is empty"
                causes.append(errors.invalid("status.Phase", phase or "", text))
        return causes

    def plan_delete(self, request: Request, old: Obj, options: DeleteOptions) -> tuple[Obj | None, bool] | None:
        meta = old["metadata"]
        if meta.get("deletionTimestamp"):
            return (None, False) if (old.get("spec") or {}).get("finalizers") else None
        finalizers = meta.get("finalizers") or []
        policy = options.propagation_policy
        if policy is not None:
            finalizers = [name for name in finalizers if name not in (ORPHAN, FOREGROUND)]
            finalizers += [ORPHAN] * (policy == "Orphan") + [FOREGROUND] * (policy == "Foreground")
        changed = {**meta, "deletionTimestamp": request.now}
        if finalizers:
            changed["finalizers"] = finalizers
        else:
            changed.pop("finalizers", None)
        status = {**(old.get("status") or {}), "phase": "Terminating"}
        return {**old, "metadata": changed, "status": status}, False

    def is_finished(self, new: Obj) -> bool:
        return not (new.get("spec") or {}).get("finalizers")


class NodeStrategy(Strategy):
    checks_structure = True
    has_status = True

    def prepare_create(self, request: Request, obj: Obj) -> None:
        """A kubelet registers itself with a status, so it is not dropped."""
        obj.setdefault("status", {})

    def normalize(self, obj: Obj) -> None:
        """The first of the ranges of pods stands in a field of its own too, which wins. Configurations of nodes are no more."""
        spec = obj.get("spec") or {}
        spec.pop("configSource", None)
        (obj.get("status") or {}).pop("config", None)
        if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec["podCIDR"] = spec["podCIDRs"][0]

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return nodes.check_node(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes = nodes.check_node_update(new, old)
        return causes if request.subresource else self.validate(request, new) + causes

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        if request.subresource or not (new.get("spec") or {}).get("externalID"):
            return ()
        return ("spec.externalID: this field is deprecated, and is unused by Kubernetes",)


class ConfigMapStrategy(Strategy):
    checks_structure = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        causes: list[Cause] = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for field, values in (("data", data), ("binaryData", binary)):
            for key, value in values.items():
                faults = names.config_key(key)
                if faults:
                    causes += [errors.invalid(f"{field}[{key}]", key, text) for text in faults]
                size += len(value.encode()) if field == "data" else len(value) * 3 // 4
                if field == "data" and key in binary:
                    text = "duplicate of key present in binaryData"
                    causes.append(errors.invalid(f"data[{key}]", key, text))
        if size > MAX_DATA_BYTES:
            causes.append(errors.too_long("", MAX_DATA_BYTES))
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return _check_sealed(new, old, ("data", "binaryData")) + self.validate(request, new)


class SecretStrategy(Strategy):
    checks_structure = True

    def normalize(self, obj: Obj) -> None:
        texts = obj.pop("stringData", None)
        if texts:
            data = obj.setdefault("data", {})
            for key, value in texts.items():
                data[key] = base64.b64encode(str(value).encode()).decode()

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        causes: list[Cause] = []
        data = obj.get("data") or {}
        size = 0
        for key, value in data.items():
            faults = names.config_key(key)
            if faults:
                causes += [errors.invalid(f"data[{key}]", key, text) for text in faults]
            size += len(value) * 3 // 4
        if size > MAX_DATA_BYTES:
            causes.append(errors.too_long("data", MAX_DATA_BYTES))
        kind = obj.get("type") or "Opaque"
        if kind == "kubernetes.io/service-account-token":
            name = "kubernetes.io/service-account.name"
            if not (obj["metadata"].get("annotations") or {}).get(name):
                causes.append(errors.required(f"metadata.annotations[{name}]"))
        elif kind in _REQUIRED_KEYS:
            for key in _REQUIRED_KEYS[kind]:
                if key not in data or (kind == "kubernetes.io/ssh-auth" and not data[key]):
                    causes.append(errors.required(f"data[{key}]"))
                elif kind.startswith("kubernetes.io/dockerc"):
                    causes += _check_json(data[key], f"data[{key}]")
        elif kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
            causes += [errors.required("data[username]"), errors.required("data[password]")]
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes: list[Cause] = []
        if new.get("type") != old.get("type"):
            causes.append(errors.invalid("type", new.get("type", ""), IMMUTABLE))
        return causes + _check_sealed(new, old, ("data",)) + self.validate(request, new)


_REQUIRED_KEYS: Mapping[str, Sequence[str]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _check_json(value: str, path: str) -> list[Cause]:
    try:
        parsed = orjson.loads(binascii.a2b_base64(value))
    except (orjson.JSONDecodeError, binascii.Error) as e:
        return [errors.invalid(path, "<secret contents redacted>", str(e))]
    return [] if isinstance(parsed, dict) else [errors.invalid(path, "<secret contents redacted>", "must be an object")]


def _check_sealed(new: Obj, old: Obj, fields: Sequence[str]) -> list[Cause]:
    if not old.get("immutable"):
        return []
    causes = [] if new.get("immutable") else [errors.forbidden("immutable", _SEALED)]
    causes += [errors.forbidden(f, _SEALED) for f in fields if (new.get(f) or {}) != (old.get(f) or {})]
    return causes


class EndpointsStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return endpoints.check_endpoints(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return endpoints.check_endpoints(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return endpoints.warnings(new)


class EventStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True
    fault_group = ""  # events of both groups are the core group's within
    orphaning = "unsupported"
    update_checks_names = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        is_core = request.kind.group == ""
        return events.check(obj, is_core) + ([] if is_core else events.check_strictly(obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        is_core = request.kind.group == ""
        return events.check(new, is_core) + ([] if is_core else events.check_update_strictly(new, old))


class CoreEventStrategy(EventStrategy):
    """Events through the core group, whose metadata nobody looks at closely."""

    qualified_finalizers = False

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)


class LimitRangeStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return quotas.check_limit_range(obj)


class ServiceAccountStrategy(Strategy):
    checks_structure = True
    returns_deleted = True

    def normalize(self, obj: Obj) -> None:
        """Of its secrets only the names count."""
        if obj.get("secrets"):
            obj["secrets"] = [{"name": secret["name"]} if secret.get("name") else {} for secret in obj["secrets"]]

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        if not _is_set(new, _MOUNTABLE_SECRETS) or (old is not None and _is_set(old, _MOUNTABLE_SECRETS)):
            return ()
        text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        return (f"metadata.annotations[{_MOUNTABLE_SECRETS}]: {text}",)


_MOUNTABLE_SECRETS = "kubernetes.io/enforce-mountable-secrets"


def _is_set(obj: Obj, annotation: str) -> bool:
    return annotation in (obj["metadata"].get("annotations") or {})


class ResourceQuotaStrategy(Strategy):
    checks_structure = True
    returns_deleted = True
    update_checks_names = False
    has_status = True
    initial_status: ClassVar[Obj | None] = {}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return quotas.check_resource_quota(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return quotas.check_resource_quota_status(new)
        return quotas.check_resource_quota(new) + quotas.check_resource_quota_update(new, old)
