import copy
from typing import Any

import pytest

from kubelite.meta import patches
from kubelite.meta.errors import ApiError, BadRequest, Invalid, RequestEntityTooLarge

DOCUMENT = {"a": {"b": [1, 2, {"c": "d"}]}, "x/y": 1, "m~n": 2}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "add", "path": "/z", "value": 1}], {**DOCUMENT, "z": 1}),
        ([{"op": "add", "path": "/a/b/-", "value": 3}], {**DOCUMENT, "a": {"b": [1, 2, {"c": "d"}, 3]}}),
        ([{"op": "add", "path": "/a/b/0", "value": 0}], {**DOCUMENT, "a": {"b": [0, 1, 2, {"c": "d"}]}}),
        ([{"op": "remove", "path": "/a/b/2/c"}], {**DOCUMENT, "a": {"b": [1, 2, {}]}}),
        ([{"op": "remove", "path": "/x~1y"}, {"op": "remove", "path": "/m~0n"}], {"a": DOCUMENT["a"]}),
        ([{"op": "replace", "path": "/a/b/1", "value": 9}], {**DOCUMENT, "a": {"b": [1, 9, {"c": "d"}]}}),
        ([{"op": "move", "from": "/a/b/2", "path": "/q"}], {**DOCUMENT, "a": {"b": [1, 2]}, "q": {"c": "d"}}),
        (
            [{"op": "copy", "from": "/a/b", "path": "/q"}, {"op": "add", "path": "/q/0", "value": 0}],
            {**DOCUMENT, "q": [0, 1, 2, {"c": "d"}]},
        ),
        ([{"op": "test", "path": "/a/b/2", "value": {"c": "d"}}], DOCUMENT),
        ([{"op": "test", "path": "/gone", "value": None}], DOCUMENT),
        ([{"op": "replace", "path": "", "value": {"n": 1}}], {"n": 1}),
    ],
)
def test_json_patches_apply_and_leave_the_original_alone(operations: list[Any], expected: Any) -> None:
    before = copy.deepcopy(DOCUMENT)
    assert patches.json_patch(DOCUMENT, operations) == expected
    assert before == DOCUMENT


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        (
            {"op": "remove", "path": "/gone"},
            "error in remove for path: '/gone': Unable to remove nonexistent key: gone: missing value",
        ),
        (
            {"op": "add", "path": "/no/where", "value": 1},
            'add operation does not apply: doc is missing path: "/no/where": missing value',
        ),
        (
            {"op": "add", "path": "/a/b/9", "value": 1},
            "error in add for path: '/a/b/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            {"op": "replace", "path": "/a/b/9", "value": 1},
            "replace operation does not apply: doc is missing key: /a/b/9: missing value",
        ),
        ({"op": "test", "path": "/x~1y", "value": True}, "testing value /x~1y failed: test failed"),
        ({"op": "jump", "path": "/a"}, "Unexpected kind: jump"),
        ({"op": "add"}, "add operation failed to decode path: missing value"),
    ],
)
def test_operations_that_do_not_apply_say_why(operation: Any, fault: str) -> None:
    with pytest.raises(Invalid) as e:
        patches.json_patch(DOCUMENT, [operation])
    assert (e.value.code, e.value.causes[0].message) == (422, fault)


def test_what_a_patch_inserts_is_not_changed_by_its_later_operations() -> None:
    operations = [{"op": "add", "path": "/p", "value": {"l": []}}, {"op": "add", "path": "/p/l/-", "value": 1}]
    assert patches.json_patch({}, operations) == {"p": {"l": [1]}}
    assert operations[0]["value"] == {"l": []}


def test_cve_2019_1002100_the_number_of_operations_is_bounded() -> None:
    with pytest.raises(RequestEntityTooLarge):
        patches.json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)


def test_copies_that_grow_without_bound_are_refused() -> None:
    doubling = [{"op": "add", "path": "/0", "value": ["x" * 100]}]
    doubling += [{"op": "copy", "from": "/0", "path": "/0/-"} for _ in range(40)]
    with pytest.raises(RequestEntityTooLarge):
        patches.json_patch({}, doubling)


def test_a_patch_that_is_no_list_is_a_bad_request() -> None:
    patch: Any = {"op": "add"}
    with pytest.raises(BadRequest):
        patches.json_patch({}, patch)


def test_merge_patches_replace_lists_and_remove_with_null() -> None:
    original = {"a": {"b": 1, "c": 2}, "l": [1]}
    assert patches.merge_patch(original, {"a": {"b": None, "d": {"e": None, "f": 1}}, "l": [2]}) == {
        "a": {"c": 2, "d": {"f": 1}},
        "l": [2],
    }
    assert original == {"a": {"b": 1, "c": 2}, "l": [1]}
    assert issubclass(Invalid, ApiError)


def test_nulls_within_lists_go_as_upstream_has_it() -> None:
    assert patches.merge_patch({}, {"l": [{"a": None, "b": 1}, None]}) == {"l": [{"b": 1}, None]}


def test_the_whole_document_can_not_be_copied_into_itself() -> None:
    with pytest.raises(Invalid):
        patches.json_patch({"a": 1}, [{"op": "copy", "from": "", "path": "/b"}])
