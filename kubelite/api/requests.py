"""What a handler is given and what it gives back: a Request, and a Reply.

`parse_path` makes of a URL's path and method what Kubernetes calls the request info. It is pure, runs for every request and
therefore splits by hand.

Source: apiserver pkg/endpoints/request/requestinfo.go, v0.34.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from kubelite.meta.errors import ApiError, BadRequest, RequestEntityTooLarge
from kubelite.meta.users import User

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubelite.api.connections import Connection
    from kubelite.schema.kinds import Kind

#: Upstream's limit for a request body.
MAX_BODY_BYTES = 3 * 1024 * 1024
MAX_QUERY_FIELDS = 256

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset(("status", "finalize"))
_SELECTOR_VERBS = frozenset(("list", "watch", "deletecollection"))

Query = dict[str, list[str]]


class PathError(ApiError):
    """A path that no handler can be found for."""

    reason, code = "NotFound", 404


@dataclass(slots=True)
class RequestInfo:
    """What a request asks for. `parts` is what follows a resource's subresource, such as a proxied path."""

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    field_selector: str = ""
    label_selector: str = ""


def parse_query(text: str) -> Query:
    """Every value of every query parameter, in order."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as e:
        raise BadRequest(f"invalid query: {e}") from e
    query: Query = {}
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    return query


def is_true(values: "list[str] | None") -> bool:
    """How Kubernetes reads a boolean query parameter: present, and neither false nor 0."""
    return values is not None and bool(values) and values[0].lower() not in ("false", "0")


def parse_path(method: str, path: str, query: Query) -> RequestInfo:
    """Raises PathError where the path has the legacy watch prefix and nothing behind it."""
    parts = path[1:].rstrip("/").split("/")
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return RequestInfo(method.lower(), path)
    if parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) < 4:
        return RequestInfo(method.lower(), path)
    else:
        group, version, rest = parts[1], parts[2], parts[3:]
    verb = _VERBS.get(method, "")
    if rest[0] == "watch" and method == "GET":
        if len(rest) < 2:
            raise PathError(f"unable to determine kind and namespace from url, {path}")
        verb, rest = "watch", rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    count = len(rest)
    name = rest[1] if count > 1 else ""
    if not name:
        if verb == "get":
            verb = "watch" if is_true(query.get("watch")) else "list"
        elif verb == "delete":
            verb = "deletecollection"
    info = RequestInfo(verb, path, True, group, version, namespace, rest[0], rest[2] if count > 2 else "", name)
    if count > 3:
        info.parts = tuple(rest[3:])
    if verb in _SELECTOR_VERBS and query:
        if "fieldSelector" in query:
            info.field_selector = query["fieldSelector"][0]
            if not name:
                info.name = _name_in(info.field_selector)
        if "labelSelector" in query:
            info.label_selector = query["labelSelector"][0]
    return info


def _name_in(field_selector: str) -> str:
    """The one name that a field selector allows, or an empty string."""
    for term in field_selector.split(","):
        key, equals, value = term.partition("=")
        if equals and key == "metadata.name":
            return value.removeprefix("=")
    return ""


class Request:
    """One request on its way through the chain. The filters fill in who asks and what for."""

    __slots__ = (
        "_query",
        "audit_annotations",
        "connection",
        "headers",
        "id",
        "impersonator",
        "info",
        "kind",
        "method",
        "path",
        "payload",
        "query_text",
        "raw_path",
        "received",
        "reply_headers",
        "status",
        "user",
        "warnings",
    )

    def __init__(self, connection: "Connection", method: str, target: str, headers: "Mapping[str, str]", payload: Any) -> None:
        self.connection = connection
        self.method = method
        self.headers = headers
        self.payload = payload
        path, _, self.query_text = target.partition("?")
        self.raw_path = path
        self.path = unquote(path) if "%" in path else path
        self._query: Query | None = None
        self.id = ""
        self.info: RequestInfo
        self.kind: Kind | None = None
        #: Who the request is carried out as.
        self.user: User
        #: Who really asks, where that is somebody else.
        self.impersonator: User | None = None
        #: Head lines that every reply of this request carries (audit id, flow schema).
        self.reply_headers = b""
        self.warnings: list[str] = []
        self.received = 0.0
        #: The code that was answered, for audit and metrics; 0 until then.
        self.status = 0
        self.audit_annotations: dict[str, str] | None = None

    @property
    def query(self) -> Query:
        if self._query is None:
            self._query = parse_query(self.query_text)
        return self._query

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises RequestEntityTooLarge past `limit` bytes, BadRequest when it can't be read."""
        payload = self.payload
        if payload.is_eof() and payload.total_bytes <= limit:
            return bytes(payload.read_nowait()) if not payload.at_eof() else b""
        length = self.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > limit:
            raise self._too_large(limit)
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks: list[bytes] = []
        size = 0
        while not payload.at_eof():
            chunk = await payload.readany()
            size += len(chunk)
            if size > limit:
                raise self._too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, limit: int) -> RequestEntityTooLarge:
        self.connection.close_after_reply = True
        return RequestEntityTooLarge(f"Request entity too large: limit is {limit}")


def warning_lines(warnings: list[str]) -> bytes:
    """Head lines with warnings, bounded in number and size as upstream bounds them."""
    lines, size = [], 0
    for text in dict.fromkeys(warnings):
        clean = "".join(c if c.isprintable() else " " for c in text)[:1024]
        quoted = clean.replace("\\", "\\\\").replace('"', '\\"')
        line = f'Warning: 299 - "{quoted}"\r\n'.encode()
        size += len(line)
        if size > 4096:
            break
        lines.append(line)
    return b"".join(lines)


@dataclass(slots=True)
class Reply:
    """A whole answer. `headers` are further head lines, each ending with CRLF."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: bytes = b""
    #: A long body in pieces that are made as they are written; `length` is what they come to. `body` is then empty.
    pieces: "Iterator[bytes] | None" = None
    length: int = 0
    cache_control: bytes = b"no-cache, private"


@dataclass(slots=True)
class Streamed:
    """The handler has written its answer itself."""

    status: int = 200
    #: Nothing more can be sent on this connection (it was upgraded, or the stream's end is the connection's end).
    closed: bool = field(default=False)
