"""`kubelite token ...`, with the administrator's kubeconfig of the data directory."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kubelite.cli.options import Problem

if TYPE_CHECKING:
    from kubelite.client.http import HttpClient
    from kubelite.server.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def create_token(settings: "Settings", ttl: str, description: str) -> None:
    lifetime = parse_ttl(ttl)

    async def create(client: "HttpClient", ca_pem: bytes) -> None:
        from kubelite.agent.joining import ca_hash_of
        from kubelite.auth import bootstrap_tokens

        token = bootstrap_tokens.generate(lifetime, description)
        await bootstrap_tokens.create(client, token)
        sys.stdout.write(f"{token.token}@{ca_hash_of(ca_pem)}\n")

    _with_client(settings, create)


def list_tokens(settings: "Settings") -> None:
    async def show(client: "HttpClient", ca_pem: bytes) -> None:
        from kubelite.auth import bootstrap_tokens

        tokens = await bootstrap_tokens.list_tokens(client)
        sys.stdout.write(f"{'TOKEN':<10}{'EXPIRES':<24}DESCRIPTION\n")
        for token in tokens:
            expires = "never"
            if token.expires is not None:
                expires = token.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                expires = "expired" if token.expires < datetime.now(UTC) else expires
            sys.stdout.write(f"{token.id:<10}{expires:<24}{token.description}\n")

    _with_client(settings, show)


def revoke_token(settings: "Settings", token: str) -> None:
    async def revoke(client: "HttpClient", ca_pem: bytes) -> None:
        from kubelite.auth import bootstrap_tokens

        await bootstrap_tokens.revoke(client, token)
        sys.stdout.write(f"token {token.partition('.')[0]} revoked\n")

    _with_client(settings, revoke)


def parse_ttl(text: str) -> timedelta | None:
    """`30m`, `24h`, `7d`; `0` is for ever (None). Raises Problem."""
    if text in ("0", "0s"):
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None or not int(match.group(1)):
        raise Problem(f"--ttl {text}: give a number and a unit, such as 30m, 24h or 7d; 0 is for ever")
    return timedelta(seconds=int(match.group(1)) * _UNITS[match.group(2)])


def print_kubeconfig(settings: "Settings") -> None:
    sys.stdout.write(_kubeconfig(settings))


def _kubeconfig(settings: "Settings") -> str:
    """The administrator's. Raises Problem."""
    path = settings.kubeconfig
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise Problem(f"there is no {path}: start a server here with `kubelite up`, or name its --data-dir") from e
    except PermissionError as e:
        raise Problem(f"{path} can't be read: run this as the user that runs the server") from e


def _with_client(settings: "Settings", act: "Callable[[HttpClient, bytes], Awaitable[None]]") -> None:
    import base64
    import os
    import tempfile

    import yaml

    try:
        config = yaml.safe_load(_kubeconfig(settings))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        ca_pem = base64.b64decode(cluster["certificate-authority-data"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as e:
        raise Problem(f"{settings.kubeconfig} is no kubeconfig any more: start the server again, which writes it anew") from e

    async def run() -> None:
        from kubelite.client.http import HttpClient
        from kubelite.meta.errors import ServiceUnavailable

        # Python's TLS takes a certificate and key from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            os.fchmod(pem.fileno(), 0o600)
            pem.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pem.flush()
            try:
                async with HttpClient(cluster["server"], ca_pem=ca_pem, certificate_file=pem.name) as client:
                    await act(client, ca_pem)
            except ServiceUnavailable as e:
                raise Problem(f"the server at {cluster['server']} does not answer: start it, then try again ({e})") from e

    asyncio.run(run())
