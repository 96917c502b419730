"""What the cluster's signers sign, and what they do not."""

import pytest

from kubelite.auth.pki import Authority
from kubelite.server.signing import Signer

CLIENT = ["digital signature", "client auth"]
SERVER = ["digital signature", "server auth"]


def csr(common_name: str, organizations: tuple[str, ...] = (), dns: tuple[str, ...] = ()) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(d) for d in dns]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def signer(tmp_path) -> Signer:
    return Signer(Authority.load_or_create(tmp_path))


@pytest.mark.parametrize(
    ("name", "request_pem", "usages"),
    [
        ("kubernetes.io/kube-apiserver-client", csr("jane"), CLIENT),
        ("kubernetes.io/kube-apiserver-client-kubelet", csr("system:node:n", ("system:nodes",)), CLIENT),
        ("kubernetes.io/kubelet-serving", csr("system:node:n", ("system:nodes",), ("n",)), SERVER),
    ],
)
def test_signers_sign_what_is_theirs(signer, name, request_pem, usages):
    assert b"BEGIN CERTIFICATE" in signer.sign(request_pem, name, usages, 3600)


@pytest.mark.parametrize(
    ("name", "request_pem", "usages", "words"),
    [
        ("kubernetes.io/kube-apiserver-client", csr("jane"), SERVER, "usages"),
        ("kubernetes.io/kube-apiserver-client-kubelet", csr("jane"), CLIENT, "organization"),
        ("kubernetes.io/kube-apiserver-client-kubelet", csr("jane", ("system:nodes",)), CLIENT, "common name"),
        ("kubernetes.io/kube-apiserver-client-kubelet", csr("system:node:n", ("system:nodes",), ("n",)), CLIENT, "not allowed"),
        ("kubernetes.io/kubelet-serving", csr("system:node:n", ("system:nodes",)), SERVER, "subjectAltName is required"),
        ("example.com/other", csr("jane"), CLIENT, "not signed here"),
    ],
)
def test_signers_refuse_the_rest(signer, name, request_pem, usages, words):
    with pytest.raises(ValueError, match=words):
        signer.sign(request_pem, name, usages, None)
