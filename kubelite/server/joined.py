"""An agent that joins a server elsewhere: its certificate, its gRPC link, and the renewal of both."""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime

import structlog

from kubelite.agent import joining
from kubelite.agent.joining import Identity, JoinFault
from kubelite.agent.link import GrpcLink
from kubelite.server.agents import Agents, node_name
from kubelite.server.settings import Settings, SettingsError
from kubelite.server.supervisor import Supervisor

log = structlog.get_logger(__name__)

RENEWAL_CHECK_S = 3600.0
RENEWAL_RETRY_S = 60.0
_TIMEOUT_S = 10.0
STOP_DEADLINE_S = 20.0


class JoinedAgent:
    """`start` joins and runs; the node goes on when the server is away, and its pods when this process is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor()
        self._name = node_name(settings)
        self._identity = Identity(settings.data_dir / "pki")
        self._server = settings.server
        self._grpc_port = settings.grpc_port
        self._started = False

    @property
    def failed(self) -> asyncio.Future[None]:
        return self._supervisor.failed

    async def start(self) -> None:
        """Raises SettingsError saying what to do."""
        settings = self._settings
        kept = settings.data_dir / "server"
        if not self._server and kept.exists():
            self._server = kept.read_text().strip()
        if not self._server:
            raise SettingsError("--server is needed: the address of a server, as https://HOST:PORT")
        token, _, token_hash = settings.token.partition("@")
        joined = self._identity.exists and self._identity.is_of(self._name)
        if not joined and not token:
            raise SettingsError("--token is needed to join: run `kubelite token create` on the server")
        try:
            if not self._grpc_port:
                self._grpc_port = await asyncio.to_thread(_node_port, self._server)
            await joining.join(self._server, token, self._name, self._identity, settings.ca_hash or token_hash, self._grpc_port)
            host, _, node_port, _ = joining.endpoints(self._server, self._grpc_port)
        except JoinFault as e:
            raise SettingsError(str(e)) from e
        kept.write_text(self._server)
        target = f"[{host}]:{node_port}" if ":" in host else f"{host}:{node_port}"
        # The CA is this cluster's own and signs server names for servers only, so a server may be reached by any address.
        link = GrpcLink(target, self._identity.read, server_name="kubernetes")
        self._supervisor.on_stop("link", link.close)
        Agents(settings, lambda _: link).start(self._supervisor)
        self._started = True
        self._supervisor.run("certificate renewal", self._renew())

    async def stop(self) -> None:
        await self._supervisor.stop(STOP_DEADLINE_S)
        if self._started:
            log.info("agent_stopped", node=self._name)

    async def _renew(self) -> None:
        while True:
            wait_s = RENEWAL_CHECK_S
            if datetime.now(UTC) >= self._identity.renew_at():
                try:
                    await joining.renew(self._server, self._name, self._identity, self._grpc_port)
                    log.info("certificate_renewed", node=self._name)
                except JoinFault as e:
                    wait_s = RENEWAL_RETRY_S
                    log.warning("certificate_not_renewed", node=self._name, error=str(e), again_in_s=wait_s)
            await asyncio.sleep(wait_s)


def _node_port(server: str) -> int:
    """The server's gRPC port, 0 where it does not tell. Only a hint: who answers there is verified by the CA."""
    host, port, _, _ = joining.endpoints(server)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    shown = f"[{host}]" if ":" in host else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"https://{shown}:{port}/.well-known/kubelite", timeout=_TIMEOUT_S) as answer:
            return int(json.loads(answer.read(4096)).get("nodePort", 0))
    except (urllib.error.HTTPError, ValueError, AttributeError) as e:
        raise JoinFault(f"{server} answers, but not as a server of kubelite does ({e}): check --server") from e
    except OSError as e:
        reason = getattr(e, "reason", e)
        raise JoinFault(f"cannot reach {server}: {reason}; is the server running, and the port open?") from e
