"""Checks that many kinds share: names, numbers, ports, quantities, addresses, paths, label keys."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubelite.meta import addresses, errors, names, quantities
from kubelite.meta.errors import Cause

MAX_INT32 = 2**31 - 1
NON_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def invalid_if(faults: Iterable[str], path: str, value: Any) -> list[Cause]:
    """One Invalid for each text."""
    return [errors.invalid(path, value, fault) for fault in faults]


def named(value: str, path: str, check: Callable[[str], Iterable[str]] = names.dns1123_label) -> list[Cause]:
    """A required name of a form."""
    return invalid_if(check(value), path, value) if value else [errors.required(path)]


_HTTP_PATH = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+"


def domain_path(value: str, path: str) -> list[Cause]:
    """`domain/path`, as controllers are named."""
    if not value:
        return [errors.required(path)]
    domain, slash, rest = value.partition("/")
    if not slash or not domain or not rest:
        return [errors.invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = invalid_if(names.dns1123_subdomain(domain), path, domain)
    if not re.fullmatch(_HTTP_PATH, rest):
        causes.append(errors.invalid(path, rest, names.format_faults("Invalid path", _HTTP_PATH)))
    return causes


def domain_name(value: str, path: str, segments: int) -> list[Cause]:
    """A name of so many segments at least, two where a dot may end it."""
    if not value:
        return [errors.required(path)]
    name = value.removesuffix(".") if segments == 2 else value
    faults = names.dns1123_subdomain(name)
    if faults:
        return [errors.invalid(path, name, ",".join(faults))]
    labels = name.split(".")
    if len(labels) < segments:
        least = {2: "two", 3: "three"}[segments]
        return [errors.invalid(path, name, f"should be a domain with at least {least} segments separated by dots")]
    wrong = [(label, names.dns1123_label(label)) for label in labels] if segments == 2 else []
    return [errors.invalid(path, label, ",".join(faults)) for label, faults in wrong if faults]


def one_of(value: str | None, path: str, allowed: Iterable[str]) -> list[Cause]:
    """A required value of a fixed set."""
    if not value:
        return [errors.required(path)]
    return [] if value in allowed else [errors.not_supported(path, value, allowed)]


def optional_one_of(value: str | None, path: str, allowed: Iterable[str]) -> list[Cause]:
    """A value of a fixed set, or none; the empty text is one."""
    return [] if value is None or value in allowed else [errors.not_supported(path, value, allowed)]


def non_negative(value: int | None, path: str) -> list[Cause]:
    return [errors.invalid(path, value, NON_NEGATIVE)] if value is not None and value < 0 else []


def positive(value: int | None, path: str) -> list[Cause]:
    return [errors.invalid(path, value, POSITIVE)] if value is not None and value <= 0 else []


def in_range(value: int, low: int, high: int, path: str) -> list[Cause]:
    if low <= value <= high:
        return []
    return [errors.invalid(path, value, f"must be between {low} and {high}, inclusive")]


def file_mode(value: int | None, path: str) -> list[Cause]:
    return [errors.invalid(path, value, FILE_MODE)] if value is not None and not 0 <= value <= 0o777 else []


def user_or_group_id(value: int | None, path: str) -> list[Cause]:
    return in_range(value, 0, MAX_INT32, path) if value is not None else []


def port_or_name(value: int | str | None, path: str) -> list[Cause]:
    """A port by number or by name."""
    if isinstance(value, str):
        return invalid_if(names.port_name(value), path, value)
    return invalid_if(names.port_number(value or 0), path, value or 0)


def quantity(value: Any, path: str) -> list[Cause]:
    """A resource amount: readable and not negative."""
    try:
        amount = quantities.parse(str(value))
    except ValueError as e:
        return [errors.invalid(path, value, str(e))]
    return [errors.invalid(path, value, NON_NEGATIVE)] if amount.numerator < 0 else []


def descending_path(value: str, path: str) -> list[Cause]:
    """A relative path that stays where it is put."""
    causes = [errors.invalid(path, value, "must be a relative path")] if value.startswith("/") else []
    return causes + no_backsteps(value, path)


def no_backsteps(value: str, path: str) -> list[Cause]:
    return [errors.invalid(path, value, "must not contain '..'")] if ".." in value and ".." in value.split("/") else []


def address(value: str, path: str) -> list[Cause]:
    """An IP address in one of the fields that take old forms of them too."""
    return [errors.invalid(path, value, addresses.IP_TEXT)] if addresses.loose_fault(value) else []


def immutable(new: Any, old: Any, path: str) -> list[Cause]:
    return [] if new == old else [errors.invalid(path, new, IMMUTABLE)]


def meaning(value: Any) -> Any:
    """A value without its empty lists, which mean the same as none where an old and a new value are compared."""
    if isinstance(value, Mapping):
        return {key: meaning(item) for key, item in value.items() if item != []}
    return [meaning(item) for item in value] if isinstance(value, list) else value


def label_map(labels: Mapping[str, str] | None, path: str) -> list[Cause]:
    """Keys and values of labels or of a node selector."""
    causes: list[Cause] = []
    for key, value in (labels or {}).items():
        causes += invalid_if(names.qualified_name(key), path, key)
        causes += invalid_if(names.label_value(value), path, value)
    return causes


_SELECTOR_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def label_selector(selector: Mapping[str, Any] | None, path: str) -> list[Cause]:
    """A LabelSelector object."""
    if selector is None:
        return []
    causes = label_map(selector.get("matchLabels"), f"{path}.matchLabels")
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        causes += label_requirement(requirement, f"{path}.matchExpressions[{i}]")
    return causes


def label_requirement(requirement: Mapping[str, Any], path: str, any_operator: bool = False) -> list[Cause]:
    """One of a label selector's; with `any_operator` one that nobody knows is no fault."""
    operator = requirement.get("operator", "")
    causes = operator_values(requirement, path)
    if operator not in _SELECTOR_OPERATORS and not any_operator:
        causes.append(errors.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = requirement.get("key", "")
    causes += invalid_if(names.qualified_name(key), f"{path}.key", key)
    for index, value in enumerate(requirement.get("values") or ()):
        causes += invalid_if(names.label_value(value), f"{path}.values[{index}]", value)
    return causes


def operator_values(requirement: Mapping[str, Any], path: str) -> list[Cause]:
    """Whether a requirement has values where its operator compares with some, and only there."""
    operator, values = requirement.get("operator"), requirement.get("values")
    if operator in ("In", "NotIn") and not values:
        return [errors.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")]
    if operator in ("Exists", "DoesNotExist") and values:
        return [errors.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")]
    return []
