"""The errors that an API client sees, each a Kubernetes Status.

`ApiError` carries reason, code and details; a subclass is a reason with its code. Whoever finds a fault raises one of
these; the outer filter of the API renders it with `status()`. Nothing here knows of HTTP beyond the code.

Source: apimachinery pkg/api/errors and pkg/util/validation/field, v0.34.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kubelite.meta.types import Obj


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault in one field: `reason` is a field cause type such as FieldValueInvalid, `message` the text after the path."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def required(field: str, detail: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {format_value(value)}{detail and ': '}{detail}")


def not_supported(field: str, value: Any, allowed: Iterable[str]) -> Cause:
    listed = ", ".join(f'"{item}"' for item in sorted(allowed))
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {format_value(value)}: supported values: {listed}")


def duplicate(field: str, value: Any) -> Cause:
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {format_value(value)}")


def forbidden(field: str, detail: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {detail}")


def not_found(field: str, value: Any) -> Cause:
    return Cause(field, "FieldValueNotFound", f"Not found: {format_value(value)}")


def too_long(field: str, limit: int) -> Cause:
    return Cause(field, "FieldValueTooLong", f"Too long: may not be more than {limit} {'byte' if limit == 1 else 'bytes'}")


def too_many(field: str, actual: int, limit: int) -> Cause:
    return Cause(field, "FieldValueTooMany", f"Too many: {actual}: must have at most {limit} {'item' if limit == 1 else 'items'}")


def format_value(value: Any) -> str:
    """A value as a field error prints it: strings quoted, the rest as JSON."""
    import orjson  # needed only to explain a failure

    return orjson.dumps(value, default=str).decode()


class ApiError(Exception):
    """A failed request. `reason` and `code` are those of the Status; `message` names object, field, cause and remedy."""

    reason = "InternalError"
    code = 500

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        uid: str = "",
        causes: Sequence[Cause] = (),
        retry_after_s: int = 0,
        reason: str | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.group, self.kind, self.name, self.uid = group, kind, name, uid
        self.causes = tuple(causes)
        self.retry_after_s = retry_after_s
        if reason is not None:
            self.reason = reason
        if code is not None:
            self.code = code

    def status(self) -> Obj:
        """The Status object that a client gets."""
        details: Obj = {}
        for key, value in (("name", self.name), ("group", self.group), ("kind", self.kind), ("uid", self.uid)):
            if value:
                details[key] = value
        if self.causes:
            causes = ({"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes)
            details["causes"] = [{name: text for name, text in cause.items() if text} for cause in causes]
        if self.retry_after_s:
            details["retryAfterSeconds"] = self.retry_after_s
        status: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            status["reason"] = self.reason
        if details:
            status["details"] = details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: Obj) -> "ApiError":
        """The error that a Status from a server stands for, of the subclass of its reason."""
        reason = status.get("reason", "")
        details = status.get("details") or {}
        subclass = next((c for c in ApiError.__subclasses__() if c.reason == reason), ApiError)
        return subclass(
            status.get("message", ""),
            group=details.get("group", ""),
            kind=details.get("kind", ""),
            name=details.get("name", ""),
            uid=details.get("uid", ""),
            causes=[Cause(c.get("field", ""), c.get("reason", ""), c.get("message", "")) for c in details.get("causes") or ()],
            retry_after_s=details.get("retryAfterSeconds", 0),
            reason=reason,
            code=status.get("code", 500),
        )


class BadRequest(ApiError):
    reason, code = "BadRequest", 400


class Unauthorized(ApiError):
    reason, code = "Unauthorized", 401


class Forbidden(ApiError):
    reason, code = "Forbidden", 403


class NotFound(ApiError):
    reason, code = "NotFound", 404

    @classmethod
    def of(cls, group: str, plural: str, name: str) -> "NotFound":
        """`pods "web" not found`, with the details that clients look at."""
        resource = f"{plural}.{group}" if group else plural
        return cls(f'{resource} "{name}" not found', group=group, kind=plural, name=name)


class MethodNotAllowed(ApiError):
    reason, code = "MethodNotAllowed", 405


class NotAcceptable(ApiError):
    reason, code = "NotAcceptable", 406


class AlreadyExists(ApiError):
    reason, code = "AlreadyExists", 409

    @classmethod
    def of(cls, group: str, plural: str, name: str) -> "AlreadyExists":
        resource = f"{plural}.{group}" if group else plural
        return cls(f'{resource} "{name}" already exists', group=group, kind=plural, name=name)


class Conflict(ApiError):
    reason, code = "Conflict", 409

    @classmethod
    def of(cls, group: str, plural: str, name: str, why: str) -> "Conflict":
        """`Operation cannot be fulfilled on pods "web": ...`."""
        resource = f"{plural}.{group}" if group else plural
        return cls(f'Operation cannot be fulfilled on {resource} "{name}": {why}', group=group, kind=plural, name=name)


class Gone(ApiError):
    reason, code = "Gone", 410


class Expired(ApiError):
    """The resource version or continue token asked for is no longer kept."""

    reason, code = "Expired", 410


class RequestEntityTooLarge(ApiError):
    reason, code = "RequestEntityTooLarge", 413


class UnsupportedMediaType(ApiError):
    reason, code = "UnsupportedMediaType", 415


class Invalid(ApiError):
    reason, code = "Invalid", 422

    @classmethod
    def of(cls, group: str, kind: str, name: str, causes: Sequence[Cause]) -> "Invalid":
        """`Pod "web" is invalid: spec.containers: Required value`, one cause or a bracketed list of them."""
        qualified = f"{kind}.{group}" if group else kind
        texts = [str(c) for c in causes]
        detail = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return cls(f'{qualified} "{name}" is invalid: {detail}', group=group, kind=kind, name=name, causes=causes)


class TooManyRequests(ApiError):
    reason, code = "TooManyRequests", 429


class InternalError(ApiError):
    reason, code = "InternalError", 500

    @classmethod
    def of(cls, detail: str) -> "InternalError":
        return cls(f"Internal error occurred: {detail}", causes=[Cause("", "", detail)])


class ServiceUnavailable(ApiError):
    reason, code = "ServiceUnavailable", 503


class Timeout(ApiError):
    """The request did not finish in the time it was given."""

    reason, code = "Timeout", 504


class ServerTimeout(ApiError):
    """The server could not finish now and the client may try again after `retry_after_s`."""

    reason, code = "ServerTimeout", 500
