"""Checks of priority classes.

Source: kubernetes pkg/apis/scheduling/validation/validation.go and pkg/apis/scheduling/v1/helpers.go, v1.34.
"""

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

MAX_VALUE = 1_000_000_000
SYSTEM_PREFIX = "system-"
_SYSTEM_VALUES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
PREEMPTION_POLICIES = ("Never", "PreemptLowerPriority")


def check_class(obj: Obj) -> list[Cause]:
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    causes: list[Cause] = []
    if name.startswith(SYSTEM_PREFIX):
        fault = _system_fault(name, value, obj.get("globalDefault", False))
        if fault:
            text = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {fault}"
            causes.append(errors.forbidden("metadata.name", text))
    elif value > MAX_VALUE:
        causes.append(errors.forbidden("value", f"maximum allowed value of a user defined priority is {MAX_VALUE}"))
    if "preemptionPolicy" in obj:
        causes += fields.one_of(obj["preemptionPolicy"], "preemptionPolicy", PREEMPTION_POLICIES)
    return causes


def _system_fault(name: str, value: int, is_default: bool) -> str:
    """What sets a class of the system's apart from the one that it must be; empty where nothing does."""
    if name not in _SYSTEM_VALUES:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM_VALUES[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM_VALUES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def check_class_update(new: Obj, old: Obj) -> list[Cause]:
    causes: list[Cause] = []
    if new.get("value", 0) != old.get("value", 0):
        causes.append(errors.forbidden("value", "may not be changed in an update."))
    return causes + fields.immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")
