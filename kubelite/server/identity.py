"""The keys and certificates of a server, from its data directory, renewed while it runs.

Server certificates are issued anew when their names change or a third of their life is left; the open sockets take the new
one up for the connections that come.
"""

import asyncio
import ssl
from pathlib import Path

import structlog

from kubelite.api.app import server_tls
from kubelite.auth import pki
from kubelite.auth.tokens import Lookup, ServiceAccountTokens
from kubelite.meta.types import Obj
from kubelite.meta.users import NODES_GROUP, User
from kubelite.server import addresses, kubeconfig
from kubelite.server.settings import Settings

log = structlog.get_logger(__name__)

RENEWAL_CHECK_S = 12 * 3600.0


class Identity:
    """`load` first; it makes what is missing."""

    def __init__(self, settings: Settings, advertise: str, lookup: Lookup) -> None:
        self._settings = settings
        self._advertise = advertise
        self._lookup = lookup
        self._tls: ssl.SSLContext | None = None
        self._port = 0
        self.authority: pki.Authority
        self.tokens: ServiceAccountTokens
        self.certificate: pki.KeyPair

    def load(self) -> None:
        """Reads or makes keys and certificates; takes its time, so call it on a thread. Raises CertificateError."""
        self.authority = pki.Authority.load_or_create(self._settings.pki_dir)
        issuer = self._settings.issuer
        self.tokens = ServiceAccountTokens.load_or_create(self._settings.pki_dir, self._lookup, issuer=issuer)
        self.certificate = self._server_certificate()

    def _server_certificate(self) -> pki.KeyPair:
        settings = self._settings
        service_ip, domain = settings.api_service_ip, settings.cluster_domain
        names, ips = addresses.server_names(service_ip, self._advertise, settings.bind, domain)
        return self.authority.server_certificate(names, ips)

    def tls(self) -> ssl.SSLContext:
        """For the API's socket."""
        certificate, key = self.certificate.certificate_path, self.certificate.key_path
        assert certificate is not None
        assert key is not None
        self._tls = server_tls(certificate, key, self.authority.certificate_path)
        return self._tls

    def front_proxy(self) -> tuple[Path, Path]:
        """The certificate and key with which this server speaks to other API servers for its clients."""
        directory = self._settings.pki_dir
        pair = self.authority.client_certificate("front-proxy-client")
        certificate, key = directory / "front-proxy.crt", directory / "front-proxy.key"
        pki.write_private(certificate, pair.certificate_pem)
        pki.write_private(key, pair.key_pem)
        return certificate, key

    def write_kubeconfig(self, port: int) -> None:
        """The administrator's, with a new certificate."""
        self._port = port
        admin = self.authority.client_certificate("kubernetes-admin", ["system:masters"])
        host = "127.0.0.1" if self._settings.bind in ("0.0.0.0", "127.0.0.1") else self._advertise
        shown = f"[{host}]" if ":" in host else host
        kubeconfig.write(self._settings.kubeconfig, f"https://{shown}:{port}", self.authority.certificate_pem, admin)

    def mint_token(self, account: Obj, secret: Obj) -> str:
        """The token of a service account's token secret."""
        meta = account["metadata"]
        return self.tokens.issue_legacy(meta["namespace"], meta["name"], meta["uid"], secret["metadata"]["name"])

    def sign_node(self, csr_pem: bytes, user: User) -> bytes:
        """A node's certificate."""
        return self.authority.sign_csr(csr_pem, user=user.name, groups=[NODES_GROUP])

    async def run(self) -> None:
        """Renews what comes near its end, until cancelled."""
        while True:
            await asyncio.sleep(RENEWAL_CHECK_S)
            if await asyncio.to_thread(self.renew):
                log.info("certificates_renewed")

    def renew(self) -> bool:
        """Whether there was anything to renew."""
        pair = self._server_certificate()
        if pair.certificate_pem == self.certificate.certificate_pem:
            return False
        self.certificate = pair
        if self._tls is not None and pair.certificate_path is not None:
            self._tls.load_cert_chain(pair.certificate_path, pair.key_path)
        if self._port:
            # Of the same age as the server's certificate, or older.
            self.write_kubeconfig(self._port)
            self.front_proxy()
        return True
