"""Values that are merged piece by piece: which fields one specifies, what differs between two, merging and removing by sets.

A map is granular unless its structure says atomic, a list where it is one of keyed items or a set. Values are never mutated;
results share what did not change.

Source: structured-merge-diff v6 (typed/), KEP-555.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubelite.schema import facts, fieldsets
from kubelite.schema.fieldsets import LEAF, SELF, FieldSet
from kubelite.schema.structure import Structure


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


def _grouped(structure: Structure, values: list[Any]) -> dict[str, list[Any]]:
    """A granular list's items by their path element: more than one where validation lets an element come twice."""
    found: dict[str, list[Any]] = {}
    for item in values:
        for element in items_by_element(structure, [item]):
            found.setdefault(element, []).append(item)
    return found


def _key_element(structure: Structure, item: Mapping[str, Any]) -> str:
    keys: dict[str, Any] = {}
    for name in structure.list_map_keys:
        value = item.get(name)
        if value is None and structure.items is not None:
            value = _key_default(structure.items, name)
        if value is not None:
            keys[name] = value
    return f"k:{orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()}"


_ZEROS: dict[str, Any] = {"string": "", "integer": 0, "boolean": False}


def _key_default(item: Structure, name: str) -> Any:
    """What an item's key is where it says nothing: its default; of a built-in type a zero too, if such is always written."""
    described = item.properties.get(name)
    if described is None or described.default is not None or not item.definition:
        return described.default if described is not None else None
    return _ZEROS.get(described.type) if facts.json_fields(item.definition)[name].always else None


def of_value(structure: Structure | None, value: Any) -> FieldSet:
    """The set of fields that a value specifies."""
    return _specified(structure, value) or {}


def _specified(structure: Structure | None, value: Any) -> FieldSet | None:
    """The members below a value; `LEAF` where it is one as a whole, None where it has none."""
    if is_granular_map(structure, value):
        out: FieldSet = {}
        for name, item in value.items():
            declared = structure.properties.get(name) if structure is not None else None
            child = _specified(declared or child_structure(structure, name), item)
            if child is None and (declared is None or item == {}):
                child = LEAF
            elif child and declared is None:
                child = {SELF: {}, **child}
            if child is not None:
                out[f"f:{name}"] = child
        return out or None
    if is_granular_list(structure, value):
        assert structure is not None
        out = {}
        for element, items in _grouped(structure, value).items():
            child = _specified(structure.items, items[0]) if structure.list_type == "map" and len(items) == 1 else None
            out[element] = {SELF: {}, **child} if child else LEAF
        return out or None
    return LEAF


@dataclass(slots=True)
class Comparison:
    """What differs between two values, as three sets."""

    added: FieldSet = field(default_factory=dict)
    modified: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)

    @property
    def changed(self) -> FieldSet:
        return fieldsets.union_roots(self.added, self.modified)

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
        if len(earlier) != len(old) or len(later) != len(new):
            _compare_repeated(structure, old, new, out)
            return
        for element, after in later.items():
            before = earlier.get(element, _ABSENT)
            if before is _ABSENT:
                out.added[element] = _with_containers(structure.items, after)
            elif before is not after and before != after:
                _compare_element(element, structure.items, before, after, out)
        for element, before in earlier.items():
            if element not in later:
                out.removed[element] = _with_containers(structure.items, before)


def _compare_repeated(structure: Structure, old: list[Any], new: list[Any], out: Comparison) -> None:
    """Lists of which one has an element twice: such an element is a member without anything below it."""
    earlier, later = _grouped(structure, old), _grouped(structure, new)
    for element in earlier.keys() | later.keys():
        before, after = earlier.get(element, []), later.get(element, [])
        if before == after:
            continue
        if len(before) == len(after) == 1:
            _compare_element(element, structure.items, before[0], after[0], out)
        elif len(before) > 1 and len(after) > 1:
            out.modified[element] = LEAF
        else:
            if after:
                out.added[element] = _with_containers(structure.items, after[0]) if len(after) == 1 else LEAF
            if before:
                out.removed[element] = _with_containers(structure.items, before[0]) if len(before) == 1 else LEAF


def _compare_element(element: str, structure: Structure | None, old: Any, new: Any, out: Comparison) -> None:
    if isinstance(new, dict | list):
        inner = compare(structure, old, new)
        if inner:
            for own, below in ((out.added, inner.added), (out.modified, inner.modified), (out.removed, inner.removed)):
                if below:
                    own[element] = below
            return
    out.modified[element] = LEAF


class _Absent:
    """Marks a side that does not have the field, which null is not."""


_ABSENT = _Absent()
_NO_STRUCTURES: Mapping[str, Structure] = {}


def _with_containers(structure: Structure | None, value: Any) -> FieldSet:
    """`of_value`, with every map, list and list item itself: they came or went as a whole."""
    if is_granular_map(structure, value):
        if not value:
            return LEAF
        out: FieldSet = {SELF: {}}
        if structure is None:
            for name, item in value.items():
                out[f"f:{name}"] = _with_containers(None, item) if type(item) is dict else LEAF
            return out
        properties, values = structure.properties, structure.additional_properties
        for name, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                out[f"f:{name}"] = _with_containers(properties.get(name) or values, item)
            else:
                out[f"f:{name}"] = LEAF
        return out
    if is_granular_list(structure, value) and value:
        assert structure is not None
        out = {SELF: {}}
        for element, item in items_by_element(structure, value).items():
            out[element] = _with_containers(structure.items, item) if structure.list_type == "map" else LEAF
        return out
    return LEAF


def merge(structure: Structure | None, live: Any, config: Any) -> Any:
    """`live` with everything that `config` specifies. A null specifies nothing of what is merged by its parts."""
    if live is None:
        return config
    if config is None and live and structure is not None:
        return live if is_granular_map(structure, live) or is_granular_list(structure, live) else None
    if is_granular_map(structure, live) and is_granular_map(structure, config):
        out = dict(live)
        for name, value in config.items():
            out[name] = merge(child_structure(structure, name), live[name], value) if name in live else value
        return out
    if is_granular_list(structure, live) and is_granular_list(structure, config):
        assert structure is not None
        return _merge_lists(structure, live, config)
    return config


def _merge_lists(structure: Structure, live: list[Any], config: list[Any]) -> list[Any]:
    """Items that both lists have come in the order of `config`; what only one has stays where it is beside them."""
    left = [(element, item) for item in live for element in items_by_element(structure, [item])]
    right = list(items_by_element(structure, config).items())
    in_live = {element: items[0] if len(items) == 1 else None for element, items in _grouped(structure, live).items()}
    in_config = {element for element, _ in right}
    shared = iter([element for element, _ in right if element in in_live])
    awaited = next(shared, None)
    out: list[Any] = []
    done: set[str] = set()
    at, to = 0, 0
    while at < len(left) or to < len(right):
        if at < len(left):
            element, item = left[at]
            if element not in in_config:
                out.append(item)
                at += 1
                continue
            its_turn = to < len(right) and element == right[to][0]
            if to < len(right) and not its_turn and awaited not in (None, element):
                at += 1  # comes when it is its turn
                continue
            if its_turn or element in done:
                at += 1
        if to < len(right):
            element, item = right[to]
            out.append(merge(structure.items, in_live.get(element), item))
            done.add(element)
            to += 1
            if element == awaited:
                awaited = next(shared, None)
    return out


def remove(structure: Structure | None, value: Any, fields: FieldSet) -> Any:
    """`value` without the members of `fields`; a member goes with all that is in it."""
    if is_granular_map(structure, value):
        out = {}
        for name, item in value.items():
            gone = fields.get(f"f:{name}")
            if gone is None:
                out[name] = item
            elif gone and SELF not in gone:
                out[name] = remove(child_structure(structure, name), item, gone)
        return out
    if is_granular_list(structure, value):
        assert structure is not None
        kept = []
        for item in value:
            (element,) = items_by_element(structure, [item])
            gone = fields.get(element)
            if gone is None:
                kept.append(item)
            elif gone and SELF not in gone:
                kept.append(remove(structure.items, item, gone))
        return kept
    return value


def with_declared(structure: Structure | None, fields: FieldSet) -> FieldSet:
    """`fields` with every declared field that has a member below it as a member too."""
    out: FieldSet = {}
    for element, child in fields.items():
        kind, _, name = element.partition(":")
        if not child or element == SELF:
            out[element] = child
            continue
        declared = structure.properties.get(name) if kind == "f" and structure is not None else None
        below = structure.items if kind == "k" and structure is not None else declared or child_structure(structure, name)
        inner = with_declared(below, child)
        out[element] = {SELF: {}, **inner} if declared is not None else inner
    return out


def reconciled(structure: Structure | None, fields: FieldSet) -> FieldSet:
    """`fields` as they are under a schema that makes a whole of what had parts before: its path alone is a member then."""
    out: FieldSet = {}
    for element, child in fields.items():
        kind, _, name = element.partition(":")
        below = None
        if structure is not None and element != SELF:
            below = structure.items if kind in ("k", "v", "i") else structure.child(name)
        if not child or below is None:
            out[element] = child
        elif below.map_type == "atomic" or (below.type == "array" and below.list_type not in ("map", "set")):
            out[element] = LEAF
        else:
            out[element] = reconciled(below, child)
    return out
