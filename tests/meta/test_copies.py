from kubelite.meta import copies, hashing


def test_a_deep_copy_is_equal_and_shares_no_container() -> None:
    original = {"a": [1, {"b": [2]}], "c": {}, "d": None}
    copied = copies.deep_copy(original)
    assert copied == original
    copied["a"][1]["b"].append(3)  # type: ignore[index]
    copied["c"]["x"] = 1  # type: ignore[index, call-overload]
    assert original == {"a": [1, {"b": [2]}], "c": {}, "d": None}


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    assert hashing.of_value({"a": 1, "b": 2}) == hashing.of_value({"b": 2, "a": 1})
    assert hashing.of_value({"a": 1}) != hashing.of_value({"a": 1}, 1)
    assert hashing.fnv32a(b"foobar") == 0xBF9CF968
