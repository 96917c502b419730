"""Patch: JSON, merge, strategic merge and apply, each a change of the newest stored object.

Source: apiserver pkg/endpoints/handlers/patch.go, v0.34.
"""

from typing import TYPE_CHECKING, Any

from kubelite.meta import errors, patches, times
from kubelite.meta.types import Obj
from kubelite.registry import apply, bodies, updates, writes
from kubelite.registry.contract import Patch, Target, WriteOptions
from kubelite.registry.updates import Body, Change
from kubelite.registry.versions import OfKind
from kubelite.schema import builtin, checking, decoding, strategic, structure
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry


#: What an operation of a JSON patch has.
_TEXTS = frozenset(("op", "path", "from"))
_OPERATION = _TEXTS | {"value"}


async def patch(
    registry: "Registry", target: Target, sent: Patch, options: WriteOptions, *, body: Body | None = None
) -> tuple[Entry, bool]:
    """The patched object; the bool says whether an apply created it.

    Raises:
        BadRequest: the patch does not parse. Invalid: it does not apply, or its result is wrong. NotFound, Conflict.
    """
    if sent.form == "apply":
        return await _apply(registry, target, sent.body, options, body)
    return await updates.change(registry, target, options, _change(target, sent, options, body), body=body)


def _change(target: Target, sent: Patch, options: WriteOptions, body: Body | None) -> Change:
    kind, operations = target.kind, _parsed(sent)
    if sent.form == "json" and options.field_validation != "Ignore":
        unknown = (f'unknown field "[{i}].{key}"' for i, o in enumerate(operations) for key in o if key not in _OPERATION)
        options.faults = tuple(f"json patch {fault}" for fault in (*unknown, *options.faults))
    if sent.form == "strategic" and kind.custom:
        raise errors.UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        )

    def change(old: Obj | None) -> Obj:
        if old is None:
            raise errors.NotFound.of(kind.group, kind.plural, target.name)
        if sent.form == "json":
            merged = patches.json_patch(old, operations)
        elif sent.form == "merge" or body is not None:
            merged = patches.merge_patch(old, operations)
        else:
            merged = strategic.merge(structure.structure_of(kind), old, operations)
        if not isinstance(merged, dict):
            raise errors.Invalid.of("", "", "", [errors.invalid("patch", merged, "the result is not an object")])
        obj = bodies.patched(_sort(kind, body), merged, options, operations if sent.form == "strategic" else None)
        writes.match_name(target, obj["metadata"])
        return obj

    return change


def _parsed(sent: Patch) -> Any:
    """The operations of a JSON patch, or the map that another one is; a null is one that says nothing."""
    try:
        value: Any = decoding.parse_json(sent.body)
    except errors.BadRequest as e:
        raise errors.BadRequest(f"error decoding patch: {e.message.rpartition('json parse error: ')[2]}") from e
    if value is None:
        if sent.form == "merge":
            raise errors.BadRequest("Invalid JSON Patch")
        return [] if sent.form == "json" else {}
    if sent.form == "json":
        _check_type(value, list, "value of type []handlers.jsonPatchOp")
        for operation in value:
            _check_type(operation, dict, "value of type handlers.jsonPatchOp")
            for field in _TEXTS.intersection(operation):
                _check_type(
                    "" if operation[field] is None else operation[field], str, f"struct field jsonPatchOp.{field} of type string"
                )
    else:
        _check_type(value, dict, "value of type map[string]interface {}")
    return value


def _check_type(value: Any, wanted: type, where: str) -> None:
    if not isinstance(value, wanted):
        raise errors.BadRequest(f"error decoding patch: json: cannot unmarshal {checking.json_type(value)} into Go {where}")


async def _apply(
    registry: "Registry", target: Target, sent: bytes, options: WriteOptions, body: Body | None
) -> tuple[Entry, bool]:
    kind = target.kind
    if not options.field_manager:
        cause = errors.required("fieldManager", "is required for apply patch")
        raise errors.Invalid.of("meta.k8s.io", "PatchOptions", "", [cause])
    config = _configuration(sent)
    own, sort = OfKind(registry.kinds, registry.entries, kind), _sort(kind, body)
    wanted = (sort.api_version, sort.kind)
    api_version, name = (value if isinstance(value, str) else "" for value in (config.get("apiVersion"), config.get("kind")))
    if (api_version, name) != wanted:
        group, _, version = api_version.rpartition("/")
        raise errors.BadRequest(f"invalid object type: {group}/{version}, Kind={name}")
    now = times.now()
    repeated, options.faults = options.faults, ()

    def change(old: Obj | None) -> Obj:
        merged = apply.applied(
            own if body is None else body.versions,
            old,
            config,
            manager=options.field_manager,
            force=options.force,
            time=now,
            api_version=wanted[0],
            subresource=target.subresource,
            reset=registry.reset_fields(kind, target.subresource) if body is None else (),
        )
        if repeated and options.field_validation == "Strict":
            text = "error converting YAML to JSON: yaml: unmarshal errors:\n  " + "\n  ".join(repeated)
            raise errors.BadRequest(f"error strict decoding YAML: {text}")
        options.warnings += repeated
        obj = bodies.patched(sort, merged, options)
        metadata = obj["metadata"]
        if old is None and metadata.get("uid"):
            why = f"uid mismatch: the provided object specified uid {metadata['uid']}, and no existing object was found"
            raise errors.Conflict.of(kind.group, kind.plural, target.name, why)
        writes.match_name(target, metadata)
        writes.match_namespace(target, metadata)
        return obj

    return await updates.change(
        registry, target, options, change, body=body, force_create=body is None, track=False, versions=own
    )


def _configuration(sent: bytes) -> Obj:
    """What is applied: YAML, of which JSON is a part."""
    try:
        value = decoding.parse_value(sent, decoding.YAML)
    except errors.BadRequest as e:
        raise errors.BadRequest(f"error decoding YAML: error converting YAML to JSON: {e.message}") from e
    if value is not None and not isinstance(value, dict):
        why = f"json: cannot unmarshal {checking.json_type(value)} into Go value of type map[string]interface {{}}"
        raise errors.BadRequest(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {why}")
    return value or {}


def _sort(kind: Kind, body: Body | None) -> Kind:
    """The kind of what is patched: the object's, or its body's."""
    return kind if body is None else builtin.body(*body.kind)
