from typing import Any

import pytest

from kubelite.meta.types import Obj
from kubelite.registry.validation import admissionpolicies as policies
from kubelite.registry.validation import admissionregistration as webhooks

RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}


def hook(**changes: Any) -> Obj:
    given = {
        "name": "hook.example.com",
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "ns", "name": "s"}},
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def policy(**changes: Any) -> Obj:
    spec = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "object.spec.x == 1"}]}
    return {"metadata": {"name": "p"}, "spec": {**spec, **changes}}


def fields(causes: Any) -> list[str]:
    return [cause.field for cause in causes]


def test_what_is_right_has_no_faults() -> None:
    condition = {"name": "c", "expression": "request.userInfo.username == 'x' && object.a.all(k, k != 'b')"}
    assert not list(webhooks.webhook_faults({"webhooks": [hook(matchConditions=[condition]), hook(name="other.example.com")]}))
    complete = policy(
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[{"name": "n", "expression": "object.spec.replicas"}],
        validations=[{"expression": "variables.n <= int(params.data.max)", "messageExpression": "'n is ' + string(variables.n)"}],
        auditAnnotations=[{"key": "n", "valueExpression": "string(variables.n)"}],
    )
    assert not list(policies.policy_faults(complete))
    binding = {"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}}
    assert not list(policies.binding_faults({"spec": binding}))


def test_an_expression_that_does_not_compile_is_refused_where_it_stands() -> None:
    bad = [*webhooks.webhook_faults({"webhooks": [hook(matchConditions=[{"name": "c", "expression": "... [] bad expression"}])]})]
    assert fields(bad) == ["webhooks[0].matchConditions[0].expression"]
    assert "compilation failed" in bad[0].message
    undeclared = list(policies.policy_faults(policy(validations=[{"expression": "params.x == 1 && foo"}])))
    assert fields(undeclared) == ["spec.validations[0].expression"]
    assert "undeclared reference to 'foo'" in undeclared[0].message
    assert "undeclared reference to 'params'" in undeclared[0].message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "short"}, "name"),
        ({"sideEffects": None}, "sideEffects"),
        ({"sideEffects": "Some"}, "sideEffects"),
        ({"timeoutSeconds": 31}, "timeoutSeconds"),
        ({"admissionReviewVersions": ["v9"]}, "admissionReviewVersions"),
        ({"clientConfig": {}}, "clientConfig"),
        ({"clientConfig": {"url": "http://x/y"}}, "clientConfig.url"),
        ({"rules": [RULE | {"operations": []}]}, "rules[0].operations"),
        ({"rules": [RULE | {"apiGroups": ["*", "apps"]}]}, "rules[0].apiGroups"),
        ({"matchConditions": [{"name": "", "expression": "true"}]}, "matchConditions[0].name"),
    ],
)
def test_each_fault_of_a_webhook_names_its_field(changes: Obj, field: str) -> None:
    assert fields(webhooks.webhook_faults({"webhooks": [hook(**changes)]})) == [f"webhooks[0].{field}"]


def test_names_of_webhooks_are_unique() -> None:
    assert fields(webhooks.webhook_faults({"webhooks": [hook(), hook()]})) == ["webhooks[1].name"]


def test_a_policy_needs_something_to_check_and_a_binding_something_to_do() -> None:
    assert fields(policies.policy_faults({"metadata": {}, "spec": {}})) == [
        "spec.matchConstraints",
        "spec.validations",
        "spec.auditAnnotations",
    ]
    assert fields(policies.binding_faults({"spec": {}})) == ["spec.policyName", "spec.validationActions"]
    both = {"policyName": "p", "validationActions": ["Deny", "Warn"]}
    assert fields(policies.binding_faults({"spec": both})) == ["spec.validationActions"]
