"""Content negotiation: what a client accepts, and what it sends.

Accept headers are few and repeat, so each is parsed once. Who accepts protobuf and JSON gets JSON, which costs least here: stored
bytes are sent as they are.

Source: apiserver pkg/endpoints/handlers/negotiation, v0.34.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kubelite.meta.errors import NotAcceptable, UnsupportedMediaType

Form = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"]

_JSON = ("application/json", "application/*", "*/*", "text/json")
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
PROTOBUF = "application/vnd.kubernetes.protobuf"
READABLE = ("application/json", "application/yaml", PROTOBUF)
#: OpenAPI v2 as a message; clients also ask for it by the older name.
SWAGGER = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_SWAGGER_BEFORE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
Encoding = Literal["json", "yaml", "protobuf"]
_CONTENT_TYPES: dict[Encoding, bytes] = {
    "json": b"application/json",
    "yaml": b"application/yaml",
    "protobuf": PROTOBUF.encode(),
}


@dataclass(frozen=True, slots=True)
class Media:
    """What to answer with: the encoding, and what the object is turned into (`form`, in `version` of its group)."""

    encoding: Encoding = "json"
    form: Form = ""
    group: str = ""
    version: str = ""

    @property
    def content_type(self) -> bytes:
        if self.form == "APIGroupDiscoveryList":
            text = f"application/json;g={self.group};v={self.version};as={self.form}"
            return text.encode()
        return _CONTENT_TYPES[self.encoding]


PLAIN = Media()


@lru_cache(maxsize=512)
def accepted(accept: str, *, discovery: bool = False, plain: bool = False, custom: bool = False) -> Media:
    """The best of what `accept` allows. `plain`: the answer has no other form than its own; `custom`: it is of a custom kind.

    Raises:
        ApiError: with 406, when it allows nothing that is served.
    """
    if not accept:
        return PLAIN
    in_protobuf: Media | None = None
    known = False
    for media, values in _clauses(accept):
        encoding: Encoding
        if media in _JSON:
            encoding = "json"
        elif media in _YAML:
            encoding = "yaml"
        elif media == PROTOBUF and not discovery:
            encoding = "protobuf"
        else:
            continue
        known = True
        found = _in_form(encoding, values, discovery=discovery, plain=plain)
        if found is None:
            continue
        if encoding != "protobuf":
            return found
        if in_protobuf is None and found.form != "Table" and (found.form or not custom):
            in_protobuf = found
    if in_protobuf is not None:
        return in_protobuf
    listed = ", ".join(READABLE[:2] if custom or discovery else READABLE)
    if not known and not custom:
        raise NotAcceptable(f"406: Not Acceptable\n\nAvailable representations: {listed}")
    raise NotAcceptable(f"only the following media types are accepted: {listed}")


@lru_cache(maxsize=64)
def accepted_document(accept: str, *, message: bool = False) -> str:
    """The media type of an OpenAPI document: JSON, or what it is as a `message` where there is such; empty for neither."""
    if not accept:
        return "application/json"
    for media, _ in _clauses(accept):
        if media in _JSON:
            return "application/json"
        if message and media in (SWAGGER, _SWAGGER_BEFORE):
            return SWAGGER
    return ""


def _clauses(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The media types of an Accept header with their parameters, the preferred ones first."""
    clauses: list[tuple[float, str, dict[str, str]]] = []
    for clause in accept[:4096].split(","):
        media, *parameters = clause.strip().split(";")
        values = {}
        for parameter in parameters:
            key, _, value = parameter.strip().partition("=")
            values[key.lower()] = value.strip('"')
        try:
            quality = float(values.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            clauses.append((quality, media.strip().lower(), values))
    clauses.sort(key=lambda c: -c[0])
    return [(media, values) for _, media, values in clauses]


def _in_form(encoding: Encoding, values: Mapping[str, str], *, discovery: bool, plain: bool) -> Media | None:
    """What a clause means; None where there is no such form."""
    form, group, version = values.get("as", ""), values.get("g", ""), values.get("v", "")
    if not form:
        return Media(encoding)
    if discovery:
        fits = form == "APIGroupDiscoveryList" and group == "apidiscovery.k8s.io" and version in ("v2", "v2beta1")
        return Media("json", "APIGroupDiscoveryList", group, version) if fits else None
    if plain or group != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    match form:
        case "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList":
            return Media(encoding, form, group, version)
    return None


@lru_cache(maxsize=256)
def sent(content_type: str) -> str:
    """The media type of a body, without parameters; JSON where none is given.

    Raises:
        UnsupportedMediaType: it can't be read.
    """
    media = content_type.partition(";")[0].strip().lower()
    if not media:
        return "application/json"
    if media in _YAML:
        return "application/yaml"
    if media in READABLE:
        return media
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(READABLE)}"
    )
