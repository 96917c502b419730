"""Tests for YAML as Kubernetes' parser reads it."""

from typing import Any

import pytest

from kubelite.meta.errors import BadRequest
from kubelite.schema import decoding, yamls


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("y", True),
        ("OFF", False),
        ("~", None),
        ("", None),
        ("010", 8),
        ("08", 8),
        ("0o17", 15),
        ("-0b101", -5),
        ("0XfF", 255),
        ("1_000.5", 1000.5),
        ("1e3", 1000),
        ("+.5", 0.5),
        ("99999999999999999999", 1e20),
        ("-9223372036854775808", -(2**63)),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("a:1", "a:1"),
        ("!!str 5", "5"),
        ("!!binary aGk=", "hi"),
        ("!thing x", "x"),
        ("!thing {a: [b]}", {"a": ["b"]}),
        ("{1: a, 1.5: b, on: c}", {"1": "a", "1.5": "b", "true": "c"}),
        ("{a: b,} # more", {"a": "b"}),
        ("a: &x {b: c}\nd: {<<: *x, e: f}", {"a": {"b": "c"}, "d": {"b": "c", "e": "f"}}),
        ("a: b\n---\nc: d", {"a": "b"}),
    ],
)
def test_words_mean_what_they_mean_to_kubernetes(text: str, value: Any) -> None:
    read = yamls.parse(text.encode())
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ('{"a": 1', "yaml: line 1: did not find expected ',' or '}'"),
        ("a: *b", "yaml: unknown anchor 'b' referenced"),
        ("a: &a [*a]", "yaml: anchor 'a' value contains itself"),
        ("a: !!bool nope", "yaml: cannot decode !!str `nope` as a !!bool"),
        ("a: !!float nope", "yaml: cannot decode !!str `nope` as a !!float"),
        ("a: !!binary '*'", "yaml: !!binary value contains invalid base64 data"),
        ("a: -.inf", "json: unsupported value: -Inf"),
        ("a: .NaN", "json: unsupported value: NaN"),
        ("{~: [1]}", "unsupported map key of type: %!s(<nil>), key: <nil>, value: []interface {}{1}"),
    ],
)
def test_what_is_wrong_is_told(text: str, fault: str) -> None:
    with pytest.raises(BadRequest) as e:
        yamls.parse(text.encode())
    assert e.value.message == fault


def test_braces_hold_more_than_json() -> None:
    assert decoding.parse(b'{"a": {"b": 1,},}', decoding.YAML) == {"a": {"b": 1}}
    assert decoding.parse(b"{a: {b: 1}}", decoding.YAML) == {"a": {"b": 1}}
    with pytest.raises(BadRequest, match="json parse error"):
        decoding.parse(b'{"a": 1,}')


def test_keys_are_repeated_in_braces_too() -> None:
    assert decoding.repeated_yaml_keys(b'{"a": 1,\n "a": 2,}') == ['line 2: key "a" already set in map']
    assert decoding.repeated_yaml_keys(b'{"a": 1, "b": {"a": 2}}') == []
    assert decoding.repeated_yaml_keys(b"{a: b: c}") == []
