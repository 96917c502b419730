"""Strategic merge patch: a merge patch that knows which lists are merged by a key, and has directives.

`$patch: replace | delete` stands in a map (or as an item of a list) and says what happens to it; `$retainKeys` lists the fields
of a map that stay; `$deleteFromPrimitiveList/NAME` takes values out of a list of scalars; `$setElementOrder/NAME` says in which
order the merged list stands.

Source: apimachinery pkg/util/strategicpatch, v0.34. One thing differs: directives never end up in the result, where upstream
leaves some behind in what a patch adds.
"""

from collections.abc import Callable
from typing import Any

from kubelite.meta import gotext
from kubelite.meta.errors import BadRequest, Cause, Invalid
from kubelite.meta.types import Obj
from kubelite.schema.structure import Structure

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PREFIX = "$deleteFromPrimitiveList/"
_ORDER_PREFIX = "$setElementOrder/"

_ABSENT: Any = object()


def merge(structure: Structure | None, original: Obj, patch: Obj) -> Obj:
    """`original` with `patch` merged in. Neither is changed; the result shares what did not change.

    Raises:
        BadRequest: a directive is unknown or stands where it can't, an item lacks its merge key, or the patch holds what its own
            `$retainKeys` leaves out.
        Invalid: it holds lists of lists.
    """
    directive = patch.get(_PATCH, _ABSENT)
    if directive == "replace":
        return {name: _taken(value) for name, value in patch.items() if not _is_directive(name)}
    if directive == "delete":
        return {}
    if directive is not _ABSENT:
        raise BadRequest(f"unknown patch type: {gotext.printed(directive)} in map: {gotext.printed(patch)}")
    out = _retained(original, patch) if _RETAIN in patch else dict(original)
    ordered = [name for name in patch if name.startswith(_ORDER_PREFIX)]
    done = set()
    for name in ordered:
        field = name.removeprefix(_ORDER_PREFIX)
        done.add(field)
        if field in patch and patch[field] is None:
            raise BadRequest(f"{field}: expected a list, but received null")
        _merge_ordered(structure.child(field) if structure else None, out, field, patch.get(field), patch[name])
    for name in patch:
        if name.startswith(_DELETE_PREFIX):
            field, gone = name.removeprefix(_DELETE_PREFIX), patch[name]
            if not isinstance(gone, list):
                raise BadRequest("invalid patch format of primitive list")
            if isinstance(out.get(field), list):
                out[field] = [item for item in out[field] if item not in gone]
    for name, value in patch.items():
        if name in done or _is_directive(name):
            continue
        if value is None:
            out.pop(name, None)
            continue
        found = out.get(name, _ABSENT)
        if type(found) is not type(value):
            taken = _taken(value)
            if taken is _ABSENT:
                out.pop(name, None)
            else:
                out[name] = taken
        elif isinstance(value, dict):
            out[name] = _merge_child(structure.child(name) if structure else None, found, value)
        elif isinstance(value, list):
            out[name] = _merge_list(structure.child(name) if structure else None, found, value)
        else:
            out[name] = value
    return out


def _merge_child(structure: Structure | None, original: Obj, patch: Obj) -> Any:
    if structure is not None and "replace" in structure.patch_strategy:
        return patch
    return merge(structure, original, patch)


def _retained(original: Obj, patch: Obj) -> Obj:
    kept = patch[_RETAIN]
    names = (name for name, value in patch.items() if value is not None and not _is_directive(name))
    if not isinstance(kept, list) or any(name not in kept for name in names):
        raise BadRequest("invalid patch format of retainKeys")
    return {name: value for name, value in original.items() if name in kept}


def _merge_ordered(structure: Structure | None, out: Obj, field: str, patch: Any, order: Any) -> None:
    """Merges one list whose order the patch gives; `patch` is None where it only gives the order."""
    original = out.get(field)
    for value in (original, patch):
        if value is not None and not isinstance(value, list):
            raise BadRequest(f"{field}: expected a list, but received {gotext.printed(value)}")
    if not isinstance(order, list):
        raise BadRequest("invalid patch format of setElementOrder list")
    if original is None and patch is None:
        return
    key = structure.merge_key if structure is not None else ""
    identity = _identity_of(key)
    if patch:
        _check_order(patch, order, identity)
    if patch is None:
        merged = original or []
    elif original is None:
        merged = _taken(patch)
    else:
        merged = _merge_list(structure, original, patch)
    out[field] = _in_order(merged, order, original or [], identity)


def _check_order(patch: list[Any], order: list[Any], identity: Callable[[Any], Any]) -> None:
    """The items of a patch must stand in it as they stand in the order that it gives."""
    if not order:
        return
    names = [identity(item) for item in patch if not (isinstance(item, dict) and _PATCH in item)]
    rest = iter([identity(item) for item in order])
    if not all(any(name == listed for listed in rest) for name in names):
        given, wanted = gotext.printed(patch), gotext.printed(order)
        raise BadRequest(f"The order in patch list:\n{given}\n doesn't match $setElementOrder list:\n{wanted}\n")


def _merge_list(structure: Structure | None, original: list[Any], patch: list[Any]) -> Any:
    if structure is None or "merge" not in structure.patch_strategy:
        return _taken(patch)
    if not original and not patch:
        return original
    kinds = {dict if isinstance(item, dict) else list if isinstance(item, list) else object for item in (*original, *patch)}
    if list in kinds:
        raise _not_processable("lists of lists are not supported")
    if len(kinds) > 1:
        raise BadRequest(f"list element types are not identical: [{gotext.printed(original)} {gotext.printed(patch)}]")
    key = structure.merge_key
    if dict not in kinds:
        merged = list(dict.fromkeys((*original, *patch)))
        return _in_order(merged, patch, original, _identity_of(""))
    if not key:
        raise BadRequest("cannot merge lists without merge key")
    original, patch = _without_special(original, patch, key)
    merged = list(original)
    at: dict[Any, int] = {}
    for position, item in enumerate(merged):
        at.setdefault(_hashable(item.get(key)), position)
    for item in patch:
        if key not in item:
            raise BadRequest(f"map: {gotext.printed(item)} does not contain declared merge key: {key}")
        name = _hashable(item[key])
        position = at.get(name, -1)
        if position < 0:
            at[name] = len(merged)
            merged.append(_taken(item))
        else:
            merged[position] = merge(structure.items, merged[position], item)
    return _in_order(merged, patch, original, _identity_of(key))


def _without_special(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Carries out the items of a patch that delete or replace; what is left of the list and of the patch."""
    plain, replaces, gone = [], False, set()
    for item in patch:
        match item.get(_PATCH, _ABSENT):
            case "delete":
                if key not in item:
                    raise BadRequest(f"map: {gotext.printed(item)} does not contain declared merge key: {key}")
                gone.add(_hashable(item[key]))
            case "replace":
                replaces = True
            case "merge":
                raise BadRequest("merging lists cannot yet be specified in the patch")
            case directive if directive is _ABSENT:
                plain.append(item)
            case directive:
                raise BadRequest(f"unknown patch type: {gotext.printed(directive)} in map: {gotext.printed(item)}")
    if replaces:
        # the patch then is the list, and there is nothing left to merge it with
        return _taken(plain), []
    return [item for item in original if _hashable(item.get(key)) not in gone] if gone else original, plain


def _in_order(merged: list[Any], order: list[Any], original: list[Any], identity: Callable[[Any], Any]) -> list[Any]:
    """The items that the order names in that order; the others, which only the server knows, keep their place before those
    that they stood before."""
    wanted: dict[Any, int] = {}
    before: dict[Any, int] = {}
    for positions, items in ((wanted, order), (before, original)):
        for position, item in enumerate(items):
            positions.setdefault(identity(item), position)
    listed = sorted((item for item in merged if identity(item) in wanted), key=lambda item: wanted[identity(item)])
    others = [item for item in merged if identity(item) not in wanted]
    others.sort(key=lambda item: before.get(identity(item), len(original)))
    out: list[Any] = []
    i = j = 0
    while i < len(others) and j < len(listed):
        theirs, ours = before.get(identity(others[i])), before.get(identity(listed[j]))
        if theirs is not None and ours is not None and theirs < ours:
            out.append(others[i])
            i += 1
        else:
            out.append(listed[j])
            j += 1
    return [*out, *others[i:], *listed[j:]]


def _identity_of(key: str) -> Callable[[Any], Any]:
    return lambda item: _hashable(item.get(key) if isinstance(item, dict) else item)


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else (value, type(value) is bool)


def _is_directive(name: str) -> bool:
    return name in (_PATCH, _RETAIN) or name.startswith((_DELETE_PREFIX, _ORDER_PREFIX))


def _taken(value: Any) -> Any:
    """A patch's value where there is nothing to merge it with: without nulls and directives, and without maps and items that
    are directives themselves (`_ABSENT` stands for such a one)."""
    if isinstance(value, dict):
        if _PATCH in value:
            return _ABSENT
        taken = ((name, _taken(item)) for name, item in value.items() if item is not None and not _is_directive(name))
        return {name: item for name, item in taken if item is not _ABSENT}
    if isinstance(value, list):
        return [item for item in map(_taken, value) if item is not _ABSENT]
    return value


def _not_processable(text: str) -> Invalid:
    return Invalid(
        "the server rejected our request due to an error in our request", causes=[Cause("", "UnexpectedServerResponse", text)]
    )
