"""Regular expressions as Go has them. What Go says was taken from its regexp package (go1.26)."""

import pytest

from kubelite.schema import patterns


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?z)a", "invalid or unsupported Perl syntax: `(?z`"),
        ("[a", "missing closing ]: `[a`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|+", "missing argument to repetition operator: `+`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("(a{500}){3}", "invalid repeat count: `{3}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?P<a-b>x)", "invalid named capture: `(?P<a-b>`"),
        ("^[a-z]+$", ""),
        (r"(?i)\Qa.b\E\.(?P<n>\pL)[^\d\]]{2,3}?\z", ""),
    ],
)
def test_a_pattern_is_checked_in_gos_words(pattern: str, said: str) -> None:
    assert patterns.fault(pattern) == said


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("b", "abc", True),
        (r"^\d+$", "١٢", False),
        (r"^\w+$", "é", False),
        (r"\bé", "aé", True),
        ("(?i)STRASSE", "strasse", True),
        (r"^\Qa.b\E$", "a.b", True),
        (r"^\Qa.b\E$", "axb", False),
        ("^[a-c&&b]+$", "a&b", True),
        ("^[]a]+$", "]a", True),
        ("^a{2}$", "aa", True),
        ("^a{,2}$", "a{,2}", True),
        (r"^\x41\x{1F600}\101$", "A\U0001f600A", True),
        (r"^[[:alpha:]\-]+$", "a-b", True),
        ("^.$", "\n", False),
        ("(?s)^.$", "\n", True),
        ("^a$", "a\n", False),
        ("(?m)^a$", "a\nb", True),
    ],
)
def test_a_text_fits_as_it_does_for_go(pattern: str, text: str, fits: bool) -> None:
    assert patterns.matches(pattern, text) is fits


def test_a_pattern_that_is_none_refuses_nothing() -> None:
    assert patterns.matches("(?=a)", "b")


def test_cve_2020_8552_no_pattern_takes_exponential_time() -> None:
    text = "a" * 50_000 + "!"
    assert not patterns.matches("^(a+)+$", text)
    assert not patterns.matches("^(a|a)*$", text)
