"""Checks of webhook configurations, admission policies and their bindings: their expressions must compile.

Source: pkg/apis/admissionregistration/validation/validation.go, v1.34.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, webhookclients
from kubelite.schema import expressions

_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_SCOPES = ("*", "Cluster", "Namespaced")
MAX_CONDITIONS = 64
MAX_ANNOTATIONS = 20
#: What the expressions of a webhook's match conditions may name, and of a policy beside its params.
CONDITION_VARIABLES = ("object", "oldObject", "request", "authorizer")
POLICY_VARIABLES = (*CONDITION_VARIABLES, "namespaceObject")


def webhook_faults(configuration: Obj) -> list[Cause]:
    """What is wrong with a Mutating- or ValidatingWebhookConfiguration."""
    found: list[Cause] = []
    seen: set[str] = set()
    for number, hook in enumerate(configuration.get("webhooks") or ()):
        path = f"webhooks[{number}]"
        found += _hook_faults(hook, path)
        if hook.get("name") in seen:
            found.append(errors.duplicate(f"{path}.name", hook["name"]))
        seen.add(hook.get("name", ""))
    return found


def policy_faults(policy: Obj) -> list[Cause]:
    """What is wrong with a ValidatingAdmissionPolicy."""
    spec = policy.get("spec") or {}
    found: list[Cause] = []
    declared = [*POLICY_VARIABLES, *(["params"] if spec.get("paramKind") else [])]
    if spec.get("paramKind"):
        missing = (field for field in ("apiVersion", "kind") if not spec["paramKind"].get(field))
        found += [errors.required(f"spec.paramKind.{field}") for field in missing]
        version = spec["paramKind"].get("apiVersion") or ""
        if version.count("/") > 1:
            found.append(errors.invalid("spec.paramKind.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        found.append(errors.required("spec.matchConstraints"))
    else:
        found += _resource_faults(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            found.append(errors.required("spec.matchConstraints.resourceRules"))
    found += _condition_faults(spec.get("matchConditions") or (), "spec.matchConditions", declared)
    declared.append("variables")
    found += _variable_faults(spec.get("variables") or (), declared)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        text = "validations or auditAnnotations must contain at least one item"
        found += [errors.required("spec.validations", text), errors.required("spec.auditAnnotations", text)]
    for number, validation in enumerate(validations):
        found += _validation_faults(validation, f"spec.validations[{number}]", declared)
    if len(annotations) > MAX_ANNOTATIONS:
        found.append(
            errors.invalid("spec.auditAnnotations", annotations, f"must not have more than {MAX_ANNOTATIONS} auditAnnotations")
        )
    return found + _annotation_faults(policy["metadata"].get("name", ""), annotations, declared)


def binding_faults(binding: Obj) -> list[Cause]:
    """What is wrong with a ValidatingAdmissionPolicyBinding."""
    spec = binding.get("spec") or {}
    found: list[Cause] = []
    if not spec.get("policyName"):
        found.append(errors.required("spec.policyName"))
    else:
        found += fields.invalid_if(names.dns1123_subdomain(spec["policyName"]), "spec.policyName", spec["policyName"])
    ref = spec.get("paramRef")
    if ref is not None:
        found += _param_ref_faults(ref, "spec.paramRef")
    if spec.get("matchResources"):
        found += _resource_faults(spec["matchResources"], "spec.matchResources")
    actions = spec.get("validationActions") or []
    path = "spec.validationActions"
    for number, action in enumerate(actions):
        if action not in ("Audit", "Deny", "Warn"):
            found.append(errors.not_supported(f"{path}[{number}]", action, ("Audit", "Deny", "Warn")))
        if action in actions[:number]:
            found.append(errors.duplicate(f"{path}[{number}]", action))
    if "Deny" in actions and "Warn" in actions:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response "
            "and headers serves no purpose)"
        )
        found.append(errors.invalid(path, actions, text))
    if not actions:
        found.append(errors.required(path, "at least one validation action is required"))
    return found


def expression_faults(source: str, path: str, declared: Iterable[str], what: str = "") -> list[Cause]:
    """What is wrong with an expression: it is missing, does not compile, or names what there is not."""
    if not (source or "").strip():
        return [errors.required(path, what)]
    try:
        undeclared = expressions.compile(source.strip()).undeclared(declared)
    except expressions.ExpressionError as error:
        return [errors.invalid(path, source, str(error))]
    if undeclared:
        text = "\n".join(f"ERROR: <input>: undeclared reference to '{name}' (in container '')" for name in undeclared)
        return [errors.invalid(path, source, f"compilation failed: {text}")]
    return []


def _hook_faults(hook: Obj, path: str) -> list[Cause]:
    found = _qualified(hook.get("name", ""), f"{path}.name")
    for number, rule in enumerate(hook.get("rules") or ()):
        found += _rule_faults(rule, f"{path}.rules[{number}]")
    if hook.get("sideEffects") is None:
        found.append(errors.required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}"))
    elif hook["sideEffects"] not in _SIDE_EFFECTS:
        found.append(errors.not_supported(f"{path}.sideEffects", hook["sideEffects"], _SIDE_EFFECTS))
    timeout_s = hook.get("timeoutSeconds")
    if timeout_s is not None and not 1 <= timeout_s <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        found.append(errors.invalid(f"{path}.timeoutSeconds", timeout_s, text))
    found += _selector_faults(hook, path)
    found += webhookclients.client_faults(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    found += _condition_faults(hook.get("matchConditions") or (), f"{path}.matchConditions", CONDITION_VARIABLES)
    versions = hook.get("admissionReviewVersions") or []
    if not versions:
        found.append(errors.required(f"{path}.admissionReviewVersions", f"must specify one of {', '.join(_REVIEW_VERSIONS)}"))
    elif not set(versions) & set(_REVIEW_VERSIONS):
        text = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        found.append(errors.invalid(f"{path}.admissionReviewVersions", versions, text))
    for number, version in enumerate(versions):
        at = f"{path}.admissionReviewVersions[{number}]"
        found += fields.invalid_if(names.dns1035_label(version), at, version)
        if version in versions[:number]:
            found.append(errors.invalid(at, version, "duplicate version"))
    policy = hook.get("reinvocationPolicy")
    if policy is not None and policy not in ("Never", "IfNeeded"):
        found.append(errors.not_supported(f"{path}.reinvocationPolicy", policy, ("Never", "IfNeeded")))
    return found


def _qualified(name: str, path: str) -> list[Cause]:
    if not name:
        return [errors.required(path)]
    found = fields.invalid_if(names.dns1123_subdomain(name), path, name)
    if not found and len(name.split(".")) < 3:
        return [errors.invalid(path, name, "should be a domain with at least three segments separated by dots")]
    return found


def _rule_faults(rule: Obj, path: str) -> list[Cause]:
    found = []
    for field, noun in (("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or []
        if not values:
            found.append(errors.required(f"{path}.{field}"))
        elif "*" in values and len(values) > 1:
            found.append(errors.invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {noun}"))
    resources = rule.get("resources") or []
    if not resources:
        found.append(errors.required(f"{path}.resources"))
    elif "*/*" in resources and len(resources) > 1:
        found.append(errors.invalid(f"{path}.resources", resources, "if '*/*' is present, must not specify other resources"))
    elif "*" in resources and any("/" not in r and r != "*" for r in resources):
        text = "if '*' is present, must not specify other resources without subresources"
        found.append(errors.invalid(f"{path}.resources", resources, text))
    for number, resource in enumerate(resources):
        if not resource:
            found.append(errors.required(f"{path}.resources[{number}]"))
        name, slash, below = resource.partition("/")
        for wide in (f"{name}/*", f"*/{below}"):
            if slash and resource != wide and wide in resources[:number]:
                text = f"if '{wide}' is present, must not specify {resource}"
                found.append(errors.invalid(f"{path}.resources[{number}]", resource, text))
    empty = [number for number, version in enumerate(rule.get("apiVersions") or ()) if not version]
    found += [errors.required(f"{path}.apiVersions[{number}]") for number in empty]
    scope = rule.get("scope")
    if scope is not None and scope not in _SCOPES:
        found.append(errors.not_supported(f"{path}.scope", scope, _SCOPES))
    return found


def _resource_faults(resources: Obj, path: str) -> list[Cause]:
    found = _selector_faults(resources, path)
    for field in ("resourceRules", "excludeResourceRules"):
        for number, rule in enumerate(resources.get(field) or ()):
            found += _rule_faults(rule, f"{path}.{field}[{number}]")
            seen: set[str] = set()
            for position, name in enumerate(rule.get("resourceNames") or ()):
                if name in seen:
                    found.append(errors.duplicate(f"{path}.{field}[{number}].resourceNames[{position}]", name))
                seen.add(name)
    return found


def _selector_faults(holder: Obj, path: str) -> list[Cause]:
    found: list[Cause] = []
    for field in ("namespaceSelector", "objectSelector"):
        if holder.get(field):
            found += fields.label_selector(holder[field], f"{path}.{field}")
    return found


def _condition_faults(conditions: Sequence[Obj], path: str, declared: Iterable[str]) -> list[Cause]:
    if len(conditions) > MAX_CONDITIONS:
        return [errors.too_many(path, len(conditions), MAX_CONDITIONS)]
    found = []
    seen: set[str] = set()
    for number, condition in enumerate(conditions):
        here = f"{path}[{number}]"
        found += expression_faults(condition.get("expression", ""), f"{here}.expression", declared)
        name = condition.get("name", "")
        if not name:
            found.append(errors.required(f"{here}.name"))
            continue
        found += fields.invalid_if(names.qualified_name(name), f"{here}.name", name)
        if name in seen:
            found.append(errors.duplicate(f"{here}.name", name))
        seen.add(name)
    return found


def _variable_faults(variables: Sequence[Mapping[str, str]], declared: Iterable[str]) -> list[Cause]:
    found = []
    for number, variable in enumerate(variables):
        path = f"spec.variables[{number}]"
        name = variable.get("name", "")
        if not name:
            found.append(errors.required(f"{path}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name):
            found.append(errors.invalid(f"{path}.name", name, "must be a valid CEL identifier"))
        found += expression_faults(variable.get("expression", ""), f"{path}.expression", declared, "expression is not specified")
    return found


def _validation_faults(validation: Obj, path: str, declared: Iterable[str]) -> list[Cause]:
    source = validation.get("expression", "")
    found = expression_faults(source, f"{path}.expression", declared, "expression is not specified")
    message = validation.get("message")
    if validation.get("messageExpression"):
        without_authorizer = [name for name in declared if name != "authorizer"]
        found += expression_faults(validation["messageExpression"], f"{path}.messageExpression", without_authorizer)
    if message and not message.strip():
        found.append(errors.invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif message and "\n" in message.strip():
        found.append(errors.invalid(f"{path}.message", message, "must not contain line breaks"))
    elif not message and "\n" in source.strip():
        text = "message must be specified if expression contains line breaks"
        found.append(errors.required(f"{path}.message", text))
    reason = validation.get("reason")
    if reason is not None and reason not in _REASONS:
        found.append(errors.not_supported(f"{path}.reason", reason, _REASONS[:3]))
    return found


def _annotation_faults(policy: str, annotations: Sequence[Obj], declared: Iterable[str]) -> list[Cause]:
    found = []
    seen: set[str] = set()
    for number, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{number}]", annotation.get("key", "")
        # the audit log's annotations are named POLICY/KEY
        found += fields.invalid_if(names.qualified_name(f"{policy}/{key}"), f"{path}.key", f"{policy}/{key}")
        if key in seen:
            found.append(errors.duplicate(f"{path}.key", key))
        seen.add(key)
        found += expression_faults(annotation.get("valueExpression", ""), f"{path}.valueExpression", declared)
    return found


def _param_ref_faults(ref: Obj, path: str) -> list[Cause]:
    name, selector = ref.get("name"), ref.get("selector")
    found = []
    if name and selector is not None:
        text = "name and selector are mutually exclusive"
        found += [errors.forbidden(f"{path}.name", text), errors.forbidden(f"{path}.selector", text)]
    elif not name and selector is None:
        found.append(errors.required(path, "one of name or selector must be specified"))
    if not ref.get("parameterNotFoundAction"):
        found.append(errors.required(f"{path}.parameterNotFoundAction"))
    elif ref["parameterNotFoundAction"] not in ("Allow", "Deny"):
        action = ref["parameterNotFoundAction"]
        found.append(errors.not_supported(f"{path}.parameterNotFoundAction", action, ("Allow", "Deny")))
    return found
