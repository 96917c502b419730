"""What a client sent becomes an object that the registry owns: right kind, known fields, normal form, defaults.

Source: apiserver pkg/endpoints/handlers (create.go, rest.go, fieldvalidation), v0.34.
"""

from collections.abc import Sequence

import msgspec
import orjson

from kubelite.meta import errors, gotext
from kubelite.meta.types import Obj
from kubelite.registry import strategies
from kubelite.registry.contract import WriteOptions
from kubelite.schema import checking, coercion, defaults, models, structure
from kubelite.schema.kinds import Kind


def received(kind: Kind, sent: Obj, options: WriteOptions) -> Obj:
    """A new object from that of a create or an update: checked against its structure, in normal form, defaulted.

    Raises:
        BadRequest: it is not of this kind, a field has the wrong type, or (Strict) there are unknown fields.
    """
    obj, unknown = _normal(kind, _typed(kind, sent))
    found = (*_unknown(unknown), *options.faults)
    if found:
        if options.field_validation == "Strict":
            refused = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
            raise errors.BadRequest(f"{refused}: {_strict(found)}")
        _warn(found, options)
    return _finished(kind, obj, sent)


def patched(kind: Kind, merged: Obj, options: WriteOptions, sent: Obj | None = None) -> Obj:
    """A new object from what a patch made of the stored one, as `received`. `sent`: the patch, where a fault shows that and not
    what came of it.

    Raises:
        Invalid: a field has the wrong type, or (Strict) there are unknown fields.
    """
    try:
        obj, unknown = _normal(kind, _typed(kind, merged))
    except errors.BadRequest as e:
        raise _bad_patch(merged, sent, e.message.partition(f"cannot be handled as a {kind.kind}: ")[2] or e.message) from e
    found = (*options.faults, *_unknown(unknown))
    if found:
        if options.field_validation == "Strict":
            raise _bad_patch(merged, sent, _strict(found))
        _warn(found, options)
    return _finished(kind, obj, merged)


def admitted(kind: Kind, changed: Obj) -> Obj:
    """A new object from what a webhook made of one: in normal form and defaulted again.

    Raises:
        BadRequest: a field has the wrong type.
    """
    obj, _ = _normal(kind, changed)
    return _finished(kind, obj, changed)


def _finished(kind: Kind, obj: Obj, sent: Obj) -> Obj:
    if (sent.get("metadata") or {}).get("managedFields") == []:
        obj["metadata"]["managedFields"] = []  # a list that is empty says something: forget who managed what
    defaults.complete(kind, obj)
    strategies.of(kind).normalize(obj)
    return obj


def _bad_patch(merged: Obj, sent: Obj | None, detail: str) -> errors.Invalid:
    shown = orjson.dumps(merged).decode() if sent is None else gotext.printed(sent)
    return errors.Invalid.of("", "", "", [errors.invalid("patch", shown, detail)])


def _typed(kind: Kind, sent: Obj) -> Obj:
    """The object with the kind and version that it must have; raises BadRequest where it has others."""
    if sent.get("kind") == kind.kind and sent.get("apiVersion") == kind.api_version:
        return sent
    api_version = sent.get("apiVersion") or kind.api_version
    name = sent.get("kind") or kind.kind
    if api_version != kind.api_version:
        raise errors.BadRequest(
            f"the API version in the data ({api_version}) does not match the expected API version ({kind.api_version})"
        )
    if name != kind.kind:
        raise errors.BadRequest(
            f'{name} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"the kind in the data ({name}) does not match the expected kind ({kind.kind})"
        )
    return {**sent, "apiVersion": api_version, "kind": name}


def _normal(kind: Kind, obj: Obj) -> tuple[Obj, Sequence[str]]:
    """A new object in normal form without the fields that are unknown, and those fields' paths."""
    shape = structure.structure_of(kind)
    if kind.custom:
        return coercion.normal(kind, shape, obj)
    try:
        return models.normal(shape.definition, obj), ()
    except msgspec.ValidationError:
        cleaned = checking.without_nulls(obj, shape)
        unknown = checking.check(shape, cleaned)
        normal = checking.normal(shape, cleaned)
        normal.setdefault("metadata", {})
        return normal, unknown


def _unknown(paths: Sequence[str]) -> list[str]:
    return [f'unknown field "{path}"' for path in paths]


def _warn(found: Sequence[str], options: WriteOptions) -> None:
    if options.field_validation == "Warn":
        options.warnings += found


def _strict(found: Sequence[str]) -> str:
    return f"strict decoding error: {', '.join(found)}"
