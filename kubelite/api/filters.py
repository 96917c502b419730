"""The request chain, whole and in order, in `Chain.serve`.

Panic guard, request id, request info, deadline, authentication, impersonation, priority and fairness, authorization, then
the handler; audit and metrics see the outcome. Everything that goes wrong comes out here, as one Status.
"""

import asyncio
import os
from typing import TYPE_CHECKING

import orjson
import structlog

from kubelite.api import audit, handlers, negotiation
from kubelite.api.connections import Disconnected
from kubelite.api.impersonation import impersonated
from kubelite.api.requests import Reply, Request, RequestInfo, parse_path, warning_lines
from kubelite.auth.authorizers import require
from kubelite.auth.contract import Access, Credentials
from kubelite.meta import errors, times
from kubelite.meta.errors import ApiError
from kubelite.meta.users import ANONYMOUS, MASTERS_GROUP, UNAUTHENTICATED_GROUP, User

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.api.fairness import Level

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 60.0
TIMED_OUT = "Timeout: request did not complete within requested timeout - context deadline exceeded"
#: How long an authentication holds without being asked for again.
AUTHENTICATION_CACHE_S = 10.0
AUTHENTICATION_CACHE_SIZE = 4096

_READING_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_LONG_RUNNING_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
_STREAMING_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "portforward"))
#: What a client without credentials may ask: whether the server lives.
_ANONYMOUS_PATHS = ("/healthz", "/livez", "/readyz", "/.well-known/kubelite")
_ANONYMOUS_USER = User(ANONYMOUS, (UNAUTHENTICATED_GROUP,))


def is_long_running(info: RequestInfo) -> bool:
    return info.is_resource and (info.verb == "watch" or info.subresource in _LONG_RUNNING_SUBRESOURCES)


def timeout_of(request: Request) -> float:
    """The seconds that a request may take: what it asks for, and no more than any.

    Raises:
        BadRequest: it asks for something that is no length of time.
    """
    if "timeout=" not in request.query_text:
        return REQUEST_TIMEOUT_S
    text = request.query.get("timeout", [""])[0]
    try:
        wanted = times.parse_go_duration(text) if text else 0.0
    except ValueError as e:
        raise errors.BadRequest(f"invalid timeout specified in the request URL - {e}") from e
    return wanted if 0 < wanted < REQUEST_TIMEOUT_S else REQUEST_TIMEOUT_S


class Chain:
    def __init__(self, api: "Api") -> None:
        self._api = api
        self._loop = asyncio.get_running_loop()
        prefix = os.urandom(10).hex()
        self._id_prefix = f"{prefix[:8]}-{prefix[8:12]}-4{prefix[13:16]}-a{prefix[17:20]}-"
        self._count = 0
        self._users: dict[tuple[str, bytes | None], tuple[float, User]] = {}

    async def serve(self, request: Request) -> None:
        """Answers one request. Raises only when the connection is over."""
        api, connection = self._api, request.connection
        request.received = started = self._loop.time()
        self._count += 1
        request.id = request.headers.get("Audit-Id", "")[:64] or f"{self._id_prefix}{self._count:012x}"
        request.user = _ANONYMOUS_USER
        if api.audit is not None:
            audit.current.set(request)
        request.info = RequestInfo(request.method.lower(), request.path)
        seat: Level | None = None
        reply: Reply | handlers.Streamed
        underway = api.metrics.underway
        sort = "readOnly" if request.method in _READING_METHODS else "mutating"
        underway[sort] += 1
        try:
            request.reply_headers = b"Audit-Id: %b\r\n" % request.id.encode("ascii", "replace")
            request.info = info = parse_path(request.method, request.path, request.query)
            if long_running := is_long_running(info):
                underway[sort] -= 1
                sort = "longRunning"
                underway[sort] += 1
                connection.cancel_on_disconnect = True
            else:
                connection.deadline = started + timeout_of(request)

            request.user = user = await self._authenticate(request)
            headers = request.headers
            if "Impersonate-User" in headers or "Impersonate-Group" in headers or "Impersonate-Uid" in headers:
                acting = impersonated(user, headers, api.authorizer)
                if acting is not user:
                    request.impersonator, request.user, user = user, acting, acting

            flow = api.fairness.classify(user, info)
            request.reply_headers += flow.headers
            level = flow.level
            if not level.exempt:
                if level.executing < level.seats:
                    level.executing += 1
                else:
                    await level.wait(flow.queue_of(user, info))
                seat = level
            if seat is not None and long_running:
                # A stream holds its seat only while it starts; afterwards it costs what its events cost.
                seat.release()
                seat = None

            if MASTERS_GROUP not in user.groups and info.path != "/.well-known/kubelite":
                self._authorize(user, info, request)
            reply = await handlers.dispatch(api, request)
        except ApiError as e:
            reply = failure(e, request)
        except asyncio.CancelledError:
            if not connection.timed_out or request.status:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            connection.timed_out = False
            reply = failure(errors.Timeout(TIMED_OUT), request)
        except Disconnected:
            raise
        except Exception as e:
            log.exception("request_failed", verb=request.info.verb, path=request.path, audit_id=request.id)
            reply = failure(errors.InternalError.of(type(e).__name__), request)
        finally:
            if seat is not None:
                seat.release()
            underway[sort] -= 1
        try:
            if isinstance(reply, Reply):
                if request.status:
                    # An answer had begun, so it can't be taken back: the end of the connection tells.
                    connection.close_after_reply = True
                else:
                    if request.warnings:
                        reply.headers += warning_lines(request.warnings)
                    await connection.reply(request, reply)
            elif reply.closed:
                connection.close_after_reply = True
        finally:
            duration_s = self._loop.time() - started
            api.metrics.observe(request, duration_s)
            if api.audit is not None:
                api.audit.record(request, duration_s)

    async def _authenticate(self, request: Request) -> User:
        connection = request.connection
        header = request.headers.get("Authorization", "")
        token = header[7:].strip() if header[:7].lower() == "bearer " else ""
        if not token and "Sec-WebSocket-Protocol" in request.headers:
            token = websocket_token(request.headers["Sec-WebSocket-Protocol"])
        key = (token, connection.certificate_der)
        if key == ("", None):
            return self._anonymous(request)
        found = self._users.get(key)
        if found is not None and found[0] > request.received:
            connection.authenticated = True
            return found[1]
        user = await self._api.authenticator.authenticate(Credentials(token, connection.certificate_der))
        if user is None:
            return self._anonymous(request)
        if len(self._users) >= AUTHENTICATION_CACHE_SIZE:
            self._users.clear()
        self._users[key] = (request.received + AUTHENTICATION_CACHE_S, user)
        connection.authenticated = True
        return user

    def _anonymous(self, request: Request) -> User:
        if request.path.startswith(_ANONYMOUS_PATHS):
            return _ANONYMOUS_USER
        raise errors.Unauthorized("Unauthorized")

    def _authorize(self, user: User, info: RequestInfo, request: Request) -> None:
        if info.is_resource:
            access = Access(
                user,
                info.verb,
                info.group,
                info.version,
                info.resource,
                info.subresource,
                info.namespace,
                info.name,
                "",
                info.field_selector,
                info.label_selector,
            )
        else:
            access = Access(user, info.verb, path=info.path)
        require(self._api.authorizer, access)


def failure(error: ApiError, request: Request) -> Reply:
    """A failed request's answer: in JSON, unless the client takes nothing but protobuf."""
    headers = b"Retry-After: %d\r\n" % error.retry_after_s if error.retry_after_s else b""
    reply = Reply(error.code, orjson.dumps(error.status()), headers=headers)
    if request.headers.get("Accept", "") == negotiation.PROTOBUF:
        from kubelite.schema import marshalling

        reply.body, reply.content_type = marshalling.encode(error.status()), negotiation.PROTOBUF.encode()
    return reply


def websocket_token(protocols: str) -> str:
    """The bearer token that browsers can only send as a websocket subprotocol."""
    import base64
    import binascii

    for protocol in protocols.split(","):
        name = protocol.strip()
        if name.startswith("base64url.bearer.authorization.k8s.io."):
            encoded = name.removeprefix("base64url.bearer.authorization.k8s.io.")
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError) as e:
                raise errors.Unauthorized("Unauthorized") from e
    return ""
