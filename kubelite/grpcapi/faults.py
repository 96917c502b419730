"""ApiErrors on the gRPC wire: the nearest code, the message, the whole Status in a trailer. The only place that maps codes."""

from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

import grpc
import orjson
import structlog

from kubelite.meta.errors import ApiError, InternalError

log = structlog.get_logger()

STATUS_TRAILER = "kubelite-status-bin"
_BY_REASON = {"AlreadyExists": grpc.StatusCode.ALREADY_EXISTS, "Expired": grpc.StatusCode.OUT_OF_RANGE}
_BY_CODE = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.OUT_OF_RANGE,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Context(Protocol):
    """What of a gRPC call's context this package uses (grpcio has no types)."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, bytes], ...]) -> None: ...

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...

    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...


def code_of(error: ApiError) -> grpc.StatusCode:
    return _BY_REASON.get(error.reason) or _BY_CODE.get(error.code, grpc.StatusCode.INTERNAL)


async def abort(context: Context, error: Exception) -> NoReturn:
    """Ends the call with an error; what is not an ApiError is logged and told as an internal one."""
    if not isinstance(error, ApiError):
        log.error("grpc_call_failed", exc_info=error)
        error = InternalError.of(type(error).__name__)
    await context.abort(code_of(error), error.message, ((STATUS_TRAILER, orjson.dumps(error.status())),))
    raise AssertionError("abort returns never")
