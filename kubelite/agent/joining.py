"""How a machine becomes a node: a key of its own, a certificate for it against a bootstrap token, renewal before it ends.

The server is believed because its CA has the hash that the administrator gave (`sha256:...`, as `kubelite token create` prints).
Without one the first CA seen is kept, and the log says so.
"""

import asyncio
import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from kubelite.rpc import node_pb2 as pb

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 10.0
#: The share of a certificate's life after which it is renewed.
RENEW_SHARE = 0.7


class JoinFault(Exception):
    """This machine can't become a node now. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's certificate with its key, and the CA, as files that only their owner may read.

    Certificate and key are one file, so that a renewal that is cut short leaves a pair that fits. All methods use files.
    """

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def pair(self) -> Path:
        """The key, then the certificate."""
        return self.directory / "node.pem"

    @property
    def exists(self) -> bool:
        return self.ca.exists() and self.pair.exists()

    def read(self) -> tuple[bytes, bytes, bytes]:
        """(CA, certificate, key) in PEM, as a GrpcLink asks for them."""
        key, begin, certificate = self.pair.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        return self.ca.read_bytes(), begin + certificate, key

    def write(self, certificate_pem: bytes, key_pem: bytes, ca_pem: bytes = b"") -> None:
        """Keeps a new pair; with `ca_pem` the CA too."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if ca_pem:
            _write(self.ca, ca_pem)
        _write(self.pair, key_pem.rstrip() + b"\n" + certificate_pem)

    def renew_at(self) -> datetime:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(self.read()[1])
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return begins + (ends - begins) * RENEW_SHARE

    def is_of(self, node_name: str) -> bool:
        """Whether the certificate is this node's and still good."""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        certificate = x509.load_pem_x509_certificate(self.read()[1])
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        good_for = certificate.not_valid_after_utc - datetime.now(UTC)
        return bool(names) and names[0].value == f"system:node:{node_name}" and good_for > timedelta(minutes=5)


def endpoints(server: str, grpc_port: int = 0) -> tuple[str, int, int, int]:
    """(host, HTTPS port, node port, token port) of `https://HOST:PORT` or `HOST:PORT`; the node port is the one after the HTTPS
    port unless it is given. Raises JoinFault."""
    parts = urlsplit(server if "://" in server else f"https://{server}")
    if parts.scheme != "https" or not parts.hostname:
        raise JoinFault(f"--server {server}: give it as https://HOST:PORT")
    try:
        port = parts.port or 6443
    except ValueError as e:
        raise JoinFault(f"--server {server}: {e}; give it as https://HOST:PORT") from e
    node_port = grpc_port or port + 1
    return parts.hostname, port, node_port, node_port + 1


async def join(server: str, token: str, node_name: str, identity: Identity, ca_hash: str = "", grpc_port: int = 0) -> None:
    """Gets the node a certificate, unless it has a good one.

    Raises:
        JoinFault: the server can't be reached, is not the right one, or refuses the token.
    """
    if await asyncio.to_thread(lambda: identity.exists and identity.is_of(node_name)):
        return
    host, port, _, token_port = endpoints(server, grpc_port)
    ca_pem = await asyncio.to_thread(lambda: identity.ca.read_bytes() if identity.ca.exists() else b"")
    if not ca_pem:
        ca_pem = await _fetch_ca(host, port, ca_hash)
    key_pem, csr_pem = await asyncio.to_thread(_make_request, node_name)
    import grpc.aio

    from kubelite.rpc import node_pb2_grpc

    target = f"[{host}]:{token_port}" if ":" in host else f"{host}:{token_port}"
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca_pem)) as channel:
        stub = node_pb2_grpc.NodesStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer: pb.JoinResponse = await stub.Join(
                pb.JoinRequest(node_name=node_name, csr_pem=csr_pem),
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=CONNECT_TIMEOUT_S,
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as e:
            raise JoinFault(_explained(e, server, target)) from e
    await asyncio.to_thread(identity.write, answer.certificate_pem, key_pem, answer.ca_pem or ca_pem)
    log.info("node_joined", node=node_name, server=server)


async def renew(server: str, node_name: str, identity: Identity, grpc_port: int = 0) -> None:
    """A new key and certificate, against the present certificate. Raises JoinFault."""
    import grpc.aio

    from kubelite.rpc import node_pb2_grpc

    host, _, node_port, _ = endpoints(server, grpc_port)
    ca, certificate, key = await asyncio.to_thread(identity.read)
    key_pem, csr_pem = await asyncio.to_thread(_make_request, node_name)
    target = f"[{host}]:{node_port}" if ":" in host else f"{host}:{node_port}"
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate)) as channel:
        stub = node_pb2_grpc.NodesStub(channel)  # type: ignore[no-untyped-call]
        try:
            request = pb.JoinRequest(node_name=node_name, csr_pem=csr_pem)
            answer: pb.JoinResponse = await stub.Join(request, timeout=CONNECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as e:
            raise JoinFault(_explained(e, server, target)) from e
    await asyncio.to_thread(identity.write, answer.certificate_pem, key_pem)


def ca_hash_of(ca_pem: bytes) -> str:
    """`sha256:HEX` of the CA's public key, as kubeadm writes it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(ca_pem).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


async def _fetch_ca(host: str, port: int, ca_hash: str) -> bytes:
    """The CA that the server shows at the end of its certificate chain, if it is the right one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what it shows is compared with the hash below
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as e:
        raise JoinFault(f"cannot reach {host}:{port}: {e or 'no answer'}; is the server running, and the port open?") from e
    try:
        ca_pem = _last_of_chain(writer.get_extra_info("ssl_object"))
    finally:
        writer.close()
    found = ca_hash_of(ca_pem)
    if ca_hash and found != ca_hash:
        raise JoinFault(f"{host}:{port} has another CA ({found}) than --ca-hash says: it is not the server you mean")
    if not ca_hash:
        log.warning("ca_trusted_unseen", server=f"{host}:{port}", ca_hash=found, remedy="pass --ca-hash to verify it")
    return ca_pem


def _last_of_chain(connection: Any) -> bytes:
    # Public from Python 3.13 on; before, the same method of the inner object.
    chain = connection.get_unverified_chain() if hasattr(connection, "get_unverified_chain") else None
    if chain is None:
        chain = [c.public_bytes() for c in connection._sslobj.get_unverified_chain()]
    last = chain[-1]
    return ssl.DER_cert_to_PEM_cert(last).encode() if isinstance(last, bytes) else str(last).encode()


def _make_request(node_name: str) -> tuple[bytes, bytes]:
    """A new key and a certificate request for system:node:NAME, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
        ]
    )
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem, csr.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_bytes(data)
    temporary.rename(path)


def _explained(error: Any, server: str, target: str) -> str:
    code = error.code().name
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{server} refused the token: {error.details()}; make a new one with `kubelite token create`"
    return f"cannot join over {target}: {code} {error.details()}; is that port open?"
