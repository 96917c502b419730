"""Keys and certificates: made once, kept, and renewed under an open socket."""

import ssl
import stat

import pytest

from kubelite.server.identity import Identity
from kubelite.server.settings import Settings


@pytest.fixture
def identity(tmp_path) -> Identity:
    made = Identity(Settings(data_dir=tmp_path), "192.0.2.1", lambda *_: None)
    made.load()
    return made


def test_what_was_made_is_found_again(identity, tmp_path):
    again = Identity(Settings(data_dir=tmp_path), "192.0.2.1", lambda *_: None)
    again.load()
    assert again.certificate.certificate_pem == identity.certificate.certificate_pem
    assert again.tokens.key_id == identity.tokens.key_id


def test_private_files_are_the_owners_alone(identity, tmp_path):
    identity.write_kubeconfig(6443)
    identity.front_proxy()
    private = [tmp_path / "kubeconfig", *(tmp_path / "pki").glob("*.key")]
    assert len(private) >= 4
    assert {stat.S_IMODE(p.stat().st_mode) for p in private} == {0o600}


def test_nothing_is_renewed_without_need(identity):
    assert identity.renew() is False


def test_a_certificate_that_has_to_change_is_taken_up_by_the_open_socket(identity, tmp_path):
    context = identity.tls()
    identity.write_kubeconfig(6443)
    before = (tmp_path / "kubeconfig").read_text()
    assert identity.certificate.certificate_path is not None
    identity.certificate.certificate_path.unlink()
    assert identity.renew() is True
    assert (tmp_path / "kubeconfig").read_text() != before

    client = ssl.create_default_context(cadata=identity.authority.certificate_pem.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    outside = client.wrap_bio(to_client, to_server, server_hostname="192.0.2.1")
    inside = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (outside, inside):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = outside.getpeercert(True)
    assert shown is not None
    first = identity.certificate.certificate_pem.decode().partition("-----END CERTIFICATE-----")
    assert ssl.DER_cert_to_PEM_cert(shown).strip() == (first[0] + first[1]).strip()
