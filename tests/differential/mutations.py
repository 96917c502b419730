"""Changes to try on a good object: for each field that its schema knows, values at and beyond the edges of what is allowed.

They are changes as the corpus writes them (paths to values). None of them is known to be good or bad: two servers are asked, and
what counts is whether they say the same.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kubelite.schema.structure import Structure

Change = Mapping[str, Any]

_TEXTS: tuple[Any, ...] = ("", "x", "A b", "a.b", "a/b", "-a", "x" * 64, "x" * 254, 5)
_NUMBERS: tuple[Any, ...] = (-1, 0, 1, 65536, 2**31, "1", 1.5)
_KEYS = ("", "a b", "x" * 64, "Example.com/a", "a/b/c", "kubernetes.io/x")
#: How deep below a field that the object doesn't have other fields are tried.
_DEPTH = 3


def of_object(structure: Structure, obj: Any, skip: tuple[str, ...] = ()) -> Iterator[Change]:
    """Every change of one field, those below `skip` (paths) left out."""
    for path, value in _walk(structure, obj, ""):
        if not any(path == prefix or path.startswith(prefix + ".") for prefix in skip):
            yield {path: value}


def _walk(structure: Structure, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and structure.type != "string":
        values = structure.additional_properties
        for name, below in structure.properties.items():
            at = _joined(path, name)
            if name in value:
                yield at, None
                yield at, "<null>"
                yield from ((at, edge) for edge in _edges(below))
                yield from _walk(below, value[name], at)
            else:
                yield from ((at, edge) for edge in (*_edges(below), *_samples(below, _DEPTH)))
        if values is not None:
            yield from ((_joined(path, key), _sample(values)) for key in _KEYS)
            for name, item in value.items():
                yield from _walk(values, item, _joined(path, name))
    elif isinstance(value, list) and value and structure.items is not None:
        yield f"{path}.{len(value)}", value[0]
        yield from ((f"{path}.0", edge) for edge in _edges(structure.items))
        for index, item in enumerate(value):
            yield from _walk(structure.items, item, f"{path}.{index}")


def _joined(path: str, name: str) -> str:
    step = f"[{name}]" if "." in name or not name else name
    return f"{path}.{step}" if path else step


def _edges(structure: Structure) -> tuple[Any, ...]:
    """Values of a field by what it holds, and one of a wrong type."""
    if structure.enum:
        return (*structure.enum, "Nope", "", 5)
    if structure.quantity:
        return ("1", "0", "-1", "1.5", "100m", "1n", "1Gi", "x", "")
    match structure.type, structure.format:
        case "string", "byte":
            return ("", "eA==", "x", "!!")
        case "string", "date-time":
            return ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00.123456Z", "today", "")
        case "string", "int-or-string":
            return (-1, 0, 1, 70000, "http", "150%", "50%", "A b", "")
        case "string", _:
            return _TEXTS
        case (("integer" | "number"), _):
            return _NUMBERS
        case "boolean", _:
            return (True, False, "true")
        case "array", _:
            return ([], "x", {})
        case "object", _:
            return ({}, "x", [])
    return ("x", 1, {}, [])


def _sample(structure: Structure) -> Any:
    """A value that may well be good."""
    if structure.enum:
        return structure.enum[0]
    if structure.quantity:
        return "1"
    match structure.type:
        case "string":
            return {"byte": "eA==", "date-time": "2030-01-01T00:00:00Z", "int-or-string": 1}.get(structure.format, "x")
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return [_sample(structure.items)] if structure.items is not None else []
        case "object":
            if structure.additional_properties is not None:
                return {"k": _sample(structure.additional_properties)}
            return {name: _sample(structure.properties[name]) for name in structure.required if name in structure.properties}
    return {}


def _samples(structure: Structure, depth: int, within: tuple[str, ...] = ()) -> Iterator[Any]:
    """Values of a field that the object doesn't have: its sample, and that with each of the fields below changed in turn; of a
    type that it is `within` already, the sample only."""
    sample = _sample(structure)
    if sample not in _edges(structure):
        yield sample
    if structure.definition in within:
        return
    if structure.definition:
        within = (*within, structure.definition)
    if structure.type == "array" and structure.items is not None:
        yield [sample[0], sample[0]]
        yield from ([item] for item in _samples(structure.items, depth, within) if item != sample[0])
    elif structure.type == "object" and depth:
        for name, below in structure.properties.items():
            for value in (*_edges(below), *_samples(below, depth - 1, within)):
                yield {**sample, name: value}
        if structure.additional_properties is not None:
            yield from ({key: _sample(structure.additional_properties)} for key in _KEYS)
            yield from ({"k": value} for value in _samples(structure.additional_properties, depth - 1, within))


def name_of(change: Change) -> str:
    """A change in a line, short enough for a case's name."""
    return ", ".join(f"{path}={_short(json.dumps(value))}" for path, value in change.items())


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:90]}...{text[-25:]}"
