"""Who may do what: the two questions that the request chain asks, as protocols.

`auth.authenticators` and `auth.rbac`/`auth.nodes` answer them; api/ and grpcapi/ only ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kubelite.meta.users import User


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection and a request show: the bearer token (empty: none) and the verified client certificate as Python's
    `ssl.SSLSocket.getpeercert(binary_form=True)` gives it (None: none; the TLS layer has verified it against the CA)."""

    token: str = ""
    certificate_der: bytes | None = None


class Authenticator(Protocol):
    async def authenticate(self, credentials: Credentials) -> User | None:
        """The identity, or None where the credentials are absent. Raises Unauthorized where they are wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """One request as authorization sees it: a resource's, or with `path` set a non-resource URL's."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""
    #: What else a caller knows, for SubjectAccessReview; authorizers must not need it.
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`allowed` None means no opinion; `reason` goes into the Forbidden message and the review's status."""

    allowed: bool | None
    reason: str = ""


class Authorizer(Protocol):
    def authorize(self, access: Access) -> Decision:
        """Synchronous: rules are in memory (an informer's cache), and every request asks."""
        ...
