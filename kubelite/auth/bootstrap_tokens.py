"""Bootstrap tokens: what a new node shows to join, kept as secrets of kube-system.

A token is `ID.SECRET` with 6 and 16 characters; its secret is named `bootstrap-token-ID`. Verifying is a pure function of
the secret; create, list and revoke go through a Client and serve `kubelite token`.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/, plugin/pkg/auth/authenticator/token/bootstrap.
"""

import base64
import binascii
import hmac
import re
import secrets as random_source
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kubelite.client.contract import Client
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import AUTHENTICATED_GROUP, User

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
BOOTSTRAPPERS_GROUP = "system:bootstrappers"
USER_PREFIX = "system:bootstrap:"
_PREFIX = "bootstrap-token-"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

#: The secret of a name in kube-system, None where there is none.
GetSecret = Callable[[str], Obj | None]


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """A token as its secret says. `secret` is the part that must stay secret; `expires` None: never."""

    id: str
    secret: str
    description: str = ""
    expires: datetime | None = None
    usages: tuple[str, ...] = ("authentication", "signing")
    groups: tuple[str, ...] = field(default=("system:bootstrappers:kubelite:nodes",))

    @property
    def token(self) -> str:
        return f"{self.id}.{self.secret}"

    @property
    def is_expired(self) -> bool:
        return self.expires is not None and self.expires <= datetime.now(UTC)


def is_bootstrap_token(token: str) -> bool:
    """Whether a bearer token has the form of one."""
    return len(token) == 23 and _TOKEN.fullmatch(token) is not None


def verify(token: str, get_secret: GetSecret) -> User | None:
    """The identity of who shows the token, None when it has another form.

    Raises:
        Unauthorized: there is no such token, it has expired, or it may not be used to authenticate.
    """
    if not is_bootstrap_token(token):
        return None
    token_id, _, shown = token.partition(".")
    secret = get_secret(_PREFIX + token_id)
    parsed = parse_secret(secret) if secret is not None else None
    # Compared in any case, so that the time says nothing about which ids exist.
    matches = hmac.compare_digest(shown, parsed.secret if parsed is not None else "-" * 16)
    if parsed is None or not matches or parsed.id != token_id:
        raise errors.Unauthorized("bootstrap token is unknown")
    if parsed.is_expired:
        raise errors.Unauthorized("bootstrap token has expired")
    if "authentication" not in parsed.usages:
        raise errors.Unauthorized("bootstrap token may not be used to authenticate")
    if not all(_GROUP.fullmatch(group) for group in parsed.groups):
        raise errors.Unauthorized("bootstrap token's auth-extra-groups must start with system:bootstrappers:")
    return User(f"{USER_PREFIX}{token_id}", (BOOTSTRAPPERS_GROUP, *parsed.groups, AUTHENTICATED_GROUP))


def parse_secret(secret: Obj) -> BootstrapToken | None:
    """The token that a secret holds; None where it holds none, is being deleted, or its parts don't fit together."""
    metadata = secret["metadata"]
    if secret.get("type") != SECRET_TYPE or metadata.get("deletionTimestamp") is not None:
        return None
    data = _decoded(secret.get("data") or {})
    token_id, token_secret = data.get("token-id", ""), data.get("token-secret", "")
    if metadata.get("name") != _PREFIX + token_id or not is_bootstrap_token(f"{token_id}.{token_secret}"):
        return None
    expires = None
    if data.get("expiration"):
        try:
            expires = datetime.fromisoformat(data["expiration"])
        except ValueError:
            return None
        if expires.tzinfo is None:
            return None
    usages = tuple(u for u in ("authentication", "signing") if data.get(f"usage-bootstrap-{u}") == "true")
    groups = tuple(g.strip() for g in data.get("auth-extra-groups", "").split(",") if g.strip())
    return BootstrapToken(token_id, token_secret, data.get("description", ""), expires, usages, groups)


def generate(lifetime: timedelta | None = timedelta(hours=24), description: str = "") -> BootstrapToken:
    """A new random token."""
    token_id = "".join(random_source.choice(_LETTERS) for _ in range(6))
    token_secret = "".join(random_source.choice(_LETTERS) for _ in range(16))
    expires = datetime.now(UTC).replace(microsecond=0) + lifetime if lifetime is not None else None
    return BootstrapToken(token_id, token_secret, description, expires)


def format_secret(token: BootstrapToken) -> Obj:
    """The secret that holds a token."""
    data = {"token-id": token.id, "token-secret": token.secret, "auth-extra-groups": ",".join(token.groups)}
    data |= {f"usage-bootstrap-{usage}": "true" for usage in token.usages}
    if token.description:
        data["description"] = token.description
    if token.expires is not None:
        data["expiration"] = token.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _PREFIX + token.id, "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value},
    }


async def create(client: Client, token: BootstrapToken) -> None:
    await client.create("secrets", format_secret(token), NAMESPACE)


async def list_tokens(client: Client) -> list[BootstrapToken]:
    """Every bootstrap token, the expired ones too, ordered by id."""
    listing = await client.list("secrets", NAMESPACE, field_selector=f"type={SECRET_TYPE}")
    return sorted(filter(None, map(parse_secret, listing.items)), key=lambda token: token.id)


async def revoke(client: Client, token_or_id: str) -> None:
    """Deletes a token by its id, or by the whole token. Raises NotFound."""
    await client.delete("secrets", _PREFIX + token_or_id.partition(".")[0], NAMESPACE)


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    decoded = {}
    for key, value in data.items():
        try:
            decoded[key] = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue  # one damaged field makes the token's own checks fail, not the listing of all tokens
    return decoded
