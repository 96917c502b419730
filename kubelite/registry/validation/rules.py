"""x-kubernetes-validations: the rules in CEL that a custom kind's schema states about its values.

Rules run after the schema itself holds. A rule that names `oldSelf` compares with the stored value and runs on updates only,
where the old value can be told: under maps and objects by name, in lists of type map by their keys.

Source: apiextensions-apiserver pkg/apiserver/schema/cel, KEP-2876, v0.34.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.schema import expressions
from kubelite.schema.expressions import Expression, ExpressionError

_Schema = Mapping[str, Any]

_ABSENT: Any = object()
_BUILDERS = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}


def has_rules(schema: _Schema) -> bool:
    """Whether a schema states rules anywhere, so that objects of kinds without any are not walked again."""
    if schema.get("x-kubernetes-validations"):
        return True
    below = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(isinstance(part, Mapping) and has_rules(part) for part in below)


def validate(schema: _Schema, value: Any, old: Any, path: str, causes: list[Cause]) -> None:
    """Adds what the rules of a schema find wrong with a value; `old` is None on a create."""
    _walk(schema, value, _ABSENT if old is None else old, path, causes)


def _walk(schema: _Schema, value: Any, old: Any, path: str, causes: list[Cause]) -> None:
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations") or ():
        cause = _check(schema, rule, value, old, path)
        if cause is not None:
            causes.append(cause)
    if isinstance(value, Mapping):
        before = old if isinstance(old, Mapping) else {}
        properties, values = schema.get("properties") or {}, schema.get("additionalProperties")
        dot = f"{path}." if path else ""
        for name, item in value.items():
            below = properties.get(name)
            at = f"{dot}{name}"
            if below is None and isinstance(values, Mapping):
                below, at = values, f"{path}[{name}]"
            if isinstance(below, Mapping):
                _walk(below, item, before.get(name, _ABSENT), at, causes)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        before_of = _correlated(schema, old)
        for index, item in enumerate(value):
            _walk(schema["items"], item, before_of(item), f"{path}[{index}]", causes)


def _correlated(schema: _Schema, old: Any) -> Any:
    """A function from a list's item to the old item that it was, _ABSENT where that cannot be told."""
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return lambda item: _ABSENT
    before = {tuple(item.get(k) for k in keys): item for item in old if isinstance(item, Mapping)}
    return lambda item: before.get(tuple(item.get(k) for k in keys), _ABSENT)


def _check(schema: _Schema, rule: Mapping[str, Any], value: Any, old: Any, path: str) -> Cause | None:
    text = rule.get("rule", "")
    try:
        expression = expressions.compile(text)
    except ExpressionError as e:
        return _fault(schema, rule, path, f"rule compile error: {e}")
    variables: dict[str, Any] = {"self": _shown(value, text)}
    if "oldSelf" in expression.variables:
        if rule.get("optionalOldSelf"):
            variables["oldSelf"] = None if old is _ABSENT else _shown(old, text)
        elif old is _ABSENT:
            return None
        else:
            variables["oldSelf"] = _shown(old, text)
    try:
        holds = expression.evaluate(variables)
    except ExpressionError as e:
        return _fault(schema, rule, path, f"{e} evaluating rule: {rule.get('message') or text}")
    return None if holds is True else _fault(schema, rule, path, _message(rule, text, variables))


def _message(rule: Mapping[str, Any], text: str, variables: Mapping[str, Any]) -> str:
    made = rule.get("messageExpression")
    if made:
        try:
            result = _compiled(made).evaluate(variables)
        except ExpressionError:
            result = None  # the fixed message stands in, as in Kubernetes
        if isinstance(result, str) and result.strip() and "\n" not in result:
            return result
    return rule.get("message") or f"failed rule: {text}"


def _compiled(text: str) -> Expression:
    return expressions.compile(text)


def _fault(schema: _Schema, rule: Mapping[str, Any], path: str, message: str) -> Cause:
    field_path = rule.get("fieldPath") or ""
    at = f"{path}{field_path}" if path else field_path.removeprefix(".")
    reason = rule.get("reason") or "FieldValueInvalid"
    kind = schema.get("type") or "object"
    if reason == "FieldValueInvalid":
        return errors.invalid(at, kind, message)
    if reason == "FieldValueDuplicate":
        return Cause(at, reason, f'Duplicate value: "{kind}"')
    return Cause(at, reason, f"{_BUILDERS.get(reason, 'Invalid value')}: {message}")


def _shown(value: Any, text: str) -> Any:
    """The value as a rule sees it: names that CEL could not say are escaped, if the rule says such at all."""
    return _escaped(value) if "__" in text else value


_RESERVED = frozenset(
    re.split(
        r"\s+",
        "true false null in as break const continue else for function if import let loop package namespace return var void while",
    )
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_escape(name): _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _escape(name: str) -> str:
    if name in _RESERVED:
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return name
    out = name.replace("__", "__underscores__")
    return out.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


def check_rules(schema: _Schema, path: str, causes: list[Cause]) -> None:
    """Adds the faults of a definition's own rules: those that are no CEL."""
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        at = f"{path}.x-kubernetes-validations[{index}]"
        if not (rule.get("rule") or "").strip():
            causes.append(errors.required(f"{at}.rule", "rule is not specified"))
            continue
        for field in ("rule", "messageExpression"):
            if not rule.get(field):
                continue
            try:
                expressions.compile(rule[field])
            except ExpressionError as e:
                shown = {
                    "Rule": rule.get("rule", ""),
                    "Message": rule.get("message", ""),
                    "MessageExpression": rule.get("messageExpression", ""),
                    "Reason": rule.get("reason"),
                    "FieldPath": rule.get("fieldPath", ""),
                    "OptionalOldSelf": rule.get("optionalOldSelf"),
                }
                causes.append(errors.invalid(f"{at}.{field}", shown, str(e)))
