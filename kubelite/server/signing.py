"""What the cluster's signers sign: the rules of the kubernetes.io/* signers before the authority is asked.

Source: pkg/controller/certificates/signer/signer.go and pkg/apis/certificates helpers, v1.34.
"""

from datetime import timedelta

from kubelite.auth.pki import LEAF_LIFETIME, Authority, CertificateError, Request, parse_request
from kubelite.meta.users import NODE_PREFIX, NODES_GROUP

_CLIENT = {"key encipherment", "digital signature", "client auth"}
_SERVER = {"key encipherment", "digital signature", "server auth"}
MIN_LIFETIME = timedelta(minutes=10)


class Signer:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def sign(self, csr_pem: bytes, signer: str, usages: list[str], lifetime_s: int | None) -> bytes:
        """The certificate as PEM. Raises ValueError where the request is not what this signer signs."""
        try:
            wanted = parse_request(csr_pem)
            _check(signer, wanted, set(usages))
            lifetime = LEAF_LIFETIME if lifetime_s is None else timedelta(seconds=lifetime_s)
            lifetime = max(MIN_LIFETIME, min(lifetime, LEAF_LIFETIME))
            return self._authority.sign_csr(csr_pem, usages=usages, lifetime=lifetime)
        except CertificateError as e:
            raise ValueError(str(e)) from e


def _check(signer: str, wanted: Request, usages: set[str]) -> None:
    names = (*wanted.dns_names, *wanted.ip_addresses, *wanted.emails, *wanted.uris)
    match signer:
        case "kubernetes.io/kube-apiserver-client":
            if not usages <= _CLIENT or "client auth" not in usages:
                raise ValueError("usages must be client auth, and may be digital signature and key encipherment")
        case "kubernetes.io/kube-apiserver-client-kubelet" | "kubernetes.io/kubelet-serving":
            if wanted.organizations != (NODES_GROUP,):
                raise ValueError(f"subject organization is not {NODES_GROUP}")
            if not wanted.common_name.startswith(NODE_PREFIX):
                raise ValueError(f"subject common name does not begin with {NODE_PREFIX}")
            serving = signer.endswith("serving")
            if serving and not (wanted.dns_names or wanted.ip_addresses):
                raise ValueError("DNS or IP subjectAltName is required")
            if serving and (wanted.emails or wanted.uris):
                raise ValueError("subjectAltNames may only be DNS names and addresses")
            if not serving and names:
                raise ValueError("subjectAltNames are not allowed")
            allowed, needed = (_SERVER, "server auth") if serving else (_CLIENT, "client auth")
            if not usages <= allowed or not {needed, "digital signature"} <= usages:
                raise ValueError(f"usages must be digital signature and {needed}, and may be key encipherment")
        case "kubernetes.io/legacy-unknown":
            return
        case _:
            raise ValueError(f"{signer} is not signed here")
