import pytest

from kubelite.meta import selectors


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a in (b,c)", {"a": "c"}, True),
        ("a notin (b, c)", {"a": "c"}, False),
        ("a notin (b)", {}, True),
        ("a=", {"a": ""}, True),
        ("a in (,b)", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("a>5", {"a": "6"}, True),
        ("a<5", {"a": "x"}, False),
        ("a=b,!c", {"a": "b"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("a.b/c=d", {"a.b/c": "d"}, True),
    ],
)
def test_label_selectors_match(text: str, labels: dict[str, str], expected: bool) -> None:
    assert selectors.parse_labels(text).matches(labels) is expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
    ],
)
def test_faulty_label_selectors_say_what_was_found(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as e:
        selectors.parse_labels(text)
    assert str(e.value) == fault


def test_an_unclosed_list_is_refused() -> None:
    with pytest.raises(ValueError):
        selectors.parse_labels("a in (b")


def test_selector_objects_know_nothing_and_everything() -> None:
    assert not selectors.from_object(None).matches({"a": "b"})
    assert selectors.from_object({}).matches({})
    selector = selectors.from_object(
        {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]}
    )
    assert selector.matches({"a": "b"}) and not selector.matches({"a": "b", "c": "d"})
    assert str(selector) == "a=b,c notin (d)"
    with pytest.raises(ValueError):
        selectors.from_object({"matchExpressions": [{"key": "c", "operator": "Near"}]})


def test_field_selectors_split_and_unescape() -> None:
    selector = selectors.parse_fields(r"spec.nodeName=a\,b,status.phase!=Running")
    assert selector.matches({"spec.nodeName": "a,b", "status.phase": "Pending"})
    assert not selector.matches({"spec.nodeName": "a,b", "status.phase": "Running"})
    assert selector.exact("spec.nodeName") == "a,b"
    assert str(selector) == r"spec.nodeName=a\,b,status.phase!=Running"


@pytest.mark.parametrize("text", ["a", r"a=\x", "a=b=c"])
def test_faulty_field_selectors_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        selectors.parse_fields(text)


def test_field_values_are_texts() -> None:
    obj = {"spec": {"on": True, "n": 3, "s": "x"}}
    assert [selectors.field_value(obj, f"spec.{name}") for name in ("on", "n", "s", "gone")] == ["true", "3", "x", ""]
