import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kubelite.auth import authenticators, pki
from kubelite.auth.contract import Credentials
from kubelite.meta import errors


def csr(common_name: str = "anyone", organization: str = "any") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
    names = x509.SubjectAlternativeName([x509.DNSName("node.example")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")


def test_the_authority_is_the_same_after_a_restart_and_its_key_is_private(tmp_path: Path) -> None:
    first = pki.Authority.load_or_create(tmp_path)
    assert pki.Authority.load_or_create(tmp_path).certificate_pem == first.certificate_pem
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    pki.Authority.load_or_create(tmp_path)
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(pki.CertificateError, match="chmod 600"):
        pki.Authority.load_or_create(tmp_path)


def test_the_server_certificate_is_kept_until_its_names_change(tmp_path: Path) -> None:
    authority = pki.Authority.load_or_create(tmp_path)
    first = authority.server_certificate(["localhost"], ["127.0.0.1", "::1"])
    assert authority.server_certificate(["localhost"], ["127.0.0.1", "::1"]) == first
    changed = authority.server_certificate(["localhost", "kubernetes"], ["127.0.0.1", "::1"])
    assert changed.certificate_pem != first.certificate_pem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert changed.certificate_path is not None
    context.load_cert_chain(changed.certificate_path, changed.key_path)


async def test_a_client_certificate_carries_user_and_groups(tmp_path: Path) -> None:
    authority = pki.Authority.load_or_create(tmp_path)
    pair = authority.client_certificate("system:node:n1", ["system:nodes"])
    user = await authenticators.Certificates().authenticate(Credentials(certificate_der=der(pair.certificate_pem)))
    assert user is not None
    assert (user.name, user.groups) == ("system:node:n1", ("system:nodes", "system:authenticated"))
    assert user.node_name == "n1"
    assert authority.is_ours(der(pair.certificate_pem))


async def test_a_certificate_counts_only_until_it_ends(tmp_path: Path) -> None:
    pair = pki.Authority.load_or_create(tmp_path).client_certificate("someone")
    late = authenticators.Certificates(clock=lambda: 1e12)
    with pytest.raises(errors.Unauthorized):
        await late.authenticate(Credentials(certificate_der=der(pair.certificate_pem)))


async def test_a_serving_certificate_is_no_identity(tmp_path: Path) -> None:
    pair = pki.Authority.load_or_create(tmp_path).server_certificate(["localhost"], [])
    with pytest.raises(errors.Unauthorized, match="client authentication"):
        await authenticators.Certificates().authenticate(Credentials(certificate_der=der(pair.certificate_pem)))


def test_signing_a_request_can_replace_its_subject(tmp_path: Path) -> None:
    authority = pki.Authority.load_or_create(tmp_path)
    user, _ = authenticators.parse_certificate(
        der(authority.sign_csr(csr("cluster-admin", "system:masters"), user="system:node:n1", groups=["system:nodes"]))
    )
    assert user.name == "system:node:n1"
    assert "system:masters" not in user.groups
    kept, _ = authenticators.parse_certificate(der(authority.sign_csr(csr("bob", "team"))))
    assert (kept.name, kept.groups[0]) == ("bob", "team")


def test_a_request_that_is_garbage_or_asks_for_an_unknown_usage_is_refused(tmp_path: Path) -> None:
    authority = pki.Authority.load_or_create(tmp_path)
    with pytest.raises(pki.CertificateError):
        authority.sign_csr(b"garbage")
    with pytest.raises(pki.CertificateError, match="unrecognized usage"):
        authority.sign_csr(csr(), usages=("fly",))
    assert pki.parse_request(csr("a")).dns_names == ("node.example",)


def test_another_authoritys_certificate_is_not_ours(tmp_path: Path) -> None:
    mine, other = pki.Authority.load_or_create(tmp_path / "a"), pki.Authority.load_or_create(tmp_path / "b")
    assert not mine.is_ours(der(other.client_certificate("x").certificate_pem))
