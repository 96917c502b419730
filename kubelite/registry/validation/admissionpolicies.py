"""Checks of admission policies and their bindings.

Source: pkg/apis/admissionregistration/validation/validation.go, v1.34.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import admissionrules, fields, statuses
from kubelite.registry.validation.admissionrules import expression_faults

_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_NO_RESULT = "validations or auditAnnotations must contain at least one item"
_TWICE = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers "
    "serves no purpose)"
)
_EXCLUSIVE = "name and selector are mutually exclusive"
MAX_ANNOTATIONS, MAX_ANNOTATION_EXPRESSION = 20, 5 * 1024


def policy_faults(policy: Obj, old: Obj | None = None) -> Iterator[Cause]:
    """What is wrong with a ValidatingAdmissionPolicy. Conditions that an update leaves alone are not looked at again."""
    spec = policy.get("spec") or {}
    was = None if old is None else old.get("spec") or {}
    param_kind, conditions = spec.get("paramKind"), spec.get("matchConditions") or []
    declared = (*admissionrules.VARIABLES, "params") if param_kind is not None else admissionrules.VARIABLES
    yield from fields.optional_one_of(spec.get("failurePolicy"), "spec.failurePolicy", admissionrules.FAILURE_POLICIES)
    if param_kind is not None:
        yield from _param_kind_faults(param_kind)
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield errors.required("spec.matchConstraints")
    else:
        yield from admissionrules.match_faults(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield errors.required("spec.matchConstraints.resourceRules")
    if was is None or (param_kind, conditions) != (was.get("paramKind"), was.get("matchConditions") or []):
        yield from admissionrules.condition_faults(conditions, "spec.matchConditions", declared)
    declared = (*declared, "variables")
    yield from _variable_faults(spec.get("variables") or (), declared)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        yield errors.required("spec.validations", _NO_RESULT)
        yield errors.required("spec.auditAnnotations", _NO_RESULT)
    for index, validation in enumerate(validations):
        yield from _validation_faults(validation, f"spec.validations[{index}]", declared)
    if len(annotations) > MAX_ANNOTATIONS:
        text = f"must not have more than {MAX_ANNOTATIONS} auditAnnotations"
        yield errors.invalid("spec.auditAnnotations", annotations, text)
    yield from _annotation_faults(policy["metadata"].get("name", ""), annotations, declared)


def _param_kind_faults(kind: Mapping[str, str]) -> Iterator[Cause]:
    api_version, name = kind.get("apiVersion", ""), kind.get("kind", "")
    group, _, version = api_version.rpartition("/")
    path = "spec.paramKind.apiVersion"
    if not api_version:
        yield errors.required(path)
    elif "/" in group:
        yield errors.invalid(path, api_version, f"unexpected GroupVersion string: {api_version}")
    else:
        faults = names.dns1123_subdomain(group) if group else ()
        if faults:
            yield errors.invalid(path, group, ",".join(faults))
        faults = names.dns1035_label(version)
        if not version:
            yield errors.invalid(path, api_version, "version must be specified")
        elif faults:
            yield errors.invalid(path, version, ",".join(faults))
    faults = names.dns1035_label(name.lower())
    if not name:
        yield errors.required("spec.paramKind.kind")
    elif faults:
        text = f"may have mixed case, but should otherwise match: {','.join(faults)}"
        yield errors.invalid("spec.paramKind.kind", name, text)


def _variable_faults(variables: Sequence[Mapping[str, str]], declared: Sequence[str]) -> Iterator[Cause]:
    for index, variable in enumerate(variables):
        path, name = f"spec.variables[{index}]", variable.get("name", "")
        if not name.strip():
            yield errors.required(f"{path}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(name):
            yield errors.invalid(f"{path}.name", name, "must be a valid CEL identifier")
        yield from expression_faults(
            variable.get("expression", ""), f"{path}.expression", declared, "expression is not specified"
        )


def _validation_faults(validation: Mapping[str, str], path: str, declared: Sequence[str]) -> Iterator[Cause]:
    said, saying = validation.get("message", ""), validation.get("messageExpression", "")
    source = validation.get("expression", "")
    yield from expression_faults(source, f"{path}.expression", declared, "expression is not specified")
    for field, text in (("messageExpression", saying), ("message", said)):
        if text and not text.strip():
            yield errors.invalid(f"{path}.{field}", text, "must be non-empty if specified")
    if saying.strip():
        without_authorizer = [name for name in declared if name != "authorizer"]
        yield from expression_faults(saying, f"{path}.messageExpression", without_authorizer)
    if set("\r\n") & set(said.strip()):
        yield errors.invalid(f"{path}.message", said, "must not contain line breaks")
    yield from fields.optional_one_of(validation.get("reason"), f"{path}.reason", _REASONS)


def _annotation_faults(policy: str, annotations: Sequence[Mapping[str, str]], declared: Sequence[str]) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, annotation in enumerate(annotations):
        path, key, source = f"spec.auditAnnotations[{index}]", annotation.get("key", ""), annotation.get("valueExpression", "")
        # the audit log's annotations are named POLICY/KEY
        yield from fields.invalid_if(names.qualified_name(f"{policy}/{key}"), f"{path}.key", f"{policy}/{key}")
        if key in seen:
            yield errors.duplicate(f"{path}.key", key)
        seen.add(key)
        at = f"{path}.valueExpression"
        if len(source.strip().encode()) > MAX_ANNOTATION_EXPRESSION:
            yield errors.required(at, f"must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length")
        else:
            yield from expression_faults(source, at, declared, "valueExpression is not specified")


def status_faults(policy: Obj) -> Iterator[Cause]:
    """What is wrong with a policy's status: the warnings that its expressions' types gave, and conditions."""
    status = policy.get("status") or {}
    checking = status.get("typeChecking") or {}
    for index, warning in enumerate(checking.get("expressionWarnings") or ()):
        for field in ("warning", "fieldRef"):
            if not warning.get(field, "").strip():
                yield errors.required(f"status.typeChecking.expressionWarnings[{index}].{field}")
    yield from statuses.check_conditions(status.get("conditions") or ())


def binding_faults(binding: Obj) -> Iterator[Cause]:
    """What is wrong with a ValidatingAdmissionPolicyBinding."""
    spec = binding.get("spec") or {}
    yield from fields.named(spec.get("policyName", ""), "spec.policyName", names.dns1123_subdomain)
    if spec.get("paramRef") is not None:
        yield from _param_faults(spec["paramRef"], "spec.paramRef")
    if spec.get("matchResources") is not None:
        yield from admissionrules.match_faults(spec["matchResources"], "spec.matchResources")
    actions, path = spec.get("validationActions") or [], "spec.validationActions"
    for index, action in enumerate(actions):
        yield from fields.optional_one_of(action, f"{path}[{index}]", _ACTIONS)
        if action in actions[:index]:
            yield errors.duplicate(f"{path}[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        yield errors.invalid(path, actions, _TWICE)
    if not actions:
        yield errors.required(path, "at least one validation action is required")


def _param_faults(ref: Obj, path: str) -> Iterator[Cause]:
    name, selector = ref.get("name"), ref.get("selector")
    if name:
        yield from fields.invalid_if(names.path_segment(name), f"{path}.name", name)
    yield from fields.label_selector(selector, f"{path}.selector")
    if name and selector is not None:
        yield errors.forbidden(f"{path}.name", _EXCLUSIVE)
        yield errors.forbidden(f"{path}.selector", _EXCLUSIVE)
    elif not name and selector is None:
        yield errors.required(path, "one of name or selector must be specified")
    yield from fields.one_of(ref.get("parameterNotFoundAction"), f"{path}.parameterNotFoundAction", ("Allow", "Deny"))
