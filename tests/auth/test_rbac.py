import time
from typing import Any

import pytest

from kubelite.auth import authorizers, escalation, policy, reviews
from kubelite.auth.contract import Access
from kubelite.auth.nodes import NodeAuthorizer
from kubelite.auth.rbac import GROUP, Rbac
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.registry.contract import Attributes, Target
from kubelite.schema.kinds import Kind
from tests.auth.fakes import StaticInformers, named

ALICE = User("alice", ("team", "system:authenticated"))
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))


def access(user: User, verb: str, resource: str, **rest: Any) -> Access:
    return Access(user, verb, resource=resource, **rest)


def role(name: str, namespace: str, *rules: Obj) -> Obj:
    return named(name, namespace, rules=list(rules))


def rule(verbs: str, resources: str, group: str = "", **rest: Any) -> Obj:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split(), **rest}


def binding(name: str, namespace: str, kind: str, role_name: str, /, **subject: str) -> Obj:
    return named(name, namespace, roleRef={"apiGroup": GROUP, "kind": kind, "name": role_name}, subjects=[subject])


@pytest.fixture
def informers() -> StaticInformers:
    return StaticInformers(
        {
            f"clusterroles.{GROUP}": [role("reader", "", rule("get list", "pods pods/log configmaps"))],
            f"roles.{GROUP}": [role("one", "ns", rule("get", "secrets", resourceNames=["s1"]))],
            f"clusterrolebindings.{GROUP}": [],
            f"rolebindings.{GROUP}": [
                binding("team-reads", "ns", "ClusterRole", "reader", kind="Group", name="team"),
                binding("alice-one", "ns", "Role", "one", kind="User", name="alice"),
            ],
        }
    )


def test_a_binding_allows_in_its_namespace_alone(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    decision = rbac.authorize(access(ALICE, "get", "pods", namespace="ns", name="x"))
    assert decision.allowed is True
    assert decision.reason == 'RBAC: allowed by RoleBinding "team-reads/ns" of ClusterRole "reader" to Group "team"'
    assert rbac.authorize(access(ALICE, "get", "pods", namespace="ns", subresource="log")).allowed is True
    assert rbac.authorize(access(ALICE, "get", "pods", namespace="ns", subresource="exec")).allowed is None
    assert rbac.authorize(access(ALICE, "get", "pods", namespace="other")).allowed is None
    assert rbac.authorize(access(ALICE, "delete", "pods", namespace="ns")).allowed is None
    assert rbac.authorize(access(User("bob"), "get", "pods", namespace="ns")).allowed is None


def test_resource_names_limit_a_rule(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    assert rbac.authorize(access(ALICE, "get", "secrets", namespace="ns", name="s1")).allowed is True
    assert rbac.authorize(access(ALICE, "get", "secrets", namespace="ns", name="s2")).allowed is None
    assert rbac.authorize(access(ALICE, "get", "secrets", namespace="ns")).allowed is None


def test_a_change_of_role_or_binding_counts_at_once(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    ask = access(ALICE, "delete", "pods", namespace="ns", name="x")
    assert rbac.authorize(ask).allowed is None
    informers.put(f"clusterroles.{GROUP}", role("reader", "", rule("delete", "pods")))
    assert rbac.authorize(ask).allowed is True
    informers.drop(f"rolebindings.{GROUP}", binding("team-reads", "ns", "ClusterRole", "reader", kind="Group", name="team"))
    assert rbac.authorize(ask).allowed is None


def test_service_accounts_are_bound_by_name_and_namespace(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    bob = User("system:serviceaccount:ns:bob")
    subject = binding("bob", "ns", "ClusterRole", "reader", kind="ServiceAccount", name="bob", namespace="ns")
    informers.put(f"rolebindings.{GROUP}", subject)
    assert 'ServiceAccount "bob/ns"' in rbac.authorize(access(bob, "list", "pods", namespace="ns")).reason
    assert rbac.authorize(access(User("system:serviceaccount:x:bob"), "list", "pods", namespace="ns")).allowed is None


def test_the_standard_roles_let_everybody_discover_and_nobody_else_more() -> None:
    informers = StaticInformers()
    plural = {
        "ClusterRole": "clusterroles",
        "Role": "roles",
        "ClusterRoleBinding": "clusterrolebindings",
        "RoleBinding": "rolebindings",
    }
    objects = policy.bootstrap_objects()
    for obj in objects:
        informers.put(f"{plural[obj['kind']]}.{GROUP}", obj)
    rbac = Rbac(informers)
    union = authorizers.Union([NodeAuthorizer(informers), rbac])
    anonymous = User("system:anonymous", ("system:unauthenticated",))
    assert union.authorize(Access(anonymous, "get", path="/healthz")).allowed is True
    assert union.authorize(Access(anonymous, "get", path="/api")).allowed is None
    assert union.authorize(Access(ALICE, "get", path="/apis/apps")).allowed is True
    assert union.authorize(access(ALICE, "create", "selfsubjectaccessreviews", group="authorization.k8s.io")).allowed is True
    assert union.authorize(access(ALICE, "list", "secrets")).allowed is None
    assert union.authorize(access(User("root", ("system:masters",)), "anything", "goes")).allowed is True
    controller = User("system:serviceaccount:kube-system:deployment-controller")
    assert union.authorize(access(controller, "create", "replicasets", group="apps", namespace="x")).allowed is True
    names = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "ClusterRole"}
    assert len(names) == 68
    admin = names["admin"]["rules"]
    assert any("rolebindings" in r["resources"] for r in admin)
    assert any("pods/exec" in r["resources"] and "create" in r["verbs"] for r in admin)
    assert any(r["resources"] == ["namespaces"] for r in admin)


def test_CVE_2021_25740_the_standard_roles_let_no_user_write_endpoints() -> None:
    for obj in policy.bootstrap_objects():
        if obj["metadata"]["name"] not in ("admin", "edit", "view"):
            continue
        for rule in obj["rules"]:
            if {"endpoints", "endpointslices", "*"} & set(rule.get("resources") or ()):
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_reconciling_adds_what_is_missing_and_respects_an_opt_out() -> None:
    wanted = next(
        o for o in policy.bootstrap_objects() if o["metadata"]["name"] == "system:discovery" and o["kind"] == "ClusterRole"
    )
    assert policy.reconciled(wanted, wanted) is None
    fixed = policy.reconciled(wanted, wanted | {"rules": []})
    assert fixed is not None
    assert fixed["rules"] == wanted["rules"]
    opted_out = wanted | {"rules": [], "metadata": wanted["metadata"] | {"annotations": {policy.AUTO_UPDATE: "false"}}}
    assert policy.reconciled(wanted, opted_out) is None


def test_the_refusal_is_worded_as_kubernetes_words_it() -> None:
    text = authorizers.forbidden(access(User("u"), "get", "pods", namespace="ns", name="x")).message
    assert text == 'pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "ns"'
    text = authorizers.forbidden(access(User("u"), "list", "deployments", group="apps", subresource="scale")).message
    assert text == (
        'deployments.apps is forbidden: User "u" cannot list resource "deployments/scale" '
        'in API group "apps" at the cluster scope'
    )
    assert authorizers.forbidden(Access(User("u"), "get", path="/x")).message == 'forbidden: User "u" cannot get path "/x"'


def test_a_rule_question_costs_microseconds(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    asks = [access(ALICE, "get", "pods", namespace="ns", name=f"pod-{n}") for n in range(1000)]
    start = time.process_time()
    assert all(rbac.authorize(ask).allowed for ask in asks)
    assert (time.process_time() - start) / len(asks) < 50e-6


def kind_of(plural: str, namespaced: bool) -> Kind:
    return Kind(GROUP, "v1", plural.capitalize(), plural, plural[:-1], namespaced)


def write(user: User, plural: str, obj: Obj, namespace: str = "", old: Obj | None = None) -> Attributes:
    target = Target(kind_of(plural, bool(namespace)), namespace, obj["metadata"]["name"])
    return Attributes("UPDATE" if old else "CREATE", target, obj, old, user, False, {})


async def test_nobody_grants_rights_they_do_not_have(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    check = escalation.EscalationCheck(rbac, authorizers.Union([rbac]))
    await check.validate(write(ALICE, "roles", role("mine", "ns", rule("get", "pods")), "ns"))
    with pytest.raises(errors.Forbidden) as refused:
        await check.validate(write(ALICE, "roles", role("mine", "ns", rule("get delete", "pods nodes")), "ns"))
    assert refused.value.message == (
        'roles.rbac.authorization.k8s.io "mine" is forbidden: user "alice" (groups=["team" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "delete"]}\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    wildcard = role("all", "ns", rule("*", "*", "*"))
    with pytest.raises(errors.Forbidden):
        await check.validate(write(ALICE, "roles", wildcard, "ns"))
    await check.validate(write(User("root", ("system:masters",)), "roles", wildcard, "ns"))
    await check.validate(write(ALICE, "roles", wildcard, "ns", old=wildcard))
    with pytest.raises(errors.Forbidden):
        aggregate = named("a", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]})
        await check.validate(write(ALICE, "clusterroles", aggregate))


async def test_binding_a_role_needs_its_rules_or_the_verb_bind(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    check = escalation.EscalationCheck(rbac, authorizers.Union([rbac]))
    informers.put(f"clusterroles.{GROUP}", role("strong", "", rule("*", "*", "*")))
    weak = binding("b", "ns", "ClusterRole", "reader", kind="User", name="bob")
    await check.validate(write(ALICE, "rolebindings", weak, "ns"))
    strong = binding("b", "ns", "ClusterRole", "strong", kind="User", name="alice")
    with pytest.raises(errors.Forbidden):
        await check.validate(write(ALICE, "rolebindings", strong, "ns"))
    may_bind = rule("bind", "clusterroles", GROUP, resourceNames=["strong"])
    informers.put(f"clusterroles.{GROUP}", role("reader", "", rule("get", "pods"), may_bind))
    await check.validate(write(ALICE, "rolebindings", strong, "ns"))


def pod(name: str, node: str, **spec: Any) -> Obj:
    return named(name, "ns", spec={"nodeName": node, "serviceAccountName": "default", **spec})


def test_a_node_reads_only_what_its_pods_refer_to() -> None:
    secret_volume = [{"name": "v", "secret": {"secretName": "mine"}}]
    init = [{"name": "i", "envFrom": [{"secretRef": {"name": "init-only"}}]}]
    informers = StaticInformers(
        {
            "pods": [
                pod("a", "n1", volumes=secret_volume, initContainers=init),
                pod("b", "n2", volumes=[{"name": "v", "secret": {"secretName": "theirs"}}]),
                pod("mirror", "n1", imagePullSecrets=[{"name": "stolen"}])
                | {"metadata": {"name": "mirror", "namespace": "ns", "annotations": {"kubernetes.io/config.mirror": "x"}}},
            ],
            "persistentvolumeclaims": [],
            "persistentvolumes": [],
        }
    )
    nodes = NodeAuthorizer(informers)

    def allowed(verb: str, resource: str, name: str = "", namespace: str = "ns", **rest: Any) -> bool:
        return nodes.authorize(access(NODE, verb, resource, name=name, namespace=namespace, **rest)).allowed is True

    assert allowed("get", "secrets", "mine")
    assert allowed("get", "secrets", "init-only")
    assert not allowed("get", "secrets", "theirs")
    assert not allowed("get", "secrets", "stolen")
    assert not allowed("get", "secrets", "mine", "other")
    assert not allowed("list", "secrets")
    assert not allowed("update", "secrets", "mine")
    assert allowed("create", "serviceaccounts", "default", subresource="token")
    assert not allowed("create", "serviceaccounts", "admin", subresource="token")
    assert allowed("get", "nodes", "n1", "")
    assert not allowed("get", "nodes", "n2", "")
    assert not allowed("list", "nodes", "", "")
    assert allowed("list", "pods", namespace="", field_selector="spec.nodeName=n1")
    assert not allowed("list", "pods", namespace="", field_selector="spec.nodeName=n2")
    assert allowed("update", "leases", "n1", "kube-node-lease", group="coordination.k8s.io")
    assert not allowed("update", "leases", "n2", "kube-node-lease", group="coordination.k8s.io")
    assert allowed("list", "services", namespace="")
    assert nodes.authorize(access(ALICE, "get", "secrets", name="mine", namespace="ns")).allowed is None
    informers.drop("pods", pod("a", "n1"))
    assert not allowed("get", "secrets", "mine")


def test_a_node_reads_the_volumes_behind_its_pods_claims() -> None:
    informers = StaticInformers(
        {
            "pods": [pod("a", "n1", volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}])],
            "persistentvolumeclaims": [named("c", "ns", spec={"volumeName": "pv1"})],
            "persistentvolumes": [
                named(
                    "pv1",
                    spec={
                        "claimRef": {"namespace": "ns", "name": "c"},
                        "csi": {"nodePublishSecretRef": {"name": "key", "namespace": "ns"}},
                    },
                )
            ],
        }
    )
    nodes = NodeAuthorizer(informers)
    assert nodes.is_related("n1", "persistentvolumes", "", "pv1")
    assert nodes.is_related("n1", "secrets", "ns", "key")
    assert not nodes.is_related("n2", "persistentvolumes", "", "pv1")


def test_reviews_answer_with_the_reason(informers: StaticInformers) -> None:
    rbac = Rbac(informers)
    union = authorizers.Union([rbac])
    spec = {"user": "alice", "groups": ["team"], "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "ns"}}
    status = reviews.subject_access_review({"metadata": {}, "spec": spec}, union)["status"]
    assert status["allowed"] is True
    assert status["reason"].startswith("RBAC: allowed by RoleBinding")
    mine = reviews.self_subject_access_review(
        {"metadata": {}, "spec": {"nonResourceAttributes": {"path": "/x", "verb": "get"}}}, ALICE, union
    )
    assert mine["status"] == {"allowed": False}
    with pytest.raises(errors.Invalid):
        reviews.subject_access_review({"metadata": {}, "spec": {"resourceAttributes": {}}}, union)
    rules = reviews.self_subject_rules_review({"spec": {"namespace": "ns"}}, ALICE, rbac)["status"]["resourceRules"]
    assert {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s1"]} in rules
