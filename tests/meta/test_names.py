import pytest

from kubelite.meta import names


@pytest.mark.parametrize("value", ["a", "web-1", "0abc", "a" * 63])
def test_a_label_of_lower_case_letters_digits_and_dashes_is_fine(value: str) -> None:
    assert names.dns1123_label(value) == []


def test_a_label_with_dots_says_that_dots_are_wrong() -> None:
    assert names.dns1123_label("a.b") == ["must not contain dots"]


def test_a_subdomain_with_capitals_gets_the_text_of_the_api() -> None:
    assert names.dns1123_subdomain("My_Pod") == [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
        "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]


@pytest.mark.parametrize("value", ["app", "example.com/app", "A_b.c-1"])
def test_label_keys_may_have_one_prefix(value: str) -> None:
    assert names.qualified_name(value) == ()


@pytest.mark.parametrize("value", ["", "/app", "a/b/c", "-a", "A.B/c", "a" * 64])
def test_faulty_label_keys_are_found(value: str) -> None:
    assert names.qualified_name(value)


def test_label_values_may_be_empty_and_not_end_with_a_dash() -> None:
    assert names.label_value("") == ()
    assert names.label_value("a-")


def test_a_trailing_newline_is_no_part_of_any_name() -> None:
    assert names.dns1123_label("a\n")
    assert names.label_value("a\n")
    assert names.config_key("a\n")


def test_config_keys_may_not_climb_directories() -> None:
    assert names.config_key("..data") == ["must not start with '..'"]
    assert names.config_key("a.b") == []


def test_generated_names_stay_labels_and_differ() -> None:
    made = {names.generate_name("x" * 80) for _ in range(50)}
    assert len(made) == 50
    assert all(len(name) == 63 and names.dns1123_label(name) == [] for name in made)
