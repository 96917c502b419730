"""What an object's structure demands: required fields and enums of built-in kinds, the whole schema of custom ones.

Of built-in kinds only what their servers refuse too is checked: required texts that are absent, and enums. Their statuses are
not: what writes them leaves out what it does not know. Kinds whose strategies check all of that don't come here. The rules are
compiled once for each structure into the few nodes that demand something; an object that is fine is walked without building a
path.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import custom
from kubelite.schema import enums
from kubelite.schema.kinds import Kind
from kubelite.schema.structure import Structure, structure_of

#: Never checked here: metadata has its own checks.
_SKIPPED = frozenset(("apiVersion", "kind", "metadata", "status"))

#: Required by the published schemas, and yet taken without (the empty text is a value).
_MAY_BE_ABSENT = frozenset(
    ("value", "message", "reason", "apiGroup", "image", "imageID", "fieldPath", "resourceVersion", "eventTime")
)


class _Rule:
    """One node: what it demands, and the nodes below that demand something."""

    __slots__ = ("enum", "fields", "items", "required", "values")

    def __init__(self) -> None:
        self.required: tuple[str, ...] = ()
        self.enum: frozenset[Any] | None = None
        self.fields: dict[str, _Rule] = {}
        self.items: _Rule | None = None
        self.values: _Rule | None = None

    def below(self) -> Iterator["_Rule"]:
        yield from self.fields.values()
        if self.items is not None:
            yield self.items
        if self.values is not None:
            yield self.values


def _compile(structure: Structure, made: dict[int, _Rule], top: bool = False) -> _Rule:
    """The rule of a structure; `made` holds those under way or done, so that types may contain themselves."""
    rule = made.get(id(structure))
    if rule is not None:
        return rule
    rule = made[id(structure)] = _Rule()
    required = []
    for name, below in structure.properties.items():
        if top and name in _SKIPPED:
            continue
        enum = _enum(structure.definition, name)
        if enum is not None:
            made[id(enum)] = enum
            if enum.items is not None:
                made[id(enum.items)] = enum.items
        rule.fields[name] = enum or _compile(below, made)
        if name in structure.required and below.type == "string" and name not in _MAY_BE_ABSENT:
            required.append(name)
    rule.required = tuple(required)
    if structure.items is not None:
        rule.items = _compile(structure.items, made)
    if structure.additional_properties is not None:
        rule.values = _compile(structure.additional_properties, made)
    return rule


def _enum(definition: str, name: str) -> _Rule | None:
    """The rule of a field that is an enum or a list of such."""
    rule = _Rule()
    if (definition, name) in enums.TAKEN:
        rule.enum = enums.TAKEN[definition, name] | {""}
        return rule
    if (definition, f"{name}[]") in enums.TAKEN:
        rule.items = _Rule()
        rule.items.enum = enums.TAKEN[definition, f"{name}[]"]
        return rule
    return None


def _prune(rules: Collection[_Rule]) -> None:
    """Cuts off every node that demands nothing, itself or below."""
    busy = {id(rule) for rule in rules if rule.required or rule.enum}
    grown = True
    while grown:
        grown = False
        for rule in rules:
            if id(rule) not in busy and any(id(below) in busy for below in rule.below()):
                busy.add(id(rule))
                grown = True
    for rule in rules:
        rule.fields = {name: below for name, below in rule.fields.items() if id(below) in busy}
        rule.items = rule.items if rule.items is not None and id(rule.items) in busy else None
        rule.values = rule.values if rule.values is not None and id(rule.values) in busy else None


def validate(
    kind: Kind, new: Obj, old: Obj | None, known: Sequence[Cause], subresource: str = "", warnings: list[str] | None = None
) -> list[Cause]:
    """The faults that the structure shows and `known` does not name yet. `warnings` gets what else a custom kind's rules say."""
    structure = structure_of(kind)
    if kind.custom:
        return custom.validate(structure, new, old, subresource, warnings if warnings is not None else [])
    rule = _compiled_top(structure)
    if _is_fine(rule, new):
        return []
    causes: list[Cause] = []
    _explain(rule, new, "", causes)
    named = {cause.field for cause in known}
    return [cause for cause in causes if cause.field not in named]


_tops: dict[int, tuple[Structure, _Rule]] = {}


def _compiled_top(structure: Structure) -> _Rule:
    found = _tops.get(id(structure))
    if found is None:
        made: dict[int, _Rule] = {}
        rule = _compile(structure, made, top=True)
        _prune(made.values())
        found = _tops[id(structure)] = (structure, rule)  # the structure is kept, so that its id stays its own
    return found[1]


def _is_fine(rule: _Rule, value: Any) -> bool:
    kind = value.__class__
    if kind is dict:
        for name in rule.required:
            if not value.get(name):
                return False
        if rule.fields:
            fields = rule.fields
            for name, item in value.items():
                below = fields.get(name)
                if below is not None and not _is_fine(below, item):
                    return False
        elif rule.values is not None:
            return all(_is_fine(rule.values, item) for item in value.values())
        return True
    if kind is list:
        items = rule.items
        return items is None or all(_is_fine(items, item) for item in value)
    return rule.enum is None or value in rule.enum


def _explain(rule: _Rule, value: Any, path: str, causes: list[Cause]) -> None:
    if isinstance(value, Mapping):
        inner = f"{path}." if path else ""
        causes += [errors.required(f"{inner}{name}") for name in rule.required if not value.get(name)]
        for name, item in value.items():
            if name in rule.fields:
                _explain(rule.fields[name], item, f"{inner}{name}", causes)
            elif rule.values is not None:
                _explain(rule.values, item, f"{path}[{name}]", causes)
    elif isinstance(value, list):
        if rule.items is not None:
            for index, item in enumerate(value):
                _explain(rule.items, item, f"{path}[{index}]", causes)
    elif rule.enum is not None and value not in rule.enum:
        causes.append(errors.not_supported(path, value, (allowed for allowed in rule.enum if allowed)))
