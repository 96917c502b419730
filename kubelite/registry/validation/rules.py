"""x-kubernetes-validations: the rules in CEL that a custom kind's schema states about its values.

Rules run after the schema itself holds. A rule that names `oldSelf` compares with the stored value and runs on updates only,
where the old value can be told: under maps and objects by name, in lists of type map by their keys. What other rules find wrong
with a value that did not change is a warning.

Source: apiextensions-apiserver pkg/apiserver/schema/cel and pkg/apis/apiextensions/validation, v0.34; KEP-2876, KEP-4008.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.registry.validation import fieldpaths, schemavalues
from kubelite.registry.validation.schemavalues import ABSENT
from kubelite.schema import expression_names, expressions
from kubelite.schema.expressions import ExpressionError

_Schema = Mapping[str, Any]

_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_LONGEST_MESSAGE_BYTES = 5 * 1024


def validate(schema: _Schema, value: Any, old: Any, path: str, causes: list[Cause], warnings: list[str] | None = None) -> None:
    """Adds what the rules of a schema find wrong with a value; `old` is None on a create."""
    _Run(causes, warnings if warnings is not None else []).walk(schema, _Node(value, ABSENT if old is None else old, None), path)


class _Node:
    """A value and the old one that it was. Whether they are equal is worked out once, when a rule doesn't hold."""

    __slots__ = ("_around", "_is_same", "old", "value")

    def __init__(self, value: Any, old: Any, around: "_Node | None") -> None:
        self.value, self.old = value, old
        self._around = around
        self._is_same: bool | None = None

    def below(self, value: Any, old: Any) -> "_Node":
        return _Node(value, old, self)

    @property
    def is_same(self) -> bool:
        """Whether nothing changed here, or nothing in what is around it where the old value can't be told."""
        if self.old is ABSENT:
            return self._around is not None and self._around.is_same
        if self._is_same is None:
            self._is_same = schemavalues.is_same(self.value, self.old)
        return self._is_same


@dataclass(frozen=True, slots=True)
class _Run:
    """One object's validation."""

    causes: list[Cause]
    warnings: list[str]

    def walk(self, schema: _Schema, node: _Node, path: str) -> None:
        value = node.value
        if value is None:
            return
        for rule in schema.get("x-kubernetes-validations") or ():
            self._ask(schema, rule, node, path)
        if isinstance(value, Mapping):
            before = node.old if isinstance(node.old, Mapping) else {}
            properties, values = schema.get("properties") or {}, schema.get("additionalProperties")
            for name, item in value.items():
                below, at = properties.get(name), f"{path}.{name}" if path else name
                if below is None and isinstance(values, Mapping):
                    below, at = values, f"{path}[{name}]"
                if isinstance(below, Mapping):
                    self.walk(below, node.below(item, before.get(name, ABSENT)), at)
        elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
            before_of = schemavalues.correlated(schema, node.old)
            for index, item in enumerate(value):
                self.walk(schema["items"], node.below(item, before_of(item)), f"{path}[{index}]")

    def _ask(self, schema: _Schema, rule: Mapping[str, Any], node: _Node, path: str) -> None:
        text, kind = rule.get("rule", ""), schema.get("type", "")
        shown = (rule.get("message") or text).strip()
        try:
            expression = expressions.compile(text)
        except ExpressionError as e:
            self.causes.append(errors.invalid(path or "<nil>", kind, f"rule compile error: {e}"))
            return
        compares = "oldSelf" in expression.variables
        if compares and node.old in (ABSENT, None) and not rule.get("optionalOldSelf"):
            return
        variables = {"self": _shown(node.value, text)}
        if compares:
            variables["oldSelf"] = _old(node.old, text, bool(rule.get("optionalOldSelf")))
        try:
            holds = expression.evaluate(variables)
        except ExpressionError as e:
            self.causes.append(errors.invalid(path or "<nil>", kind, f"{e} evaluating rule: {shown}"))
            return
        if holds is not True:
            cause = _fault(schema, rule, path, _message(rule, variables))
            if not compares and node.is_same:
                self.warnings.append(str(cause))
            else:
                self.causes.append(cause)


def _old(old: Any, text: str, optional: bool) -> Any:
    if not optional:
        return _shown(old, text)
    from cel import OptionalValue

    return OptionalValue.none() if old in (ABSENT, None) else OptionalValue.of(_shown(old, text))


def _message(rule: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    made = rule.get("messageExpression")
    if made:
        try:
            result = expressions.compile(made).evaluate(variables)
        except ExpressionError:
            result = None  # the fixed message stands in, as in Kubernetes
        if isinstance(result, str):
            result = result.strip()
            if result and "\n" not in result and len(result.encode()) <= _LONGEST_MESSAGE_BYTES:
                return result
    return (rule.get("message") or f"failed rule: {rule.get('rule', '').strip()}").strip()


def _fault(schema: _Schema, rule: Mapping[str, Any], path: str, message: str) -> Cause:
    at = path
    if rule.get("fieldPath"):
        below, _ = fieldpaths.resolve(rule["fieldPath"], schema)
        at = f"{path}.{below}" if path else below
    at, kind = at or "<nil>", schema.get("type", "")
    match rule.get("reason"):
        case "FieldValueForbidden":
            return errors.forbidden(at, message)
        case "FieldValueRequired":
            return errors.required(at, message)
        case "FieldValueDuplicate":
            return errors.duplicate(at, kind)
    return errors.invalid(at, kind, message)


def _shown(value: Any, text: str) -> Any:
    """The value as a rule sees it: names that CEL could not say are escaped, if the rule says such at all."""
    return _escaped(value) if "__" in text else value


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {expression_names.escape(name): _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def check(rule: Mapping[str, Any], schema: _Schema, path: str) -> Iterator[Cause]:
    """What is wrong with a rule of a definition, but for its expressions."""
    source, given = (rule.get("rule") or "").strip(), rule.get("message") or ""
    message = given.strip()
    if not source:
        yield errors.required(f"{path}.rule", "rule is not specified")
    elif given and not message:
        yield errors.invalid(f"{path}.message", given, "must be non-empty if specified")
    elif _has_lines(message):
        yield errors.invalid(f"{path}.message", given, "must not contain line breaks")
    elif _has_lines(source) and not message:
        yield errors.required(f"{path}.message", "message must be specified if rule contains line breaks")
    if rule.get("messageExpression") and not rule["messageExpression"].strip():
        yield errors.required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    if rule.get("reason", _REASONS[0]) not in _REASONS:
        yield errors.not_supported(f"{path}.reason", rule["reason"], _REASONS)
    at = rule.get("fieldPath")
    if not at:
        return
    if not at.strip():
        yield errors.invalid(f"{path}.fieldPath", at, "must be non-empty if specified")
    if _has_lines(at):
        yield errors.invalid(f"{path}.fieldPath", at, "must not contain line breaks")
    try:
        fieldpaths.resolve(at, schema)
    except ValueError:
        yield errors.invalid(f"{path}.fieldPath", at, "must be a valid path")


def _has_lines(text: str) -> bool:
    return "\n" in text or "\r" in text


def check_expressions(schema: _Schema, path: str, uncorrelated: str, is_root: bool) -> Iterator[Cause]:
    """What is wrong with the expressions of a schema's own rules; `uncorrelated` as in `schemas`."""
    value = {**schema, "x-kubernetes-embedded-resource": True} if is_root else schema
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        at = f"{path}.x-kubernetes-validations[{index}]"
        expression = None
        old = None if rule.get("optionalOldSelf") else value
        for field, said in (("rule", ""), ("messageExpression", "messageExpression ")):
            if not rule.get(field):
                continue
            try:
                compiled = expressions.compile(rule[field])
                expression_names.check(rule[field], {"self": value, "oldSelf": old})
            except ExpressionError as e:
                yield errors.invalid(f"{at}.{field}", rule, f"{said}{e}")
                break
            expression = expression or compiled
        if expression is not None and "oldSelf" in expression.variables:
            if uncorrelated:
                text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
                yield errors.invalid(f"{at}.rule", rule["rule"], text)
        elif "optionalOldSelf" in rule:
            text = "may not be set if oldSelf is not used in rule"
            yield errors.invalid(f"{at}.optionalOldSelf", rule["optionalOldSelf"], text)
