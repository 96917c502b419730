"""Tests for what expressions name."""

from typing import Any

import pytest

from kubelite.schema import expression_names
from kubelite.schema.expressions import ExpressionError

_TEXT = {"type": "string"}
_ITEM = {"type": "object", "properties": {"name": _TEXT, "tags": {"type": "array", "items": _TEXT}}}
_SELF: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "since": {"type": "string", "format": "date-time"},
        "items": {"type": "array", "items": _ITEM},
        "limits": {"type": "object", "additionalProperties": _ITEM},
        "port": {"x-kubernetes-int-or-string": True},
        "loose": {"x-kubernetes-preserve-unknown-fields": True},
        "whole": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": _ITEM}},
        "a-b": _TEXT,
        "if": _TEXT,
    },
}
_DECLARED = {"self": _SELF, "oldSelf": _SELF, "object": None}


@pytest.mark.parametrize(
    "source",
    [
        "self.size > 1 && oldSelf.size in [1, 2] && object.anything.at.all == 1",
        "self.items[0].name == '' || self.limits['a'].name == '' || self.limits.a.name == ''",
        "self.items.all(x, x.tags.all(x, x == 'a') && x.name == 'b')",
        "self.items.filter(x, x.name == 'a').exists(y, y.name == 'b')",
        "self.items.map(x, x.name).exists(y, y.anything == 1)",
        "self.limits.all(k, k.startsWith('a') && self.limits[k].name == k)",
        "self.items.all(i, x, i > 0 && x.name == 'a')",
        "self.port.anything == 1 && type(self.port) == int",
        "self.whole.metadata.name == self.whole.kind && self.whole.spec.name == ''",
        "self.a__dash__b == self.__if__ && self.?size.orValue(1) == 2 && has(self.size)",
        "sets.contains(['foo.bar'], [string(self.size)]) && ip('::1').family() == 6 && optional.none().hasValue()",
        "cel.bind(x, self.size, x == 1) && {'a': true}.a",
        "authorizer == 1 ? true : false",
    ],
)
def test_what_there_is_may_be_named(source: str) -> None:
    expression_names.check(source, {**_DECLARED, "authorizer": None})


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("a/b", {1: "undeclared reference to 'a' (in container '')", 3: "undeclared reference to 'b' (in container '')"}),
        ("self.size == x", {14: "undeclared reference to 'x' (in container '')"}),
        ("self.items.all(x, true) && x", {28: "undeclared reference to 'x' (in container '')"}),
        ("foo(1)", {4: "undeclared reference to 'foo' (in container '')"}),
        ("self.a__dash__b.startswith('')", {27: "undeclared reference to 'startswith' (in container '')"}),
        ("self.nope == 1", {5: "undefined field 'nope'"}),
        ("has(self.nope)", {4: "undefined field 'nope'"}),
        ("self.?nope", {5: "undefined field 'nope'"}),
        ("self.loose.a", {5: "undefined field 'loose'"}),
        ("self.items[0].nope", {14: "undefined field 'nope'"}),
        ("self.limits['a'].nope", {17: "undefined field 'nope'"}),
        ("self.items.all(x, x.tags.all(x, true) && x.nope)", {43: "undefined field 'nope'"}),
        ("self.items.filter(x, true).all(y, y.nope)", {36: "undefined field 'nope'"}),
        ("self.whole.metadata.labels", {20: "undefined field 'labels'"}),
        ("self.size.a", {10: "type 'int' does not support field selection"}),
        ("self.since.a", {11: "type 'timestamp' does not support field selection"}),
        ("self.items[0].tags.a", {19: "type 'list(string)' does not support field selection"}),
        ("self.limits.all(k, k.a)", {21: "type 'string' does not support field selection"}),
    ],
)
def test_what_there_is_not_is_told_with_its_place(source: str, faults: dict[int, str]) -> None:
    with pytest.raises(ExpressionError) as e:
        expression_names.check(source, _DECLARED)
    told = [f"ERROR: <input>:1:{at}: {text}\n | {source}\n | {'.' * (at - 1)}^" for at, text in faults.items()]
    assert str(e.value) == "compilation failed: " + "\n".join(told)


def test_a_fault_is_shown_in_its_line() -> None:
    with pytest.raises(ExpressionError, match=r"<input>:2:3: undeclared reference to 'x' .*\n \|   x\n \| \.\.\^$"):
        expression_names.check("true &&\n  x", {})


def test_the_root_has_a_name_and_a_kind() -> None:
    root = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"metadata": {"type": "object"}}}
    expression_names.check("self.metadata.name == self.kind && self.metadata.generateName == self.apiVersion", {"self": root})
