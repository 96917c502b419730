"""Checks of webhook configurations.

Source: pkg/apis/admissionregistration/validation/validation.go, v1.34.
"""

from collections.abc import Iterator, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import admissionrules, fields, webhookclients

_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_REINVOCATIONS = ("IfNeeded", "Never")


def webhook_faults(configuration: Obj, old: Obj | None = None) -> Iterator[Cause]:
    """What is wrong with a Mutating- or ValidatingWebhookConfiguration. Conditions that an update leaves alone are not looked
    at again."""
    hooks = configuration.get("webhooks") or ()
    fresh = old is None or _conditions(configuration) != _conditions(old)
    seen: set[str] = set()
    for index, hook in enumerate(hooks):
        path, name = f"webhooks[{index}]", hook.get("name", "")
        yield from _hook_faults(hook, path)
        if fresh:
            conditions = hook.get("matchConditions") or ()
            yield from admissionrules.condition_faults(conditions, f"{path}.matchConditions", admissionrules.VARIABLES)
        yield from _version_faults(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
        if name and name in seen:
            yield errors.duplicate(f"{path}.name", name)
        seen.add(name)


def _conditions(configuration: Obj) -> list[Sequence[Obj]]:
    return [hook.get("matchConditions") or () for hook in configuration.get("webhooks") or ()]


def _hook_faults(hook: Obj, path: str) -> Iterator[Cause]:
    yield from fields.domain_name(hook.get("name", ""), f"{path}.name", segments=3)
    for index, rule in enumerate(hook.get("rules") or ()):
        yield from admissionrules.rule_faults(rule, f"{path}.rules[{index}]")
    effects, timeout_s = hook.get("sideEffects"), hook.get("timeoutSeconds")
    if effects is None:
        yield errors.required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    for field, allowed in (
        ("failurePolicy", admissionrules.FAILURE_POLICIES),
        ("matchPolicy", admissionrules.MATCH_POLICIES),
        ("reinvocationPolicy", _REINVOCATIONS),
        ("sideEffects", _SIDE_EFFECTS),
    ):
        yield from fields.optional_one_of(hook.get(field), f"{path}.{field}", allowed)
    if timeout_s is not None and not 1 <= timeout_s <= 30:
        yield errors.invalid(f"{path}.timeoutSeconds", timeout_s, "the timeout value must be between 1 and 30 seconds")
    for field in ("namespaceSelector", "objectSelector"):
        yield from fields.label_selector(hook.get(field), f"{path}.{field}")
    yield from webhookclients.client_faults(hook.get("clientConfig") or {}, f"{path}.clientConfig")


def _version_faults(versions: Sequence[str], path: str) -> Iterator[Cause]:
    if not versions:
        yield errors.required(path, f"must specify one of {', '.join(_REVIEW_VERSIONS)}")
    elif not set(versions) & set(_REVIEW_VERSIONS):
        yield errors.invalid(path, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")
    for index, version in enumerate(versions):
        at = f"{path}[{index}]"
        if version in versions[:index]:
            yield errors.invalid(at, version, "duplicate version")
        else:
            yield from fields.invalid_if(names.dns1035_label(version), at, version)
