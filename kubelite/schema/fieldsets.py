"""Sets of fields, and their algebra.

A field set is the JSON of a FieldsV1 itself: nested dicts whose keys are path elements (`f:name` a field, `k:{...}` an item of a
map list by its keys, `v:...` an item of a set by its value), where a leaf is `{}` and `.` beside children marks the path
itself as a member. Sets are never mutated; results share what did not change.

Source: structured-merge-diff v6 (fieldpath/), KEP-555.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import orjson

FieldSet: TypeAlias = dict[str, Any]

#: Beside children: the path itself is a member too.
SELF = "."
LEAF: FieldSet = {}


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of either."""
    if not a:
        return {SELF: {}, **b} if b and SELF not in b else b
    if not b:
        return a if SELF in a else {SELF: {}, **a}
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
        return None if not theirs or SELF in theirs else ours
    # where the other set is a leaf, it has only this very path
    rest = difference(ours, theirs) if theirs else {e: child for e, child in ours.items() if e != SELF}
    return (LEAF if rest.keys() == {SELF} else rest) if rest else None


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """The members of both. Whole sets: an empty result is the empty set."""
    out: FieldSet = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is None:
            continue
        own_member, their_member = not ours or SELF in ours, not theirs or SELF in theirs
        children = intersection(_children(ours), _children(theirs))
        if own_member and their_member:
            out[element] = {SELF: {}, **children} if children else LEAF
        elif children:
            out[element] = children
    return out


def _children(node: FieldSet) -> FieldSet:
    return {element: child for element, child in node.items() if element != SELF} if SELF in node else node


def ordered(fields: FieldSet) -> FieldSet:
    """The same set in the order in which Kubernetes writes it: by the names of fields, by the values of keys and items."""
    elements = sorted(fields)
    if elements and elements[-1][0] != "f" and len(elements) > 1 + (elements[0] == SELF):
        elements.sort(key=_place)
    made = {}
    for element in elements:
        child = fields[element]
        made[element] = ordered(child) if child else child
    return made


def _place(element: str) -> tuple[Any, ...]:
    kind, _, rest = element.partition(":")
    if kind == "k":
        return kind, [(name, _rank(value)) for name, value in sorted(orjson.loads(rest).items())]
    if kind == "v":
        return kind, _rank(orjson.loads(rest))
    return kind, int(rest) if kind == "i" else rest


def _rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, str):
        return 1, value
    if isinstance(value, bool):
        return 2, value
    return (0, value) if isinstance(value, int | float) else (3, orjson.dumps(value))


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Every member as a path for people: `.spec.containers[name="web"].image`."""
    for element, child in fields.items():
        if element == SELF:
            continue
        path = prefix + format_element(element)
        if not child or SELF in child:
            yield path
        yield from paths(child, path)


def format_element(element: str) -> str:
    """A path element for people."""
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
