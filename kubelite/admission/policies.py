"""ValidatingAdmissionPolicy: rules that users write as expressions, and bindings that say where they hold and with what.

Source: apiserver pkg/admission/plugin/policy/{generic,validating}; KEP-3488.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubelite.admission import faults
from kubelite.admission.conditions import ConditionFailed, Scope, all_hold
from kubelite.admission.contract import Permits
from kubelite.admission.matching import Matcher, namespace_labels, namespace_of
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors, selectors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema import expressions
from kubelite.schema.kinds import Kind, Kinds

_GROUP = "admissionregistration.k8s.io"
_KEPT_SELECTIONS = 4096
_MAX_MESSAGE_BYTES = 5 * 1024
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}

#: note(annotation, value): what a policy wants in the audit log.
Note = Callable[[str, str], None]


class _ConfigurationFault(Exception):
    """A policy or binding can't be evaluated as it is written."""


class _Decision(NamedTuple):
    """Why a policy says no."""

    policy: Obj
    binding: Obj | None
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Policy:
    """A policy with its matcher."""

    obj: Obj
    matcher: Matcher

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def spec(self) -> Obj:
        spec: Obj = self.obj["spec"]
        return spec

    @property
    def ignores_failure(self) -> bool:
        return bool(self.spec.get("failurePolicy", "Fail") == "Ignore")


class ValidatingPolicies:
    """The plugin."""

    name = "ValidatingAdmissionPolicy"

    def __init__(self, client: Client, informers: Informers, permits: Permits, kinds: Kinds, note: Note | None = None) -> None:
        self._client = client
        self._permits = permits
        self._kinds = kinds
        self._note = note
        self._namespaces = informers.of("namespaces")
        self._objects = informers.of(f"validatingadmissionpolicies.{_GROUP}")
        self._bindings = informers.of(f"validatingadmissionpolicybindings.{_GROUP}")
        self._bound: dict[str, list[tuple[Obj, Matcher | None]]] | None = None
        self._selections: dict[tuple[Operation, Kind, str], tuple[_Policy, ...]] = {}
        self._objects.subscribe(self._changed)
        self._bindings.subscribe(self._changed)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return kind.group not in (_GROUP, "authorization.k8s.io", "authentication.k8s.io")

    async def validate(self, attributes: Attributes) -> None:
        policies = self._selection(attributes)
        if not policies:
            return
        decisions: list[_Decision] = []
        namespace = await namespace_of(self._namespaces, self._client, attributes)
        labels = await namespace_labels(self._namespaces, self._client, attributes)
        scope: Scope | None = None
        for policy in policies:
            if not policy.matcher.is_for(attributes, labels):
                continue
            scope = scope or Scope(attributes, self._permits, namespace)
            for binding, matcher in self._bindings_of(policy.name):
                if matcher is not None and not _is_bound(matcher, attributes, labels):
                    continue
                decisions += await self._weigh(policy, binding, attributes, scope)
        if decisions:
            raise _refused(attributes, decisions[0])

    async def _weigh(self, policy: _Policy, binding: Obj, attributes: Attributes, scope: Scope) -> list[_Decision]:
        """The decisions that deny; what only warns or is only noted is done on the way."""
        try:
            params = await self._params(policy, binding, attributes)
        except _ConfigurationFault as fault:
            message = f"failed to configure binding: {fault}"
            return [] if policy.ignores_failure else [_Decision(policy.obj, binding, message)]
        actions = binding["spec"].get("validationActions") or ["Deny"]
        denied = []
        for param in params:
            for decision in _violations(policy, binding, scope, param, self._note):
                if "Deny" in actions:
                    denied.append(decision)
                if "Warn" in actions:
                    where = f"'{policy.name}' with binding '{binding['metadata']['name']}'"
                    attributes.warnings.append(f"Validation failed for ValidatingAdmissionPolicy {where}: {decision.message}")
                if "Audit" in actions and self._note is not None:
                    self._note("validation.policy.admission.k8s.io/validation_failure", _audited(policy, binding, decision))
        return denied

    async def _params(self, policy: _Policy, binding: Obj, attributes: Attributes) -> list[Obj | None]:
        """The objects that a binding gives the policy as parameters; one None where it takes none."""
        wanted, ref = policy.spec.get("paramKind"), binding["spec"].get("paramRef")
        if wanted is None:
            return [None]
        if ref is None:
            return [None]
        kind = self._kinds.of_kind(wanted["apiVersion"], wanted["kind"])
        if kind is None:
            raise _ConfigurationFault(
                f"failed to find resource referenced by paramKind: '{wanted['apiVersion']}, Kind={wanted['kind']}'"
            )
        namespace = ref.get("namespace") or ""
        if kind.namespaced:
            namespace = namespace or attributes.target.namespace
            if not namespace:
                raise _ConfigurationFault(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif namespace:
            raise _ConfigurationFault("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        found = await self._find_params(kind, namespace, ref)
        if not found:
            if ref.get("parameterNotFoundAction") == "Deny":
                raise _ConfigurationFault("no params found for policy binding with `Deny` parameterNotFoundAction")
            return []
        return [*found]

    async def _find_params(self, kind: Kind, namespace: str, ref: Obj) -> list[Obj]:
        if ref.get("name"):
            try:
                found = await self._client.get(kind.group_resource, ref["name"], namespace)
            except errors.NotFound:
                return []
            return [_with_kind(kind, found)]
        if ref.get("selector") is None:
            raise _ConfigurationFault("one of name or selector must be provided")
        selector = str(selectors.from_object(ref["selector"]))
        listing = await self._client.list(kind.group_resource, namespace, label_selector=selector)
        return [_with_kind(kind, item) for item in listing.items]

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        self._bound = None
        self._selections.clear()

    def _selection(self, attributes: Attributes) -> tuple[_Policy, ...]:
        """The policies that are bound and whose rules match, before any selector is asked."""
        key = attributes.operation, attributes.target.kind, attributes.target.subresource
        found = self._selections.get(key)
        if found is None:
            if len(self._selections) >= _KEPT_SELECTIONS:
                self._selections.clear()
            policies = sorted(self._objects.list(), key=lambda p: str(p["metadata"]["name"]))
            all_of_them = (_Policy(p, _matcher(p["spec"].get("matchConstraints") or {})) for p in policies)
            found = tuple(p for p in all_of_them if p.matcher.matches_kind(*key) and self._bindings_of(p.name))
            self._selections[key] = found
        return found

    def _bindings_of(self, policy: str) -> list[tuple[Obj, Matcher | None]]:
        if self._bound is None:
            self._bound = {}
            for binding in sorted(self._bindings.list(), key=lambda b: str(b["metadata"]["name"])):
                resources = binding["spec"].get("matchResources")
                matcher = _matcher(resources) if resources else None
                self._bound.setdefault(binding["spec"]["policyName"], []).append((binding, matcher))
        return self._bound.get(policy, [])


def _matcher(resources: Obj) -> Matcher:
    everything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]
    return Matcher(
        resources.get("resourceRules") or everything,
        excluded=resources.get("excludeResourceRules") or (),
        namespace_selector=resources.get("namespaceSelector"),
        object_selector=resources.get("objectSelector"),
        equivalent=resources.get("matchPolicy", "Equivalent") == "Equivalent",
    )


def _is_bound(matcher: Matcher, attributes: Attributes, labels: dict[str, str] | None) -> bool:
    target = attributes.target
    return matcher.matches_kind(attributes.operation, target.kind, target.subresource) and matcher.is_for(attributes, labels)


def _violations(policy: _Policy, binding: Obj, scope: Scope, param: Obj | None, note: Note | None) -> Iterator[_Decision]:
    """Every validation that is not true for one parameter, and every failure that counts."""
    extra: dict[str, Any] = {"params": param}
    conditions = policy.spec.get("matchConditions")
    if conditions:
        try:
            if not all_hold(conditions, scope, extra):
                return
        except ConditionFailed as error:
            if not policy.ignores_failure:
                yield _Decision(policy.obj, binding, str(error))
            return
    extra["variables"] = _variables(policy, scope, extra)
    for validation in policy.spec.get("validations") or ():
        source = validation["expression"]
        try:
            value = scope.evaluate(source, extra)
        except expressions.ExpressionError as error:
            if not policy.ignores_failure:
                yield _Decision(policy.obj, binding, f"expression '{source.strip()}' resulted in error: {error}")
            continue
        if value is not True:
            yield _Decision(policy.obj, binding, _message(validation, scope, extra), validation.get("reason") or "Invalid")
    yield from _annotations(policy, binding, scope, extra, note)


def _variables(policy: _Policy, scope: Scope, extra: dict[str, Any]) -> dict[str, Any]:
    """The policy's variables, each able to use those before it. One that fails is missing, so that only who uses it fails."""
    values: dict[str, Any] = {}
    for variable in policy.spec.get("variables") or ():
        try:
            values[variable["name"]] = scope.evaluate(variable["expression"], {**extra, "variables": values})
        except expressions.ExpressionError:
            values.pop(variable["name"], None)
    return values


def _message(validation: Obj, scope: Scope, extra: dict[str, Any]) -> str:
    text = ""
    if validation.get("messageExpression"):
        try:
            value = scope.evaluate(validation["messageExpression"], extra)
        except expressions.ExpressionError:
            value = None
        if isinstance(value, str) and len(value) <= _MAX_MESSAGE_BYTES and "\n" not in value.strip():
            text = value.strip()
    return text or (validation.get("message") or "").strip() or f"failed expression: {validation['expression'].strip()}"


def _annotations(policy: _Policy, binding: Obj, scope: Scope, extra: dict[str, Any], note: Note | None) -> Iterator[_Decision]:
    for annotation in policy.spec.get("auditAnnotations") or ():
        source = annotation["valueExpression"]
        try:
            value = scope.evaluate(source, extra)
        except expressions.ExpressionError as error:
            if not policy.ignores_failure:
                yield _Decision(policy.obj, binding, f"expression '{source.strip()}' resulted in error: {error}")
            continue
        if value is not None and not isinstance(value, str):
            text = f"valueExpression '{source}' resulted in unsupported return type. Return type must be either string or null."
            yield _Decision(policy.obj, binding, text)
        elif value and value.strip() and note is not None:
            note(f"{policy.name}/{annotation['key']}", value.strip()[: 10 * 1024])


def _refused(attributes: Attributes, decision: _Decision) -> errors.ApiError:
    name = decision.policy["metadata"]["name"]
    where = f" with binding '{decision.binding['metadata']['name']}'" if decision.binding is not None else ""
    text = f"ValidatingAdmissionPolicy '{name}'{where} denied request: {decision.message}"
    error = faults.forbidden(attributes, text, (errors.Cause("", "", text),))
    error.reason = decision.reason or "Invalid"
    error.code = _CODES.get(error.reason, 422)
    return error


def _audited(policy: _Policy, binding: Obj, decision: _Decision) -> str:
    import orjson

    failure = {
        "message": decision.message,
        "policy": policy.name,
        "binding": binding["metadata"]["name"],
        "validationActions": binding["spec"].get("validationActions") or [],
    }
    return orjson.dumps([failure]).decode()


def _with_kind(kind: Kind, obj: Obj) -> Obj:
    return obj if "kind" in obj else {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
