"""Strategic merge patch: a merge patch that knows which lists are merged by a key, and has directives.

`$patch: replace | delete | merge` stands in a map (or as an item of a list) and says what happens to it; `$retainKeys` lists the
fields of a map that stay; `$deleteFromPrimitiveList/NAME` takes values out of a list of scalars; `$setElementOrder/NAME` says in
which order the merged list stands.

Source: apimachinery pkg/util/strategicpatch, v0.34, and its design in the API conventions.
"""

from typing import Any

from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.schema.structure import Structure

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PREFIX = "$deleteFromPrimitiveList/"
_ORDER_PREFIX = "$setElementOrder/"


def merge(structure: Structure, original: Obj, patch: Obj) -> Obj:
    """`original` with `patch` merged in. Neither is changed; the result shares what did not change.

    Raises:
        BadRequest: a directive is unknown or stands where it can't, or an item lacks its merge key.
    """
    return _merge_map(structure, original, patch)


def _merge_map(structure: Structure | None, original: Obj, patch: Obj) -> Obj:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return _without_directives({k: v for k, v in patch.items() if k != _PATCH})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"Unknown patch type: {directive}")
    out = dict(original)
    if _RETAIN in patch:
        out = _retain(out, patch)
    for name, value in patch.items():
        if name in (_PATCH, _RETAIN):
            continue
        if name.startswith(_DELETE_PREFIX):
            field = name.removeprefix(_DELETE_PREFIX)
            if isinstance(out.get(field), list):
                out[field] = [item for item in out[field] if item not in value]
        elif name.startswith(_ORDER_PREFIX):
            continue
        elif value is None:
            out.pop(name, None)
        else:
            out[name] = _merge_value(structure.child(name) if structure else None, out.get(name), value)
    for name, order in patch.items():
        if name.startswith(_ORDER_PREFIX):
            field = name.removeprefix(_ORDER_PREFIX)
            if isinstance(out.get(field), list):
                child = structure.child(field) if structure else None
                out[field] = _ordered(child, out[field], original.get(field) or [], order)
    return out


def _retain(out: Obj, patch: Obj) -> Obj:
    kept = patch[_RETAIN]
    if not isinstance(kept, list):
        raise BadRequest(f"invalid patch format of {_RETAIN}: a list of field names is wanted")
    for name in patch:
        if not name.startswith("$") and patch[name] is not None and name not in kept:
            raise BadRequest(f"patch contains a field {name} that is not in {_RETAIN}")
    return {name: value for name, value in out.items() if name in kept}


def _merge_value(structure: Structure | None, original: Any, value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(original, dict) and not (structure is not None and "replace" in structure.patch_strategy):
            return _merge_map(structure, original, value)
        return _merge_map(structure, {}, value)
    if isinstance(value, list):
        merges = structure is not None and "merge" in structure.patch_strategy
        if merges:
            assert structure is not None
            return _merge_list(structure, original if isinstance(original, list) else [], value)
        return _replaced_list(value)
    return value


def _replaced_list(value: list[Any]) -> list[Any]:
    return [
        _without_directives(item) if isinstance(item, dict) else item
        for item in value
        if not (isinstance(item, dict) and item.keys() == {_PATCH})
    ]


def _merge_list(structure: Structure, original: list[Any], patch: list[Any]) -> list[Any]:
    if not any(isinstance(item, dict) for item in patch):
        return [*original, *(item for i, item in enumerate(patch) if item not in original and item not in patch[:i])]
    key = structure.merge_key
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        # one item with the directive, alone or with a key of its own, replaces the whole list
        kept = [{k: v for k, v in item.items() if k != _PATCH} for item in patch]
        return [_without_directives(item) for item in kept if item]
    out = list(original)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise BadRequest(f"map: {item} does not contain declared merge key: {key}")
        at = next((i for i, o in enumerate(out) if isinstance(o, dict) and o.get(key) == item[key]), None)
        if item.get(_PATCH) == "delete":
            out = [o for o in out if not (isinstance(o, dict) and o.get(key) == item[key])]
        elif at is None:
            out.append(_merge_map(structure.items, {}, item))
        else:
            out[at] = _merge_map(structure.items, out[at], item)
    return out


def _ordered(structure: Structure | None, merged: list[Any], original: list[Any], order: list[Any]) -> list[Any]:
    """The listed items in their order; what the order doesn't name keeps its place between those it stood between."""
    key = structure.merge_key if structure is not None else ""

    def identity(item: Any) -> Any:
        return item.get(key) if isinstance(item, dict) else item

    wanted = {_hashable(identity(item)): i for i, item in enumerate(order)}
    listed = sorted((i for i in merged if _hashable(identity(i)) in wanted), key=lambda i: wanted[_hashable(identity(i))])
    others = [i for i in merged if _hashable(identity(i)) not in wanted]
    position = {_hashable(identity(item)): i for i, item in enumerate(original)}
    end = len(original)
    out: list[Any] = []
    while listed and others:
        mine, theirs = (position.get(_hashable(identity(x[0])), end) for x in (listed, others))
        out.append(others.pop(0) if theirs < mine else listed.pop(0))
    return [*out, *listed, *others]


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, (dict, list)) else value


def _without_directives(value: Any) -> Any:
    """A patch's value as it is taken where there is nothing to merge with."""
    if isinstance(value, dict):
        return {k: _without_directives(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_without_directives(item) for item in value if not (isinstance(item, dict) and item.get(_PATCH) == "delete")]
    return value
