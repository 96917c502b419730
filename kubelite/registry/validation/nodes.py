"""Checks of nodes and runtime classes.

Source: kubernetes pkg/apis/core/validation (ValidateNode) and pkg/apis/node/validation, v1.34.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, placement, resources

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION_KEY = ("key", "operator", "value", "effect")


def check_node(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = check_taints(spec.get("taints") or (), "metadata.taints")  # upstream names them so, and the swap space
    causes += _check_amounts(obj)
    swap = ((obj.get("status") or {}).get("nodeInfo") or {}).get("swap") or {}
    causes += fields.positive(swap.get("capacity"), "metadata.nodeSwapStatus.capacity")
    return causes + _check_ranges(spec.get("podCIDRs") or [])


def check_node_update(new: Obj, old: Obj) -> list[Cause]:
    """What a node's status may not say, and what of its spec stays once it is set."""
    causes = _check_amounts(new) + _check_addresses(new)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    for field, name in (("podCIDRs", "podCIDR"), ("providerID", "providerID")):
        if was.get(field) and spec.get(field) != was[field]:
            text = f'node updates may not change {name} except from "" to valid'
            causes.append(errors.forbidden(f"spec.{field}", text))
    if spec.get("externalID") != was.get("externalID"):
        causes.append(errors.forbidden("spec.externalID", "may not be updated"))
    return causes


def check_taints(taints: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        at, key, value, effect = f"{path}[{index}]", taint.get("key", ""), taint.get("value", ""), taint.get("effect")
        causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        faults = names.label_value(value)
        if faults:
            causes.append(errors.invalid(f"{at}.value", value, ";".join(faults)))
        causes += fields.one_of(effect, f"{at}.effect", _EFFECTS)
        if (key, effect or "") in seen:
            text = f"Duplicate value: {errors.format_value(taint)}: taints must be unique by key and effect pair"
            causes.append(Cause(at, "FieldValueDuplicate", text))
        seen.add((key, effect or ""))
    return causes


def _check_amounts(obj: Obj) -> list[Cause]:
    """What a node has and what of it can be used."""
    status = obj.get("status") or {}
    causes: list[Cause] = []
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or {}).items():
            causes += resources.amount(name, amount, f"status.{field}.{name}")
    return causes


def _check_ranges(ranges: Sequence[str]) -> list[Cause]:
    """The pods' address ranges: at most one of each family."""
    causes: list[Cause] = []
    families: set[int] = set()
    path = "spec.podCIDRs"
    for index, text in enumerate(ranges):
        try:
            families.add(addresses.parse_cidr(text)[0].version)
        except ValueError:
            if len(ranges) > 1 and not causes:
                why = f"invalid CIDR[{index}]: <nil> (invalid CIDR address: {text})"
                fault = f"Internal error: invalid PodCIDRs. failed to check with dual stack with error:{why}"
                causes.append(Cause(path, "InternalError", fault))
            causes.append(errors.invalid(f"{path}[{index}]", text, addresses.CIDR_TEXT))
    if len(ranges) > 1 and (len(ranges) > 2 or len(families) < 2):
        causes.append(errors.invalid(path, list(ranges), "may specify no more than one CIDR for each IP family"))
    return causes


def _check_addresses(obj: Obj) -> list[Cause]:
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
        causes += resources.check_requirements({"limits": overhead.get("podFixed") or {}}, (), "overhead")
    scheduling = obj.get("scheduling") or {}
    causes += fields.label_map(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
    tolerations = scheduling.get("tolerations") or []
    # upstream names the field twice
    causes += placement.check_tolerations(tolerations, "scheduling.tolerations.tolerations")
    keys = [tuple(toleration.get(field) for field in _TOLERATION_KEY) for toleration in tolerations]
    repeated = (index for index, key in enumerate(keys) if key in keys[:index])
    return causes + [errors.duplicate(f"scheduling.tolerations[{i}]", tolerations[i]) for i in repeated]
