"""Request bodies, from bytes to an object of the kind that the URL expects.

Source: apiserver pkg/endpoints/handlers/create.go and rest.go (transformDecodeError), v0.34.
"""

from typing import Any

import orjson

from kubelite.api import negotiation
from kubelite.api.requests import Request
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.registry.contract import WriteOptions
from kubelite.schema import decoding
from kubelite.schema.kinds import Kind

_YAML, _PROTOBUF = "application/yaml", "application/vnd.kubernetes.protobuf"


async def read_object(request: Request, kind: Kind, options: WriteOptions) -> Obj:
    """The body as an object of `kind`, or of the subresource's own kind. Blank apiVersion and kind are filled in.

    Duplicate keys are found here, where the bytes still are; unknown fields are the registry's to find.

    Raises:
        BadRequest: it can't be decoded, or is of another kind.
    """
    media = negotiation.sent(request.headers.get("Content-Type", ""))
    body = await request.body()
    api_version, name = expected(kind, request.info.subresource)
    obj = decoding.parse(body, media, name)
    # What is as long as its parsed form written again has no key twice, which is nearly every body of a program.
    may_repeat = media != _PROTOBUF and len(orjson.dumps(obj)) != len(body)
    given_version, given_kind = obj.get("apiVersion"), obj.get("kind")
    if kind.custom and not request.info.subresource:
        _check_custom(body, name, given_version, given_kind, api_version)
    if not given_version or not given_kind:
        obj = {**obj, "apiVersion": given_version or api_version, "kind": given_kind or name}
        given_version, given_kind = obj["apiVersion"], obj["kind"]
    if given_version != api_version and not _is_near(given_version, api_version):
        raise BadRequest(f"the API version in the data ({given_version}) does not match the expected API version ({api_version})")
    if given_kind != name:
        raise BadRequest(
            f'{given_kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {name}: '
            f"converting ({given_kind}) to ({name}): unknown conversion"
        )
    if may_repeat and options.field_validation != "Ignore":
        # The registry tells of them, together with the unknown fields that it finds.
        options.faults = tuple(decoding.repeated_yaml_keys(body) if media == _YAML else decoding.repeated_keys(body))
    return obj


def _check_custom(body: bytes, name: str, given_version: Any, given_kind: Any, api_version: str) -> None:
    """A custom object says what it is itself. Raises BadRequest where it doesn't."""
    if not given_kind:
        missing = f"Object 'Kind' is missing in '{body.decode(errors='replace')}' ({decoding.summary(body)})"
        raise BadRequest(f"the object provided is unrecognized (must be of type {name}): {missing}")
    if not given_version:
        raise BadRequest(f"the API version in the data () does not match the expected API version ({api_version})")


def _is_near(given: str, api_version: str) -> bool:
    """An eviction may still be sent in the version before."""
    return given == "policy/v1beta1" and api_version == "policy/v1"


def expected(kind: Kind, subresource: str) -> tuple[str, str]:
    """The apiVersion and kind that a body of this URL has."""
    if subresource:
        row = kind.subresources[subresource]
        if row.version:
            return (f"{row.group}/{row.version}" if row.group else row.version), row.kind
        return kind.api_version, row.kind
    return kind.api_version, kind.kind
