"""Tests for the paths of columns."""

from typing import Any

import pytest

from kubelite.schema import jsonpaths

VALUE: dict[str, Any] = {
    "a": {"b": 1},
    "l": ["x", "y", "z"],
    "m": {"k.with/dots": "v"},
    "n": None,
    "counts": [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
    "items": [{"k": "a", "v": 1, "on": True}, {"k": "b", "v": 2}, {"k": "c", "v": 2.5}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".a['b']", [1]),
        ("$.a.b", [1]),
        (".a.*", [1]),
        (".l[1]", ["y"]),
        (".l[-1]", ["z"]),
        (".l[*]", ["x", "y", "z"]),
        (".l[0:2]", ["x", "y"]),
        (".l[1:]", ["y", "z"]),
        (".l[:-1]", ["x", "y"]),
        (".l[::2]", ["x", "z"]),
        (".l[0,2]", ["x", "z"]),
        ("['a','m'].b", [1]),
        (".missing.deep", []),
        (".n", [None]),
        (".n.deep[0]", []),
        (r".m.k\.with/dots", ["v"]),
        (r".m['k\.with/dots']", ["v"]),
        (".m.k.with/dots", []),
        ("..b", [1]),
        (".items..k", ["a", "b", "c"]),
        (".items[?(@.k=='b')].v", [2]),
        ('.items[?(@.k=="b")].v', [2]),
        (".items[?(@.k!='b')].v", [1, 2.5]),
        (".items[?(@.k>='b')].v", [2, 2.5]),
        (".counts[?(@.v>1)].k", ["b"]),
        (".counts[?(@.v<=1)].k", ["a"]),
        (".items[?(@.on==true)].k", ["a"]),
        (".items[?(@.on)].k", ["a"]),
        (".items[?(@.k==@.k)].k", ["a", "b", "c"]),
        (".items[?(@.none==1)].k", []),
        (".", []),
    ],
)
def test_a_path_finds_values(path: str, found: list[Any]) -> None:
    assert jsonpaths.compile(path)(VALUE) == found


@pytest.mark.parametrize("path", [".l[a]", '.m["a"]', ".l[0", ".items[?(@.v==&)]", ".items[?(@.v==b)]", "#"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jsonpaths.compile(path)


@pytest.mark.parametrize(
    "path",
    [
        ".a[0]",
        ".items[?(@.v=1)]",
        ".l[3]",
        ".l[2:1]",
        ".l[::0]",
        ".a[?(@.b==1)]",
        ".items[?(@.v>1)].k",
        ".items[0:2][?(@.v>1)]",
        ".items[?(@.*==1)]",
    ],
)
def test_a_value_of_another_form_is_told(path: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jsonpaths.compile(path)(VALUE)
