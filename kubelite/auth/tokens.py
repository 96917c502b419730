"""Service account tokens: ES256 JWTs, bound to a pod, secret or node, that end with what they are bound to.

Issues what the TokenRequest API returns, and verifies them: signature, issuer, audience, times, and that the service
account and the bound object still exist with the uid in the token. A verified signature is remembered (verifying costs
a tenth of a millisecond), what the token is bound to is looked up at every use.

Source: kubernetes pkg/serviceaccount {claims,legacy,jwt}.go, v1.34; KEP-1205, KEP-4193.
"""

import base64
import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from kubelite.auth import pki
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import AUTHENTICATED_GROUP, SERVICE_ACCOUNT_PREFIX, User

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

#: The newest state of an object by resource, namespace and name; None where there is none.
Lookup: TypeAlias = Callable[[str, str, str], Obj | None]

LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY_CLAIM = "kubernetes.io/serviceaccount"
MIN_LIFETIME_S = 600
MAX_LIFETIME_S = 1 << 32
#: A token outlives the deletion of what it is bound to by this long, so that a pod can use it while it ends.
DELETION_LEEWAY_S = 60
_CACHED_TOKENS = 4096
MAX_TOKEN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """An object that a token is bound to."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token and the time (seconds since the epoch) when it expires."""

    token: str
    expires_at_s: int


class ServiceAccountTokens:
    """Issues and verifies with one key. `lookup` must answer for serviceaccounts, pods, secrets and nodes."""

    def __init__(
        self,
        key: "ec.EllipticCurvePrivateKey",
        lookup: Lookup,
        *,
        issuer: str = "https://kubernetes.default.svc.cluster.local",
        audiences: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._lookup = lookup
        self.issuer = issuer
        #: What a token without other audiences is for: the API server.
        self.audiences = tuple(audiences) or (issuer,)
        self._clock = clock
        self.key_id = _key_id(self._public)
        self._verified: dict[str, dict[str, Any]] = {}

    @classmethod
    def load_or_create(cls, directory: Path | str, lookup: Lookup, **options: Any) -> "ServiceAccountTokens":
        """With the key in `directory`/service-account.key, made there when there is none."""
        return cls(pki.load_or_create_key(Path(directory) / "service-account.key"), lookup, **options)

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str] = (),
        lifetime_s: int = 3600,
        pod: Bound | None = None,
        secret: Bound | None = None,
        node: Bound | None = None,
    ) -> Issued:
        """A token of a service account. With a pod, `node` is where it runs; alone, the token is bound to the node."""
        now = int(self._clock())
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        for field, bound in (("pod", pod), ("secret", secret), ("node", node)):
            if bound is not None:
                private[field] = {"name": bound.name, "uid": bound.uid}
        claims = {
            "aud": list(audiences or self.audiences),
            "exp": now + lifetime_s,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        }
        return Issued(self._sign(claims), now + lifetime_s)

    def issue_legacy(self, namespace: str, name: str, uid: str, secret_name: str) -> str:
        """The token of a secret of type kubernetes.io/service-account-token: it lives as long as the secret."""
        return self._sign(
            {
                "iss": LEGACY_ISSUER,
                f"{_LEGACY_CLAIM}/namespace": namespace,
                f"{_LEGACY_CLAIM}/secret.name": secret_name,
                f"{_LEGACY_CLAIM}/service-account.name": name,
                f"{_LEGACY_CLAIM}/service-account.uid": uid,
                "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
            }
        )

    def is_issuer_of(self, token: str) -> bool:
        """Whether a token claims to be ours, read without verifying anything: says who should verify it."""
        if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
            return False
        if token in self._verified:
            return True
        try:
            return orjson.loads(_decoded(token.split(".")[1])).get("iss") in (self.issuer, LEGACY_ISSUER)
        except (ValueError, AttributeError):
            return False

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]]:
        """The service account's identity, and which of the asked audiences (default: the API server's) the token is for.

        Raises:
            Unauthorized: the token is not valid, not for these audiences, or what it is bound to is gone.
        """
        claims = self._verified.get(token) or self._claims(token)
        now = self._clock()
        asked = tuple(audiences) or self.audiences
        if claims["iss"] == LEGACY_ISSUER:
            return self._legacy_user(claims, token), tuple(a for a in asked if a in self.audiences)
        if now >= claims["exp"] or now < claims["nbf"] - 10:
            self._verified.pop(token, None)
            raise errors.Unauthorized("service account token has expired or is not valid yet")
        matching = tuple(audience for audience in asked if audience in claims["aud"])
        if not matching:
            raise errors.Unauthorized(f"token audiences {claims['aud']!r} is invalid for the target audiences {list(asked)!r}")
        return self._user(claims), matching

    def jwks(self) -> Obj:
        """The public key, as served under /openid/v1/jwks."""
        numbers = self._public.public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "EC",
                    "kid": self.key_id,
                    "crv": "P-256",
                    "alg": "ES256",
                    "x": _encoded(numbers.x.to_bytes(32, "big")),
                    "y": _encoded(numbers.y.to_bytes(32, "big")),
                }
            ]
        }

    def openid_configuration(self, jwks_uri: str) -> Obj:
        """The discovery document, as served under /.well-known/openid-configuration."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _sign(self, claims: dict[str, Any]) -> str:
        import jwt

        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self.key_id})

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        if len(token) > MAX_TOKEN_BYTES:
            raise errors.Unauthorized("service account token is too long")
        try:
            # Times and audiences are checked at each use, here only what never changes: signature, form and issuer.
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["ES256"],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "require": ["iss", "sub"],
                },
            )
        except jwt.PyJWTError as error:
            raise errors.Unauthorized(f"service account token is not valid: {error}") from error
        bound = claims.get("kubernetes.io")
        is_bound = claims["iss"] == self.issuer and isinstance(bound, dict) and all(k in claims for k in ("exp", "nbf", "aud"))
        if not is_bound and claims["iss"] != LEGACY_ISSUER:
            raise errors.Unauthorized("service account token is of another issuer or form")
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def _user(self, claims: dict[str, Any]) -> User:
        private = claims["kubernetes.io"]
        namespace, account = private["namespace"], private["serviceaccount"]
        self._require("serviceaccounts", namespace, account["name"], account["uid"])
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]} if "jti" in claims else {}
        secret, pod, node = private.get("secret"), private.get("pod"), private.get("node")
        if secret is not None:
            self._require("secrets", namespace, secret["name"], secret["uid"])
        if pod is not None:
            self._require("pods", namespace, pod["name"], pod["uid"])
            extra["authentication.kubernetes.io/pod-name"] = [pod["name"]]
            extra["authentication.kubernetes.io/pod-uid"] = [pod["uid"]]
        if node is not None:
            if pod is None:
                self._require("nodes", "", node["name"], node["uid"])
            extra["authentication.kubernetes.io/node-name"] = [node["name"]]
            if node.get("uid"):
                extra["authentication.kubernetes.io/node-uid"] = [node["uid"]]
        return service_account_user(namespace, account["name"], account["uid"], extra)

    def _legacy_user(self, claims: dict[str, Any], token: str) -> User:
        namespace, name = claims[f"{_LEGACY_CLAIM}/namespace"], claims[f"{_LEGACY_CLAIM}/service-account.name"]
        uid = claims[f"{_LEGACY_CLAIM}/service-account.uid"]
        self._require("serviceaccounts", namespace, name, uid)
        secret = self._lookup("secrets", namespace, claims[f"{_LEGACY_CLAIM}/secret.name"])
        kept = ((secret or {}).get("data") or {}).get("token", "")
        if secret is None or base64.b64decode(kept) != token.encode():
            raise errors.Unauthorized("service account token's secret is gone or holds another token")
        return service_account_user(namespace, name, uid)

    def _require(self, resource: str, namespace: str, name: str, uid: str) -> None:
        obj = self._lookup(resource, namespace, name)
        if obj is None or obj["metadata"].get("uid") != uid:
            raise errors.Unauthorized(f"service account token is bound to {resource} {name!r}, which is gone")
        deleted = obj["metadata"].get("deletionTimestamp")
        if deleted is not None and _seconds(deleted) + DELETION_LEEWAY_S < self._clock():
            raise errors.Unauthorized(f"service account token is bound to {resource} {name!r}, which was deleted")


def service_account_user(namespace: str, name: str, uid: str = "", extra: dict[str, list[str]] | None = None) -> User:
    """The identity of a service account, with the groups that it is in."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED_GROUP)
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid, extra or {})


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def _key_id(key: "ec.EllipticCurvePublicKey") -> str:
    """As Kubernetes names keys: the unpadded base64url SHA-256 of the public key's DER form."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _encoded(hashlib.sha256(der).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
