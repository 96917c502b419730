"""Content negotiation: what a client accepts, and what it sends.

Accept headers are few and repeat, so each is parsed once. Protobuf is read but never written: a client that accepts it
also accepts JSON, else it gets 406.

Source: apiserver pkg/endpoints/handlers/negotiation, v0.34.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kubelite.meta.errors import NotAcceptable, UnsupportedMediaType

Form = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"]

_JSON = ("application/json", "application/*", "*/*", "text/json")
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
READABLE = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


@dataclass(frozen=True, slots=True)
class Media:
    """What to answer with: the encoding, and what the object is turned into (`form`, in `version` of its group)."""

    encoding: Literal["json", "yaml"] = "json"
    form: Form = ""
    group: str = ""
    version: str = ""

    @property
    def content_type(self) -> bytes:
        if self.form == "":
            return b"application/json" if self.encoding == "json" else b"application/yaml"
        if self.form == "APIGroupDiscoveryList":
            text = f"application/json;g={self.group};v={self.version};as={self.form}"
            return text.encode()
        return b"application/json" if self.encoding == "json" else b"application/yaml"


PLAIN = Media()


@lru_cache(maxsize=512)
def accepted(accept: str, *, discovery: bool = False, plain: bool = False) -> Media:
    """The best of what `accept` allows. `plain`: the answer has no other form than its own.

    Raises:
        ApiError: with 406, when it allows nothing that is served.
    """
    if not accept:
        return PLAIN
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
        clauses.append((quality, media.strip().lower(), values))
    clauses.sort(key=lambda c: -c[0])
    for quality, media, values in clauses:
        if quality <= 0:
            continue
        encoding: Literal["json", "yaml"]
        if media in _JSON:
            encoding = "json"
        elif media in _YAML:
            encoding = "yaml"
        else:
            continue
        form = values.get("as", "")
        if not form:
            return Media(encoding)
        group, version = values.get("g", ""), values.get("v", "")
        if discovery and form == "APIGroupDiscoveryList":
            if group == "apidiscovery.k8s.io" and version in ("v2", "v2beta1"):
                return Media("json", "APIGroupDiscoveryList", group, version)
            continue
        if not discovery and not plain and group == "meta.k8s.io" and version in ("v1", "v1beta1"):
            if form == "Table":
                return Media(encoding, "Table", group, version)
            if form == "PartialObjectMetadata":
                return Media(encoding, "PartialObjectMetadata", group, version)
            if form == "PartialObjectMetadataList":
                return Media(encoding, "PartialObjectMetadataList", group, version)
    listed = ", ".join(("application/json", "application/yaml"))
    raise NotAcceptable(f"only the following media types are accepted: {listed}")


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
