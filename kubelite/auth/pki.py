"""The cluster's certificate authority: EC P-256 keys, kept in the data directory with mode 0600.

Signs the server's own certificate (renewed when its names change or a third of its life is left), client certificates of
the administrator and the nodes, and what CertificateSigningRequests ask for. It knows nothing of HTTP and of objects; who
may have which certificate is decided before it is asked.

`cryptography` is imported when a certificate is first made or read: its import is a tenth of the start budget.
"""

import ipaddress
import os
import secrets as random_source
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
#: Clocks of nodes may be behind ours by this much.
BACKDATE = timedelta(minutes=5)

#: Names of extended usages in a CertificateSigningRequest's spec.usages, and their object identifiers.
EXTENDED_USAGES = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}

#: Names of key usages there, and the argument of x509.KeyUsage that each sets.
KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_ALL_KEY_USAGES = (*dict.fromkeys(KEY_USAGES.values()),)


class CertificateError(Exception):
    """A certificate, key or signing request can't be used; the message names the file or field and the remedy."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its key. The paths are set where both are kept in files."""

    certificate_pem: bytes
    key_pem: bytes
    certificate_path: Path | None = None
    key_path: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate signing request asks for. Its signature has been verified."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{random_source.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_or_create_key(path: Path) -> "ec.EllipticCurvePrivateKey":
    """The EC P-256 key of a PEM file, made when there is none.

    Raises:
        CertificateError: the file holds something else, or others may read it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(path, key_pem(key))
        return key
    if path.stat().st_mode & 0o077:
        raise CertificateError(f"{path} may be read by others: run chmod 600 on it, and replace it if it was exposed")
    try:
        loaded = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} is no PEM private key without a passphrase: {error}") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} must hold an EC P-256 key")
    return loaded


def key_pem(key: "ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_request(csr_pem: bytes) -> Request:
    """What a PEM certificate signing request asks for.

    Raises:
        CertificateError: it can't be parsed or isn't signed by its own key.
    """
    return _request(_load_csr(csr_pem))


class Authority:
    """The CA. `certificate_pem` is public; the key never leaves the object and its file."""

    def __init__(self, directory: Path, certificate: "x509.Certificate", key: "ec.EllipticCurvePrivateKey") -> None:
        from cryptography.hazmat.primitives.serialization import Encoding

        self._directory = directory
        self._certificate = certificate
        self._key = key
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)
        self.certificate_path = directory / "ca.crt"

    @classmethod
    def load_or_create(cls, directory: Path | str) -> "Authority":
        """The authority kept in `directory` (ca.crt, ca.key), made there when there is none.

        Raises:
            CertificateError: the files are damaged, don't belong together, or have expired.
        """
        from cryptography import x509

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
        if certificate_path.exists() and not key_path.exists():
            raise CertificateError(f"{key_path} is missing: restore it, or remove {certificate_path} to start a new authority")
        key = load_or_create_key(key_path)
        if not certificate_path.exists():
            write_private(certificate_path, _self_signed(key))
            certificate_path.chmod(0o644)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except ValueError as error:
            raise CertificateError(f"{certificate_path} is no PEM certificate: {error}") from error
        if certificate.public_key() != key.public_key():
            raise CertificateError(f"{certificate_path} and {key_path} don't belong together: restore both from one backup")
        if certificate.not_valid_after_utc < datetime.now(UTC):
            raise CertificateError(f"{certificate_path} has expired: remove both files and join the nodes again")
        return cls(directory, certificate, key)

    def server_certificate(self, names: Iterable[str], ips: Iterable[str], *, file: str = "server") -> KeyPair:
        """A serving certificate for the names and addresses, kept as FILE.crt and FILE.key. The kept one is used again while it
        has exactly these names and more than a third of its life left."""
        wanted = Request("kubelite", (), tuple(dict.fromkeys(names)), tuple(dict.fromkeys(map(_normalized_ip, ips))), (), ())
        certificate_path, key_path = self._directory / f"{file}.crt", self._directory / f"{file}.key"
        if not (certificate_path.exists() and key_path.exists() and self._is_current(certificate_path, wanted)):
            pair = self._issue_pair(wanted, ("digital signature", "server auth"), LEAF_LIFETIME)
            write_private(key_path, pair.key_pem)
            write_private(certificate_path, pair.certificate_pem + self.certificate_pem)
        return KeyPair(certificate_path.read_bytes(), key_path.read_bytes(), certificate_path, key_path)

    def client_certificate(self, user: str, groups: Sequence[str] = (), lifetime: timedelta = LEAF_LIFETIME) -> KeyPair:
        """A new client certificate: the user is its common name, the groups its organizations."""
        return self._issue_pair(Request(user, tuple(groups), (), (), (), ()), ("digital signature", "client auth"), lifetime)

    def sign_csr(
        self,
        csr_pem: bytes,
        *,
        user: str | None = None,
        groups: Sequence[str] | None = None,
        usages: Sequence[str] = ("digital signature", "client auth"),
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> bytes:
        """A certificate (PEM) for the request's key. `user` and `groups` replace the request's subject where given.

        Raises:
            CertificateError: the request can't be parsed, its signature is wrong, or a usage is unknown.
        """
        csr = _load_csr(csr_pem)
        wanted = _request(csr)
        if user is not None:
            wanted = Request(user, tuple(groups or ()), (), (), (), ())
        return self._sign(csr.public_key(), wanted, usages, lifetime)

    def is_ours(self, certificate_der: bytes) -> bool:
        """Whether this authority signed the certificate and it is valid now. For peers whose transport has not verified it."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc

    def _is_current(self, path: Path, wanted: Request) -> bool:
        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError:
            return False
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        if certificate.not_valid_after_utc - datetime.now(UTC) < life / 3 or certificate.issuer != self._certificate.subject:
            return False
        return self.is_ours(_der(certificate)) and _alternative_names(certificate.extensions) == (
            set(wanted.dns_names) | set(wanted.ip_addresses)
        )

    def _issue_pair(self, wanted: Request, usages: Sequence[str], lifetime: timedelta) -> KeyPair:
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        return KeyPair(self._sign(key.public_key(), wanted, usages, lifetime), key_pem(key))

    def _sign(self, public_key: object, wanted: Request, usages: Sequence[str], lifetime: timedelta) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        key_usages, extended = _usages(usages)
        now = datetime.now(UTC).replace(microsecond=0)
        end = min(now + lifetime, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(wanted))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)  # type: ignore[arg-type]  # any key that a request may carry
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usages, critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        names: list[x509.GeneralName] = [
            *map(x509.DNSName, wanted.dns_names),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in wanted.ip_addresses),
            *map(x509.RFC822Name, wanted.emails),
            *map(x509.UniformResourceIdentifier, wanted.uris),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _self_signed(key: "ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    name = _subject(Request("kubelite-ca", (), (), (), (), ()))
    key_usages, _ = _usages(("digital signature", "key encipherment", "cert sign", "crl sign"))
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usages, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _subject(wanted: Request) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    # Names longer than RFC 5280's bounds are used by Kubernetes for long node names, so the bound is not enforced here.
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name, _validate=False) for name in wanted.organizations]
    if wanted.common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name, _validate=False))
    return x509.Name(attributes)


def _usages(names: Sequence[str]) -> "tuple[x509.KeyUsage, list[x509.ObjectIdentifier]]":
    from cryptography import x509

    unknown = [name for name in names if name not in KEY_USAGES and name not in EXTENDED_USAGES]
    if unknown:
        raise CertificateError(f"unrecognized usage values: {unknown}")
    flags = dict.fromkeys(_ALL_KEY_USAGES, False) | {KEY_USAGES[name]: True for name in names if name in KEY_USAGES}
    if not flags["key_agreement"]:
        flags["encipher_only"] = flags["decipher_only"] = False
    extended = dict.fromkeys(EXTENDED_USAGES[name] for name in names if name in EXTENDED_USAGES)
    return x509.KeyUsage(**flags), [x509.ObjectIdentifier(oid) for oid in extended]


def _load_csr(csr_pem: bytes) -> "x509.CertificateSigningRequest":
    from cryptography import x509

    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid = csr.is_signature_valid
    except (ValueError, TypeError) as error:
        raise CertificateError(f"no PEM certificate signing request: {error}") from error
    if not valid:
        raise CertificateError("the certificate signing request is not signed by its own key")
    return csr


def _request(csr: "x509.CertificateSigningRequest") -> Request:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def named(oid: "x509.ObjectIdentifier") -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(oid))

    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except ValueError as error:
        raise CertificateError(f"the certificate signing request's extensions can't be read: {error}") from error
    return Request(
        next(iter(named(NameOID.COMMON_NAME)), ""),
        named(NameOID.ORGANIZATION_NAME),
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(str(ip) for ip in names.get_values_for_type(x509.IPAddress)),
        tuple(names.get_values_for_type(x509.RFC822Name)),
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def _alternative_names(extensions: "x509.Extensions") -> set[str]:
    from cryptography import x509

    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.DNSName)) | {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _normalized_ip(text: str) -> str:
    return str(ipaddress.ip_address(text))
