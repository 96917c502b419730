"""Checks of nodes and runtime classes.

Source: kubernetes pkg/apis/core/validation (ValidateNode) and pkg/apis/node/validation, v1.34.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import containers, fields, pods, resources
from kubelite.registry.validation.networking import CIDR_TEXT

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def check_node(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = check_taints(spec.get("taints") or (), "metadata.taints")  # upstream names them so
    causes += check_amounts(obj)
    return causes + _check_ranges(spec.get("podCIDRs") or [])


def check_taints(taints: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        at, key, value, effect = f"{path}[{index}]", taint.get("key", ""), taint.get("value", ""), taint.get("effect")
        causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        if value:
            causes += fields.invalid_if(names.label_value(value), f"{at}.value", value)
        causes += fields.one_of(effect, f"{at}.effect", _EFFECTS)
        if (key, effect or "") in seen:
            text = f"Duplicate value: {errors.format_value(taint)}: taints must be unique by key and effect pair"
            causes.append(Cause(at, "FieldValueDuplicate", text))
        seen.add((key, effect or ""))
    return causes


def check_amounts(obj: Obj) -> list[Cause]:
    """What a node has and what of it can be used."""
    status = obj.get("status") or {}
    causes: list[Cause] = []
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or status.get("capacity") or {}).items():
            causes += resources.amount(name, amount, f"status.{field}.{name}")
    return causes


def _check_ranges(ranges: Sequence[str]) -> list[Cause]:
    """The pods' address ranges: at most one of each family."""
    causes: list[Cause] = []
    families: list[int] = []
    for index, text in enumerate(ranges):
        try:
            families.append(ipaddress.ip_network(text, strict=False).version)
        except ValueError:
            causes.append(errors.invalid(f"spec.podCIDRs[{index}]", text, CIDR_TEXT))
    if len(ranges) > 1 and not causes and (len(ranges) > 2 or len(set(families)) < len(families)):
        causes.append(errors.invalid("spec.podCIDRs", list(ranges), "may specify no more than one CIDR for each IP family"))
    return causes


def check_addresses(obj: Obj) -> list[Cause]:
    """A node says each of its addresses once."""
    seen: list[Any] = []
    causes: list[Cause] = []
    for index, address in enumerate((obj.get("status") or {}).get("addresses") or ()):
        if address in seen:
            causes.append(errors.duplicate(f"status.addresses[{index}]", address))
        seen.append(address)
    return causes


def check_runtime_class(obj: Obj) -> list[Cause]:
    handler = obj.get("handler", "")
    causes = [errors.invalid("handler", handler, text) for text in names.dns1123_label(handler)]
    overhead: Mapping[str, Any] | None = obj.get("overhead")
    if overhead is not None:
        causes += containers.check_resources({"limits": overhead.get("podFixed") or {}}, "overhead")
    scheduling = obj.get("scheduling") or {}
    causes += fields.label_map(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
    tolerations = scheduling.get("tolerations") or []
    # upstream names the field twice
    causes += pods.check_tolerations(tolerations, "scheduling.tolerations.tolerations")
    repeated = (index for index, toleration in enumerate(tolerations) if toleration in tolerations[:index])
    return causes + [errors.duplicate(f"scheduling.tolerations[{i}]", tolerations[i]) for i in repeated]
