"""Who a request comes from: client certificates, service account tokens and bootstrap tokens, asked in this order.

Credentials that are absent give None (the chain of filters makes that the anonymous user); wrong ones raise Unauthorized,
and never fall through to a weaker method.
"""

import hashlib
import time
from collections.abc import Callable

from kubelite.auth import bootstrap_tokens
from kubelite.auth.contract import Authenticator, Credentials
from kubelite.auth.tokens import Lookup, ServiceAccountTokens
from kubelite.meta import errors
from kubelite.meta.users import AUTHENTICATED_GROUP, User

_CACHED_CERTIFICATES = 8192


class Chain:
    """Asks each authenticator until one knows the credentials."""

    def __init__(self, *authenticators: Authenticator) -> None:
        self._authenticators = authenticators

    @classmethod
    def of(cls, tokens: ServiceAccountTokens, lookup: Lookup) -> "Chain":
        """The chain of a server: certificates, service accounts, bootstrap tokens."""
        return cls(Certificates(), ServiceAccounts(tokens), BootstrapTokens(lookup))

    async def authenticate(self, credentials: Credentials) -> User | None:
        for authenticator in self._authenticators:
            user = await authenticator.authenticate(credentials)
            if user is not None:
                return user
        if credentials.token:
            raise errors.Unauthorized("Unauthorized")
        return None


class Certificates:
    """The subject of a client certificate that TLS has verified: common name and organizations. What a certificate says is
    parsed once; its end is checked at each use, since a connection may outlive its certificate."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._known: dict[bytes, tuple[User, float]] = {}
        self._clock = clock

    async def authenticate(self, credentials: Credentials) -> User | None:
        der = credentials.certificate_der
        if der is None:
            return None
        found = self._known.get(der)
        if found is None:
            found = parse_certificate(der)
            if len(self._known) >= _CACHED_CERTIFICATES:
                self._known.clear()
            self._known[der] = found
        user, expires_at_s = found
        if self._clock() > expires_at_s:
            raise errors.Unauthorized("client certificate has expired: connect again with a new one")
        return user


class ServiceAccounts:
    """Tokens that name our issuer. Others are left to the next authenticator."""

    def __init__(self, tokens: ServiceAccountTokens) -> None:
        self._tokens = tokens

    async def authenticate(self, credentials: Credentials) -> User | None:
        token = credentials.token
        if not token or not self._tokens.is_issuer_of(token):
            return None
        user, _ = self._tokens.verify(token)
        return user


class BootstrapTokens:
    """Tokens of the bootstrap form; `lookup` must answer for secrets of kube-system."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def authenticate(self, credentials: Credentials) -> User | None:
        if not credentials.token:
            return None
        return bootstrap_tokens.verify(credentials.token, lambda name: self._lookup("secrets", bootstrap_tokens.NAMESPACE, name))


def parse_certificate(der: bytes) -> tuple[User, float]:
    """The identity in a certificate, and when it ends (seconds since the epoch).

    Raises:
        Unauthorized: it can't be parsed or has no common name.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        try:
            usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        except x509.ExtensionNotFound:
            usages = []
    except ValueError as error:
        raise errors.Unauthorized("client certificate can't be parsed") from error
    if not names:
        raise errors.Unauthorized("client certificate has no common name")
    if usages and ExtendedKeyUsageOID.CLIENT_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        raise errors.Unauthorized("client certificate is not for client authentication")
    all_groups = dict.fromkeys((*(str(group.value) for group in groups), AUTHENTICATED_GROUP))
    extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={hashlib.sha256(der).hexdigest()}"]}
    return User(str(names[0].value), tuple(all_groups), "", extra), certificate.not_valid_after_utc.timestamp()
