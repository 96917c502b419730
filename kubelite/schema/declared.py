"""What a configuration that is applied must be: of declared fields only, each of its type, and without a key twice.

Source: structured-merge-diff v6 typed/validate.go and typed/helpers.go.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.meta import gotext
from kubelite.schema import fieldsets, granular
from kubelite.schema.structure import Structure


def faults(structure: Structure, value: Any) -> list[str]:
    """What is wrong with a value: `.spec.replicas: expected numeric (int or float), got string`."""
    return [f"{path}: {fault}" for path, fault in _check(structure, value, "")]


def _check(structure: Structure | None, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if value is None or structure is None or (structure.preserve_unknown and structure.raw is None):
        return
    if structure.quantity or structure.format == "int-or-string":
        if isinstance(value, dict | list):
            yield path, f"expected any scalar, got &{{{gotext.printed(value)}}}"
        return
    match structure.type:
        case "string" if not isinstance(value, str):
            yield path, f"expected string, got &value.valueUnstructured{{Value:{gotext.syntax(value)}}}"
        case "integer" | "number" if isinstance(value, bool) or not isinstance(value, int | float):
            yield path, f"expected numeric (int or float), got {gotext.type_of(value)}"
        case "boolean" if not isinstance(value, bool):
            yield path, f"expected boolean, got &{{{gotext.printed(value)}}}"
        case "array" if not isinstance(value, list):
            yield path, f"expected list, got &{{{gotext.printed(value)}}}"
        case "object" if not isinstance(value, dict):
            yield path, f"expected map, got &{{{gotext.printed(value)}}}"
        case "array":
            yield from _check_list(structure, value, path)
        case "object":
            yield from _check_map(structure, value, path)


def _check_map(structure: Structure, value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        child = structure.child(name)
        if child is None and not structure.preserve_unknown:
            yield f"{path}.{name}", "field not declared in schema"
        else:
            yield from _check(child, item, f"{path}.{name}")


def _check_list(structure: Structure, value: list[Any], path: str) -> Iterator[tuple[str, str]]:
    if not granular.is_granular_list(structure, value):
        for index, item in enumerate(value):
            yield from _check(structure.items, item, f"{path}[{index}]")
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        fault = _keyless(structure, item)
        if fault:
            # without its key nothing can be said of an item, nor of those behind it
            yield path, f"element {index}: {fault}"
            return
        (element,) = granular.items_by_element(structure, [item])
        where = fieldsets.format_element(element)
        if element in seen:
            yield path, f"duplicate entries for key {where}"
        seen.add(element)
        yield from _check(structure.items, item, path + where)


def _keyless(structure: Structure, item: Any) -> str:
    """Why an item of a granular list has no key, empty where it has one."""
    if structure.list_type == "set":
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null" if item is None else ""
    if item is None:
        return "associative list with keys may not have a null element"
    if not isinstance(item, dict):
        return "associative list with keys may not have non-map elements"
    if granular.items_by_element(structure, [item]).keys() == {"k:{}"}:
        keys = " ".join(f'"{key}"' for key in structure.list_map_keys)
        return (
            f"associative list with keys has an element that omits all key fields [{keys}] "
            "(and doesn't have default values for any key fields)"
        )
    return ""
