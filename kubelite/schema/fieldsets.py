"""Sets of fields, and what merging, comparing and removing by them means for a value of a given structure.

A field set is the JSON of a FieldsV1 itself: nested dicts whose keys are path elements (`f:name` a field, `k:{...}` an item of a
map list by its keys, `v:...` an item of a set by its value), where a leaf is `{}` and `.` beside children marks the path
itself as a member. Sets and values are never mutated; results share what did not change.

Source: structured-merge-diff v6 (typed/, fieldpath/), KEP-555.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from kubelite.schema.structure import Structure

FieldSet: TypeAlias = dict[str, Any]

_SELF = "."
_LEAF: FieldSet = {}


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of either."""
    if not a:
        return {_SELF: {}, **b} if b and _SELF not in b else b
    if not b:
        return a if _SELF in a else {_SELF: {}, **a}
    return _union_children(a, b)


def _union_children(a: FieldSet, b: FieldSet) -> FieldSet:
    out = dict(a)
    for element, theirs in b.items():
        ours = out.get(element)
        out[element] = theirs if ours is None else union(ours, theirs)
    return out


def union_roots(a: FieldSet, b: FieldSet) -> FieldSet:
    """`union` of two whole sets, where an empty dict is the empty set and not a leaf."""
    return _union_children(a, b) if a and b else a or b


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of `a` that are not members of `b`. Whole sets: an empty result is the empty set."""
    out: FieldSet = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is None:
            out[element] = ours
            continue
        rest = _leftover(ours, theirs)
        if rest is not None:
            out[element] = rest
    return out


def _leftover(ours: FieldSet, theirs: FieldSet) -> FieldSet | None:
    """What is left of one element's subtree; None when nothing is a member any more."""
    if not ours:  # a leaf: gone if the other has this very path
        return None if not theirs or _SELF in theirs else ours
    # where the other set is a leaf, it has only this very path
    rest = difference(ours, theirs) if theirs else {e: child for e, child in ours.items() if e != _SELF}
    return (_LEAF if rest.keys() == {_SELF} else rest) if rest else None


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of both. Whole sets: an empty result is the empty set."""
    out: FieldSet = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is None:
            continue
        own_member, their_member = not ours or _SELF in ours, not theirs or _SELF in theirs
        children = intersection(_children(ours), _children(theirs))
        if own_member and their_member:
            out[element] = {_SELF: {}, **children} if children else _LEAF
        elif children:
            out[element] = children
    return out


def _children(node: FieldSet) -> FieldSet:
    return {element: child for element, child in node.items() if element != _SELF} if _SELF in node else node


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Every member as a path for people: `.spec.containers[name="web"].image`."""
    for element, child in fields.items():
        if element == _SELF:
            continue
        path = prefix + _format_element(element)
        if not child or _SELF in child:
            yield path
        yield from paths(child, path)


def _format_element(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys: Mapping[str, Any] = orjson.loads(rest)
        return "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in sorted(keys.items())) + "]"
    if kind == "v":
        return f"[={rest}]"
    return f"[{rest}]"


def without(fields: FieldSet, stripped: Iterable[tuple[str, ...]]) -> FieldSet:
    """`fields` without the subtrees at these paths of plain field names."""
    for path in stripped:
        fields = _strip(fields, path)
    return fields


def _strip(fields: FieldSet, path: tuple[str, ...]) -> FieldSet:
    element = f"f:{path[0]}"
    child = fields.get(element)
    if child is None:
        return fields
    out = {e: c for e, c in fields.items() if e != element}
    if len(path) > 1:
        rest = _strip(child, path[1:])
        if rest or not child:
            out[element] = rest
    return out


def within(fields: FieldSet, kept: Iterable[tuple[str, ...]]) -> FieldSet:
    """Only the subtrees of `fields` at these paths of plain field names."""
    out: FieldSet = {}
    for path in kept:
        node: FieldSet | None = fields
        for name in path:
            node = node.get(f"f:{name}") if node is not None else None
        if node is not None:
            for name in reversed(path):
                node = {f"f:{name}": node}
            out = union_roots(out, node)
    return out


def is_granular_map(structure: Structure | None, value: Any) -> bool:
    """Whether a value is merged key by key."""
    return isinstance(value, dict) and not (structure is not None and structure.map_type == "atomic")


def is_granular_list(structure: Structure | None, value: Any) -> bool:
    """Whether a value is a list merged item by item: of type map or set."""
    return isinstance(value, list) and structure is not None and structure.list_type in ("map", "set")


def child_structure(structure: Structure | None, name: str) -> Structure | None:
    """The structure of a field; None where the schema says nothing of it."""
    return structure.child(name) if structure is not None else None


def items_by_element(structure: Structure, values: list[Any]) -> dict[str, Any]:
    """A granular list's items by their path element, in order; of duplicates the last counts."""
    if structure.list_type == "set":
        return {f"v:{orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()}": item for item in values}
    return {_key_element(structure, item): item for item in values if isinstance(item, dict)}


def _key_element(structure: Structure, item: Mapping[str, Any]) -> str:
    keys: dict[str, Any] = {}
    for name in structure.list_map_keys:
        value = item.get(name)
        if value is None and structure.items is not None:
            described = structure.items.properties.get(name)
            value = described.default if described is not None else None
        if value is not None:
            keys[name] = value
    return f"k:{orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()}"


def of_value(structure: Structure | None, value: Any) -> FieldSet:
    """The set of fields that a value specifies."""
    if is_granular_map(structure, value):
        out: FieldSet = {}
        for name, item in value.items():
            described = structure.properties.get(name) if structure is not None else None
            child = of_value(described or child_structure(structure, name), item)
            if child and described is None and not _is_leaf_value(structure, name, item):
                child = {_SELF: {}, **child}
            out[f"f:{name}"] = child
        return out
    if is_granular_list(structure, value):
        assert structure is not None
        out = {}
        for element, item in items_by_element(structure, value).items():
            child = of_value(structure.items, item) if structure.list_type == "map" else _LEAF
            out[element] = {_SELF: {}, **child} if child else _LEAF
        return out
    return _LEAF


def _is_leaf_value(structure: Structure | None, name: str, value: Any) -> bool:
    child = child_structure(structure, name)
    return not (is_granular_map(child, value) or is_granular_list(child, value))


@dataclass(slots=True)
class Comparison:
    """What differs between two values, as three sets."""

    added: FieldSet = field(default_factory=dict)
    modified: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)

    @property
    def changed(self) -> FieldSet:
        return union_roots(self.added, self.modified)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)


def compare(structure: Structure | None, old: Any, new: Any) -> Comparison:
    """The fields that `new` adds, changes and removes against `old`."""
    out = Comparison()
    _compare(structure, old, new, out)
    return out


def _compare(structure: Structure | None, old: Any, new: Any, out: Comparison) -> None:
    """`compare` into `out`. Every write comes here, most with little that differs: what is the same costs a look at it."""
    if is_granular_map(structure, old) and is_granular_map(structure, new):
        properties = structure.properties if structure is not None else _NO_STRUCTURES
        values = structure.additional_properties if structure is not None else None
        for name, after in new.items():
            before = old.get(name, _ABSENT)
            if before is _ABSENT:
                out.added[f"f:{name}"] = _with_containers(properties.get(name) or values, after)
            elif before is not after and before != after:
                _compare_element(f"f:{name}", properties.get(name) or values, before, after, out)
        for name, before in old.items():
            if name not in new:
                out.removed[f"f:{name}"] = _with_containers(properties.get(name) or values, before)
    elif is_granular_list(structure, old) and is_granular_list(structure, new):
        assert structure is not None
        earlier, later = items_by_element(structure, old), items_by_element(structure, new)
        for element, after in later.items():
            before = earlier.get(element, _ABSENT)
            if before is _ABSENT:
                out.added[element] = _with_containers(structure.items, after)
            elif before is not after and before != after:
                _compare_element(element, structure.items, before, after, out)
        for element, before in earlier.items():
            if element not in later:
                out.removed[element] = _with_containers(structure.items, before)


def _compare_element(element: str, structure: Structure | None, old: Any, new: Any, out: Comparison) -> None:
    if isinstance(new, dict | list):
        inner = compare(structure, old, new)
        if inner:
            for own, below in ((out.added, inner.added), (out.modified, inner.modified), (out.removed, inner.removed)):
                if below:
                    own[element] = below
            return
    out.modified[element] = _LEAF


class _Absent:
    """Marks a side that does not have the field, which null is not."""


_ABSENT = _Absent()
_NO_STRUCTURES: Mapping[str, Structure] = {}


def _with_containers(structure: Structure | None, value: Any) -> FieldSet:
    """`of_value`, with every map, list and list item itself: they came or went as a whole."""
    if is_granular_map(structure, value):
        if not value:
            return _LEAF
        out: FieldSet = {_SELF: {}}
        if structure is None:
            for name, item in value.items():
                out[f"f:{name}"] = _with_containers(None, item) if type(item) is dict else _LEAF
            return out
        properties, values = structure.properties, structure.additional_properties
        for name, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                out[f"f:{name}"] = _with_containers(properties.get(name) or values, item)
            else:
                out[f"f:{name}"] = _LEAF
        return out
    if is_granular_list(structure, value) and value:
        assert structure is not None
        out = {_SELF: {}}
        for element, item in items_by_element(structure, value).items():
            out[element] = _with_containers(structure.items, item) if structure.list_type == "map" else _LEAF
        return out
    return _LEAF


def merge(structure: Structure | None, live: Any, config: Any) -> Any:
    """`live` with everything that `config` specifies; granular lists keep live's order and append what is new."""
    if live is None:
        return config
    if is_granular_map(structure, live) and is_granular_map(structure, config):
        out = dict(live)
        for name, value in config.items():
            out[name] = merge(child_structure(structure, name), live[name], value) if name in live else value
        return out
    if is_granular_list(structure, live) and is_granular_list(structure, config):
        assert structure is not None
        merged = items_by_element(structure, live)
        for element, item in items_by_element(structure, config).items():
            merged[element] = merge(structure.items, merged[element], item) if element in merged else item
        return list(merged.values())
    return config


def remove(structure: Structure | None, value: Any, fields: FieldSet, kept: FieldSet) -> Any:
    """`value` without the members of `fields`. A container whose own path is a member goes with all that is in it, unless
    `kept` has members below it: then only what `fields` names goes."""
    if is_granular_map(structure, value):
        out = {}
        for name, item in value.items():
            stays, rest = _remove_element(f"f:{name}", child_structure(structure, name), item, fields, kept)
            if stays:
                out[name] = rest
        return out
    if is_granular_list(structure, value):
        assert structure is not None
        elements = items_by_element(structure, value).items()
        results = (_remove_element(element, structure.items, item, fields, kept) for element, item in elements)
        return [rest for stays, rest in results if stays]
    return value


def _remove_element(element: str, structure: Structure | None, value: Any, fields: FieldSet, kept: FieldSet) -> tuple[bool, Any]:
    gone, held = fields.get(element), kept.get(element, {})
    if gone is None:
        return True, value
    if (not gone or _SELF in gone) and not held:
        return False, None
    return True, remove(structure, value, gone, held)
