"""CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for which signer, and
that nobody gets a certificate of system:masters by a request.

Source: plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}, pkg/registry/certificates (authorization).
"""

import base64
import binascii

from kubelite.admission import faults
from kubelite.admission.contract import Permits
from kubelite.meta.users import User
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateApproval:
    name = "CertificateApproval"

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "UPDATE" and kind.group_resource == REQUESTS and subresource == "approval"

    async def validate(self, attributes: Attributes) -> None:
        signer = (attributes.old or {})["spec"]["signerName"]
        if not may_use_signer(self._permits, attributes.user, "approve", signer):
            raise faults.forbidden(attributes, f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning:
    name = "CertificateSigning"

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "UPDATE" and kind.group_resource == REQUESTS and subresource == "status"

    async def validate(self, attributes: Attributes) -> None:
        old = attributes.old or {}
        before, after = old.get("status") or {}, (attributes.obj or {}).get("status") or {}
        if all(before.get(field) == after.get(field) for field in ("certificate", "conditions")):
            return
        signer = old["spec"]["signerName"]
        if not may_use_signer(self._permits, attributes.user, "sign", signer):
            raise faults.forbidden(attributes, f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction:
    name = "CertificateSubjectRestriction"

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource == REQUESTS and not subresource

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("signerName") != CLIENT_SIGNER:
            return
        _, organizations = subject(attributes, spec.get("request", ""))
        if "system:masters" in organizations:
            why = f"use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            raise faults.forbidden(attributes, why)


def may_use_signer(permits: Permits, user: User, verb: str, signer: str) -> bool:
    """Whether a user may approve or sign for a signer, by its name or by all names of its domain (`example.com/*`)."""
    domain = f"{signer.partition('/')[0]}/*"
    return any(permits(user, verb, "certificates.k8s.io", "signers", "", "", name) for name in (signer, domain))


def subject(attributes: Attributes, request: str) -> tuple[str, tuple[str, ...]]:
    """Common name and organizations of a request in base64. Raises Forbidden where it can't be parsed."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(request))
        names = [str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organizations = tuple(str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    except (ValueError, binascii.Error) as error:
        raise faults.forbidden(attributes, f"failed to parse CSR: {error}") from error
    return (names or [""])[0], organizations
