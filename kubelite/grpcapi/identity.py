"""Who calls: the identity of a gRPC peer, from its verified client certificate or its bearer token."""

import ssl

from kubelite.auth.contract import Authenticator, Credentials
from kubelite.grpcapi.faults import Context
from kubelite.meta.errors import Unauthorized
from kubelite.meta.users import User

_BEARER = "bearer "


async def user_of(context: Context, authenticator: Authenticator) -> User:
    """The caller.

    Raises:
        Unauthorized: it shows nothing, or something wrong.
    """
    user = await authenticator.authenticate(Credentials(_token(context), _certificate(context)))
    if user is None:
        raise Unauthorized("Unauthorized")
    return user


def _token(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = value.decode() if isinstance(value, bytes) else value
            if text.lower().startswith(_BEARER):
                return text[len(_BEARER) :].strip()
    return ""


def _certificate(context: Context) -> bytes | None:
    """The peer's certificate; the transport has verified it against the CA."""
    found = context.auth_context().get("x509_pem_cert")
    return ssl.PEM_cert_to_DER_cert(found[0].decode()) if found else None
