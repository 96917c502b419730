"""Those of which one or two tests say it all."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubelite.auth import bootstrap_tokens, pki
from kubelite.controllers import Settings, quotas
from kubelite.controllers.certificates import CertificateCleaner, CertificateSigning, expires
from kubelite.controllers.clusterroles import ClusterRoleAggregation
from kubelite.controllers.disruption import Disruptions
from kubelite.controllers.flowschemas import LEVELS, FlowSchemas
from kubelite.controllers.flowschemas import RESOURCE as FLOW_SCHEMAS
from kubelite.controllers.quotas import Quotas
from kubelite.controllers.replicasets import ReplicaSets
from kubelite.controllers.servicecidrs import ServiceCidrs
from kubelite.controllers.tokens import ACCOUNT_NAME, ACCOUNT_UID, TOKEN_TYPE, AccountTokens, JoinTokens
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template, workload


async def test_a_budget_says_how_many_pods_may_be_evicted(cluster: Cluster) -> None:
    cluster.start(Disruptions, ReplicaSets)
    cluster.run_pods()
    await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=3))
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}
    await cluster.client.create("poddisruptionbudgets.policy", budget, "default")
    found = await cluster.until_status(
        "poddisruptionbudgets.policy", "b", currentHealthy=3, desiredHealthy=2, expectedPods=3, disruptionsAllowed=1
    )
    (condition,) = found["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("DisruptionAllowed", "True", "SufficientPods")
    await cluster.client.patch("replicasets.apps", "web", "default", {"spec": {"replicas": 2}})
    await cluster.until_status("poddisruptionbudgets.policy", "b", disruptionsAllowed=0, currentHealthy=2)
    change: Obj = {"spec": {"minAvailable": None, "maxUnavailable": "50%"}}
    await cluster.client.patch("poddisruptionbudgets.policy", "b", "default", change)
    await cluster.until_status("poddisruptionbudgets.policy", "b", disruptionsAllowed=1, desiredHealthy=1, expectedPods=2)


async def test_a_budget_says_why_it_does_not_know_how_many_pods_there_should_be(cluster: Cluster) -> None:
    cluster.start(Disruptions)
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a", "b"]}]}
    budget = {"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": selector}}
    await cluster.client.create("poddisruptionbudgets.policy", budget, "default")

    async def told(owner: Obj | None) -> str:
        template = pod_template()
        template["metadata"] |= {"name": "p", "ownerReferences": [owner] if owner else []}
        made = await cluster.client.create("pods", template, "default")
        await cluster.set_pod(made)
        reason = "CalculateExpectedPodCountFailed" if owner else "UnmanagedPods"

        async def event() -> str:
            listed = [e for e in await cluster.list("events") if e["reason"] == reason]
            return str(listed[0]["message"]) if listed else ""

        text: str = await cluster.until(event)
        await cluster.client.delete_collection("events", "default")
        await cluster.client.delete("pods", "p", "default", grace_period_s=0)
        return text.removeprefix("Failed to calculate the number of expected pods: ")

    owner: Obj = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": True}
    assert await told(owner) == "jobs.batch does not implement the scale subresource"
    owner |= {"apiVersion": "example.com/v1", "kind": "Thing"}
    assert await told(owner) == 'no matches for kind "Thing" in version "example.com/v1"'
    owner |= {"apiVersion": "apps/v1", "kind": "StatefulSet"}
    assert await told(owner) == 'found no controllers for pod "p"'
    assert (
        "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement"
        "{LabelSelectorRequirement{Key:x,Operator:NotIn,Values:[a b],},},})"
    ) in await told(None)


async def test_a_quota_says_nothing_of_what_is_not_served(cluster: Cluster) -> None:
    cluster.start(Quotas)
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "3", "count/things.example.com": "3"}}}
    await cluster.client.create("resourcequotas", quota, "default")
    await cluster.until_status("resourcequotas", "q", used={"configmaps": "0"}, hard=quota["spec"]["hard"])


async def test_a_quota_is_counted_anew_when_objects_go(cluster: Cluster) -> None:
    cluster.start(Quotas)
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "requests.cpu": "2", "count/configmaps": "3"}}}
    await cluster.client.create("configmaps", {"metadata": {"name": "a"}}, "default")
    pod: Obj = {"metadata": {"name": "p"}, "spec": pod_template()["spec"]}
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "500m"}}
    await cluster.client.create("pods", pod, "default")
    await cluster.client.create("resourcequotas", quota, "default")
    used = {"pods": "1", "requests.cpu": "500m", "count/configmaps": "1"}
    await cluster.until_status("resourcequotas", "q", used=used, hard=quota["spec"]["hard"])
    await cluster.client.delete("pods", "p", "default", grace_period_s=0)
    await cluster.client.delete("configmaps", "a", "default")
    await cluster.until_status("resourcequotas", "q", used={"pods": "0", "requests.cpu": "0", "count/configmaps": "0"})


def test_a_quota_is_counted_anew_only_when_an_object_may_use_less() -> None:
    def changed(resource: str, old: Obj, **new: Any) -> bool:
        return quotas.frees(resource, old, {**old, **new})

    template = pod_template()
    pod: Obj = {"metadata": {"name": "p"}, "spec": template["spec"], "status": {"phase": "Pending"}}
    assert not changed("pods", pod, spec={**pod["spec"], "nodeName": "n1"})
    assert not changed("pods", pod, status={"phase": "Running"})
    assert changed("pods", pod, status={"phase": "Succeeded"})
    assert changed("pods", pod, metadata={"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert changed("pods", pod, spec={**pod["spec"], "activeDeadlineSeconds": 5})
    resized = {**pod["spec"]["containers"][0], "resources": {"requests": {"cpu": "1"}}}
    assert changed("pods", pod, spec={**pod["spec"], "containers": [resized]})
    service: Obj = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    assert not changed("services", service, spec={**service["spec"], "sessionAffinity": "ClientIP"})
    assert changed("services", service, spec={**service["spec"], "type": "ClusterIP"})


async def test_limits_in_a_quotas_status_that_are_not_its_own_are_put_right(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "STRANGE_STATUS_S", 0.05)
    cluster.start(Quotas)
    await cluster.client.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1"}}}, "default")
    await cluster.until_status("resourcequotas", "q", hard={"cpu": "1"}, used={"cpu": "0"})
    strange: Obj = {"status": {"hard": {"cpu": "2"}}}
    await cluster.client.patch("resourcequotas", "q", "default", strange, subresource="status")
    await cluster.until_status("resourcequotas", "q", hard={"cpu": "1"}, used={"cpu": "0"})


async def test_an_aggregated_role_has_the_rules_of_those_it_selects(cluster: Cluster) -> None:
    cluster.start(ClusterRoleAggregation)
    resource = "clusterroles.rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    selector = {"matchLabels": {"part": "yes"}}
    await cluster.client.create(
        resource,
        {"metadata": {"name": "all"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": [selector]}},
    )
    await cluster.client.create(resource, {"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": [rule]})

    async def rules(wanted: list[Obj]) -> bool:
        found = await cluster.get(resource, "all", "")
        return ((found or {}).get("rules") or []) == wanted

    await cluster.until(lambda: rules([rule]))
    await cluster.client.delete(resource, "part")
    await cluster.until(lambda: rules([]))


async def test_a_token_secret_is_filled_and_goes_with_its_account(cluster: Cluster) -> None:
    settings = Settings(root_ca_pem="CA", mint_token=lambda account, secret: f"token for {account['metadata']['name']}")
    object.__setattr__(cluster.env, "settings", settings)
    cluster.start(AccountTokens)
    account = await cluster.client.create("serviceaccounts", {"metadata": {"name": "robot"}}, "default")
    secret = {"metadata": {"name": "t", "annotations": {ACCOUNT_NAME: "robot"}}, "type": TOKEN_TYPE}
    await cluster.client.create("secrets", secret, "default")

    async def filled() -> Obj | None:
        found = await cluster.get("secrets", "t")
        return found if (found or {}).get("data") else None

    found = await cluster.until(filled)
    data = {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
    assert data == {"token": "token for robot", "ca.crt": "CA", "namespace": "default"}
    assert found["metadata"]["annotations"][ACCOUNT_UID] == account["metadata"]["uid"]
    await cluster.client.delete("serviceaccounts", "robot", "default")
    await cluster.until_gone("secrets", "t")


async def test_a_token_secret_that_goes_is_taken_off_its_accounts_list(cluster: Cluster) -> None:
    cluster.start(AccountTokens)
    account = {"metadata": {"name": "robot"}, "secrets": [{"name": "token"}, {"name": "other"}]}
    await cluster.client.create("serviceaccounts", account, "default")
    secret = {"metadata": {"name": "token", "annotations": {ACCOUNT_NAME: "robot"}}, "type": TOKEN_TYPE}
    await cluster.client.create("secrets", secret, "default")
    await cluster.client.delete("secrets", "token", "default")

    async def left() -> bool:
        found = await cluster.get("serviceaccounts", "robot")
        return found is not None and found["secrets"] == [{"name": "other"}]

    await cluster.until(left)


async def test_an_expired_join_token_is_deleted(cluster: Cluster) -> None:
    await cluster.client.create("namespaces", {"metadata": {"name": "kube-system"}})
    past = bootstrap_tokens.BootstrapToken("abcdef", "0123456789abcdef", expires=datetime.now(UTC) - timedelta(seconds=5))
    good = bootstrap_tokens.generate()
    for token in (past, good):
        await bootstrap_tokens.create(cluster.client, token)
    cluster.start(JoinTokens)
    (left,) = await cluster.until_count("secrets", 1, "kube-system")
    assert left["metadata"]["name"] == f"bootstrap-token-{good.id}"


CSRS = "certificatesigningrequests.certificates.k8s.io"


def csr(name: str, **status: Any) -> Obj:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    encoded = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": encoded, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}
    return {"metadata": {"name": name}, "spec": spec}


async def approve(cluster: Cluster, name: str) -> None:
    found = await cluster.client.get(CSRS, name)
    approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    await cluster.client.update(CSRS, {**found, "status": {"conditions": [approved]}}, subresource="approval")


async def test_approved_requests_are_signed_or_say_why_not(cluster: Cluster, tmp_path: Path) -> None:
    signed = pki.Authority.load_or_create(tmp_path).client_certificate("somebody").certificate_pem

    def sign(pem: bytes, signer: str, usages: list[str], lifetime_s: int | None) -> bytes:
        if usages != ["client auth"]:
            raise ValueError("usages are wrong")
        return signed

    object.__setattr__(cluster.env, "settings", Settings(sign_csr=sign))
    cluster.start(CertificateSigning, CertificateCleaner)
    bad = csr("bad")
    bad["spec"]["usages"] = ["server auth"]
    for request in (csr("good"), bad):
        await cluster.client.create(CSRS, request)
        await approve(cluster, request["metadata"]["name"])
    await cluster.until_status(CSRS, "good", "", certificate=base64.b64encode(signed).decode())

    async def failed() -> Obj | None:
        found = await cluster.get(CSRS, "bad", "")
        listed = ((found or {}).get("status") or {}).get("conditions") or ()
        return next((c for c in listed if c["type"] == "Failed"), None)

    condition = await cluster.until(failed)
    assert (condition["reason"], condition["message"]) == ("SignerValidationFailure", "usages are wrong")


def test_requests_are_kept_an_hour_when_settled_and_a_day_when_not() -> None:
    made = {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {}}
    assert expires(made) == 1767225600 + 86400
    denied = {"type": "Denied", "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z"}
    assert expires({**made, "status": {"conditions": [denied]}}) == 1767225600 + 7200


async def test_a_service_range_is_ready_and_stays_while_it_is_used(cluster: Cluster) -> None:
    cluster.start(ServiceCidrs)
    resource = "servicecidrs.networking.k8s.io"
    await cluster.client.create(resource, {"metadata": {"name": "extra"}, "spec": {"cidrs": ["10.200.0.0/24"]}})

    async def status() -> str:
        found = await cluster.get(resource, "extra", "")
        listed = ((found or {}).get("status") or {}).get("conditions") or ()
        return next((c["status"] for c in listed if c["type"] == "Ready"), "")

    async def is_(wanted: str) -> bool:
        return await status() == wanted

    await cluster.until(lambda: is_("True"))
    parent = {"resource": "services", "name": "x", "namespace": "default"}
    address = {"metadata": {"name": "10.200.0.7"}, "spec": {"parentRef": parent}}
    await cluster.client.create("ipaddresses.networking.k8s.io", address)
    await cluster.until(lambda: in_cache(cluster))
    await cluster.client.delete(resource, "extra")
    await cluster.until(lambda: is_("False"))
    await cluster.client.delete("ipaddresses.networking.k8s.io", "10.200.0.7")
    await cluster.until_gone(resource, "extra", "")


async def in_cache(cluster: Cluster) -> bool:
    return cluster.informers.of("ipaddresses.networking.k8s.io").get("10.200.0.7") is not None


async def test_a_flow_schema_says_whether_its_priority_level_is_there(cluster: Cluster) -> None:
    async def until(status: str, reason: str) -> None:
        async def settled() -> bool:
            found = ((await cluster.get(FLOW_SCHEMAS, "f", "") or {}).get("status") or {}).get("conditions") or [{}]
            return [found[0].get(key) for key in ("type", "status", "reason")] == ["Dangling", status, reason]

        await cluster.until(settled)

    cluster.start(FlowSchemas)
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "u"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    spec = {"matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "p"}, "rules": [rule]}
    await cluster.client.create(FLOW_SCHEMAS, {"metadata": {"name": "f"}, "spec": spec})
    await until("True", "NotFound")
    limited = {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}
    await cluster.client.create(LEVELS, {"metadata": {"name": "p"}, "spec": limited})
    await until("False", "Found")
    await cluster.client.delete(LEVELS, "p")
    await until("True", "NotFound")
