"""Certificate signing requests: nodes' own are approved, approved ones signed, old ones deleted.

Source: kubernetes pkg/controller/certificates, v1.34.
"""

import base64
from typing import ClassVar

from kubelite.auth.pki import CertificateError, Request, parse_request
from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import times
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj
from kubelite.meta.users import NODE_PREFIX, NODES_GROUP

RESOURCE = "certificatesigningrequests.certificates.k8s.io"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SIGNERS = frozenset(
    {NODE_CLIENT, "kubernetes.io/kube-apiserver-client", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"}
)
DONE_KEPT_S = 3600.0
PENDING_KEPT_S = 24 * 3600.0
_NODE_USAGES = ({"digital signature", "client auth"}, {"digital signature", "client auth", "key encipherment"})


def _is(csr: Obj, type_: str) -> bool:
    return conditions.is_true(csr, type_)


class CertificateApproval(Controller):
    """Approves nodes' client certificates for those who may have them without being asked."""

    name: ClassVar[str] = "certificatesigningrequest-approving-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._requests = self.informer(RESOURCE)
        self.follow(self._requests)

    async def reconcile(self, key: str) -> None:
        csr = self._requests.get(key)
        if csr is None or _is(csr, "Approved") or _is(csr, "Denied") or csr["spec"]["signerName"] != NODE_CLIENT:
            return
        wanted = _node_request(csr)
        if wanted is None:
            return
        own = wanted.common_name == csr["spec"].get("username", "")
        for subresource, applies, text in (
            ("selfnodeclient", own, "Auto approving self kubelet client certificate after SubjectAccessReview."),
            ("nodeclient", True, "Auto approving kubelet client certificate after SubjectAccessReview."),
        ):
            if applies and await self._may(csr, subresource):
                now = times.now()
                approved = conditions.make("Approved", "True", now, "AutoApproved", text, lastUpdateTime=now)
                status = csr.get("status") or {}
                changed = {**status, "conditions": [*(status.get("conditions") or ()), approved]}
                await self.client.update(RESOURCE, {**csr, "status": changed}, subresource="approval")
                return

    async def _may(self, csr: Obj, subresource: str) -> bool:
        spec = csr["spec"]
        attributes = {"group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create"}
        attributes["subresource"] = subresource
        review: Obj = {"user": spec.get("username", ""), "groups": spec.get("groups") or [], "resourceAttributes": attributes}
        review |= {"uid": spec.get("uid", ""), "extra": spec.get("extra") or {}}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": review}
        answer = await self.client.create("subjectaccessreviews.authorization.k8s.io", body)
        return bool((answer.get("status") or {}).get("allowed"))


def _node_request(csr: Obj) -> Request | None:
    """What a request for a node's client certificate asks for; None where it asks for something else."""
    try:
        wanted = parse_request(base64.b64decode(csr["spec"]["request"]))
    except (CertificateError, ValueError):
        return None
    names = (*wanted.dns_names, *wanted.ip_addresses, *wanted.emails, *wanted.uris)
    fits = wanted.organizations == (NODES_GROUP,) and wanted.common_name.startswith(NODE_PREFIX) and not names
    return wanted if fits and set(csr["spec"].get("usages") or ()) in _NODE_USAGES else None


class CertificateSigning(Controller):
    """Signs what is approved."""

    name: ClassVar[str] = "certificatesigningrequest-signing-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._requests = self.informer(RESOURCE)
        self.follow(self._requests)

    async def reconcile(self, key: str) -> None:
        csr = self._requests.get(key)
        sign = self.env.settings.sign_csr
        if csr is None or sign is None or not _is(csr, "Approved") or _is(csr, "Denied") or _is(csr, "Failed"):
            return
        spec, status = csr["spec"], csr.get("status") or {}
        if status.get("certificate") or spec["signerName"] not in SIGNERS:
            return
        try:
            lifetime_s = spec.get("expirationSeconds")
            signed = sign(base64.b64decode(spec["request"]), spec["signerName"], spec.get("usages") or [], lifetime_s)
            changed = {**status, "certificate": base64.b64encode(signed).decode()}
        except ValueError as e:
            now = times.now()
            failed = conditions.make("Failed", "True", now, "SignerValidationFailure", str(e), lastUpdateTime=now)
            changed = {**status, "conditions": [*(status.get("conditions") or ()), failed]}
        await self.client.update(RESOURCE, {**csr, "metadata": {**csr["metadata"]}, "status": changed}, subresource="status")


class CertificateCleaner(Controller):
    """Deletes requests that are settled, and those that nobody has settled for a day."""

    name: ClassVar[str] = "certificatesigningrequest-cleaner-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._requests = self.informer(RESOURCE)
        self.follow(self._requests)

    async def reconcile(self, key: str) -> None:
        csr = self._requests.get(key)
        if csr is None:
            return
        left_s = expires(csr) - self.env.now()
        if left_s > 0:
            self.queue.add_after(key, left_s)
            return
        try:
            await self.client.delete(RESOURCE, key, precondition_uid=csr["metadata"]["uid"])
        except NotFound:
            return


def expires(csr: Obj) -> float:
    """When the request is deleted: an hour after it was settled, a day after it was made where it was not."""
    settled = [
        times.parse_seconds(c.get("lastUpdateTime") or csr["metadata"]["creationTimestamp"])
        for c in (csr.get("status") or {}).get("conditions") or ()
        if c["type"] in ("Denied", "Failed") or (c["type"] == "Approved" and (csr.get("status") or {}).get("certificate"))
    ]
    if settled:
        return max(settled) + DONE_KEPT_S
    return times.parse_seconds(csr["metadata"]["creationTimestamp"]) + PENDING_KEPT_S
