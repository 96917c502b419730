import pytest

from kubelite.meta.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from kubelite.schema import decoding


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"a":"b', "unexpected end of JSON input"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b'{"a":[1 2]}', "invalid character '2' after array element"),
        (b"{} x", "invalid character 'x' after top-level value"),
    ],
)
def test_bad_json_is_explained_in_the_words_of_the_decoder(body: bytes, fault: str) -> None:
    with pytest.raises(BadRequest) as e:
        decoding.parse(body)
    assert e.value.message == f"couldn't get version/kind; json parse error: {fault}"


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadRequest):
        decoding.parse(b"[]")
    assert decoding.parse_value(b"[1]", "application/json-patch+json") == [1]


def test_cve_2019_11253_deep_json_and_yaml_are_refused() -> None:
    for body, media in (
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "application/json"),
        (b"a: " + b"[" * 300 + b"]" * 300, "application/yaml"),
        (b"a: " + b"[" * 100_000, "application/yaml"),
    ):
        with pytest.raises(BadRequest, match="max depth"):
            decoding.parse(body, media)


def test_cve_2019_11253_yaml_aliases_can_not_multiply_without_bound() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(BadRequest, match="excessive aliasing"):
        decoding.parse("\n".join(lines).encode(), "application/yaml")
    with pytest.raises(BadRequest):
        decoding.parse(b"a: &a [*a]", "application/yaml")


def test_bodies_larger_than_any_request_are_refused() -> None:
    with pytest.raises(RequestEntityTooLarge):
        decoding.parse(b" " * (decoding.MAX_BYTES + 1))


def test_yaml_scalars_are_what_json_has() -> None:
    body = b"a: 2020-01-01\nb: 1:30\nc: 1e3\nd: yes\ne: ~\nf: 010\n1: x\ng: &x {h: 1}\ni: *x\nj: '1'\nk: 0.5\n"
    assert decoding.parse(body, "application/apply-patch+yaml") == {
        "a": "2020-01-01", "b": "1:30", "c": 1000.0, "d": True, "e": None, "f": 8, "1": "x", "g": {"h": 1}, "i": {"h": 1},
        "j": "1", "k": 0.5,
    }  # fmt: skip


def test_text_that_is_no_unicode_gets_replacement_characters() -> None:
    assert decoding.parse(b'{"a":"\xff"}') == {"a": "\ufffd"}
    assert decoding.parse(b'{"a":"\\ud800"}') == {"a": "\ufffd"}


def test_unknown_media_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        decoding.parse(b"{}", "text/plain")


def _repeated(body: bytes) -> list[str]:
    """The paths in the texts about repeated keys."""
    found = decoding.repeated_keys(body)
    assert all(fault.startswith('duplicate field "') and fault.endswith('"') for fault in found)
    return [fault.removeprefix('duplicate field "')[:-1] for fault in found]


def test_duplicate_keys_are_found_with_their_paths() -> None:
    assert _repeated(b'{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":2}') == ["a", "b.c[0].d"]
    assert _repeated(b'{"a":1,"b":[{}]}') == []
    assert _repeated(b'{ "a" : 1, "b": 2 }\n') == []
    assert _repeated(b'{ "a" : 1, "a": 2 }\n') == ["a"]
    assert _repeated(b'{"a" : "\\":", "b": {"a" :"\\u0022:", "a": 2}}') == ["b.a"]
    assert _repeated(b'{"a" : "\\":", "a": "\\":\\":"}') == ["a"]
    assert _repeated(b'{"a" : "\\" :", "b\\\\": "\\n", "c\\\\" : "\\"\\t:"}') == []


def test_repeated_keys_of_yaml_are_told_with_their_lines() -> None:
    assert decoding.repeated_yaml_keys(b"a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        'line 5: key "a" already set in map',
        'line 4: key "c" already set in map',
    ]
    assert decoding.repeated_yaml_keys(b'{"a": {"b": 1, "b": 2}}') == ['line 1: key "b" already set in map']


def test_the_start_of_an_unreadable_body_is_shown() -> None:
    assert decoding.summary(b"") == "<empty>"
    assert decoding.summary(b"{" + b"x" * 40) == "{" + "x" * 29 + " ..."
    assert decoding.summary(b"abc") == "616263"
