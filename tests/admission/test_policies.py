from typing import Any

import pytest

from kubelite.admission.policies import ValidatingPolicies
from kubelite.meta import errors
from kubelite.meta.types import Obj
from tests.admission.fakes import KINDS, StaticClient, request
from tests.auth.fakes import StaticInformers, named

GROUP = "admissionregistration.k8s.io"
RULES = [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]


def policy(**spec: Any) -> Obj:
    return named("p", spec={"matchConstraints": {"resourceRules": RULES}, **spec})


def binding(name: str = "b", **spec: Any) -> Obj:
    return named(name, spec={"policyName": "p", "validationActions": ["Deny"], **spec})


def deployment(replicas: int, **metadata: Any) -> Obj:
    return named("d", "ns", metadata=metadata, spec={"replicas": replicas})


def setup(obj: Obj, *bindings: Obj, params: list[Obj] | None = None):  # type: ignore[no-untyped-def]
    informers = StaticInformers(
        {
            "namespaces": [named("ns", metadata={"labels": {"env": "test"}})],
            "configmaps": params or [],
            f"validatingadmissionpolicies.{GROUP}": [obj],
            f"validatingadmissionpolicybindings.{GROUP}": list(bindings) or [binding()],
        }
    )
    notes: list[tuple[str, str]] = []

    def permits(user: object, verb: str, *rest: str) -> bool:
        return verb == "create"

    plugin = ValidatingPolicies(
        StaticClient(informers),  # type: ignore[arg-type]
        informers,  # type: ignore[arg-type]
        permits,
        KINDS,
        lambda key, value: notes.append((key, value)),
    )
    return plugin, notes


def create(obj: Obj) -> Any:
    return request("CREATE", "deployments.apps", obj)


async def test_a_validation_that_is_not_true_refuses_with_policy_and_binding() -> None:
    plugin, _ = setup(policy(validations=[{"expression": "object.spec.replicas <= 5"}]))
    await plugin.validate(create(deployment(5)))
    with pytest.raises(errors.ApiError) as refused:
        await plugin.validate(create(deployment(6)))
    assert refused.value.message == (
        "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
        "failed expression: object.spec.replicas <= 5"
    )
    assert (refused.value.reason, refused.value.code) == ("Invalid", 422)


async def test_messages_reasons_and_variables() -> None:
    plugin, _ = setup(
        policy(
            variables=[{"name": "n", "expression": "object.spec.replicas"}, {"name": "twice", "expression": "variables.n * 2"}],
            validations=[
                {
                    "expression": "variables.twice <= 10",
                    "messageExpression": "'twice is ' + string(variables.twice) + ' in ' + namespaceObject.metadata.name",
                    "reason": "Forbidden",
                }
            ],
        )
    )
    with pytest.raises(errors.ApiError, match="denied request: twice is 12 in ns") as refused:
        await plugin.validate(create(deployment(6)))
    assert refused.value.code == 403


async def test_parameters_come_from_the_binding() -> None:
    limit = named("limit", "ns", metadata={"labels": {"use": "yes"}}, data={"max": "3"})
    checked = policy(
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        validations=[{"expression": "object.spec.replicas <= int(params.data.max)", "message": "too many"}],
    )
    by_name = binding(paramRef={"name": "limit", "parameterNotFoundAction": "Deny"})
    by_label = binding(paramRef={"selector": {"matchLabels": {"use": "yes"}}, "parameterNotFoundAction": "Deny"})
    for bound in (by_name, by_label):
        plugin, _ = setup(checked, bound, params=[limit])
        await plugin.validate(create(deployment(3)))
        with pytest.raises(errors.ApiError, match="too many"):
            await plugin.validate(create(deployment(4)))
    plugin, _ = setup(checked, by_name)
    with pytest.raises(errors.ApiError, match="no params found for policy binding with `Deny` parameterNotFoundAction"):
        await plugin.validate(create(deployment(1)))
    plugin, _ = setup(checked, binding(paramRef={"name": "limit", "parameterNotFoundAction": "Allow"}))
    await plugin.validate(create(deployment(100)))


async def test_actions_can_warn_and_note_instead() -> None:
    plugin, notes = setup(
        policy(
            validations=[{"expression": "false", "message": "no"}],
            auditAnnotations=[{"key": "n", "valueExpression": "'replicas ' + string(object.spec.replicas)"}],
        ),
        binding(validationActions=["Warn", "Audit"]),
    )
    attributes = create(deployment(1))
    await plugin.validate(attributes)
    assert attributes.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no"]
    assert ("p/n", "replicas 1") in notes
    assert any(key == "validation.policy.admission.k8s.io/validation_failure" for key, _ in notes)


async def test_conditions_selectors_and_bindings_limit_a_policy() -> None:
    never = [{"expression": "false"}]
    for limited, bound in (
        (policy(validations=never, matchConditions=[{"name": "c", "expression": "object.metadata.name == 'x'"}]), binding()),
        (policy(validations=never), binding(matchResources={"namespaceSelector": {"matchLabels": {"env": "prod"}}})),
        (policy(validations=never), binding(matchResources={"objectSelector": {"matchLabels": {"a": "b"}}})),
        (policy(validations=never), named("b", spec={"policyName": "other"})),
        (
            policy(validations=never, matchConstraints={"resourceRules": RULES, "excludeResourceRules": RULES}),
            binding(),
        ),
    ):
        plugin, _ = setup(limited, bound)
        await plugin.validate(create(deployment(1)))


async def test_an_error_counts_unless_the_policy_ignores_it() -> None:
    broken = {"validations": [{"expression": "object.spec.missing == 1"}]}
    plugin, _ = setup(policy(**broken))
    with pytest.raises(errors.ApiError, match="resulted in error: no such key: missing"):
        await plugin.validate(create(deployment(1)))
    plugin, _ = setup(policy(**broken, failurePolicy="Ignore"))
    await plugin.validate(create(deployment(1)))


async def test_expressions_can_ask_the_authorizer() -> None:
    for verb, fine in (("create", True), ("delete", False)):
        plugin, _ = setup(policy(validations=[{"expression": f"authorizer.requestResource.check('{verb}').allowed()"}]))
        if fine:
            await plugin.validate(create(deployment(1)))
        else:
            with pytest.raises(errors.ApiError):
                await plugin.validate(create(deployment(1)))
    checked = "authorizer.group('apps').resource('deployments').namespace('ns').check('create').allowed()"
    plugin, _ = setup(policy(validations=[{"expression": checked}]))
    await plugin.validate(create(deployment(1)))


async def test_without_policies_nothing_is_asked() -> None:
    plugin, _ = setup(policy(validations=[{"expression": "false"}]))
    await plugin.validate(request("CREATE", "configmaps", named("c", "ns")))
    await plugin.validate(request("CREATE", f"validatingadmissionpolicies.{GROUP}", policy()))
