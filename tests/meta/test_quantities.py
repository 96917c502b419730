from fractions import Fraction

import pytest

from kubelite.meta import quantities


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1", "1"),
        ("1000m", "1"),
        ("0", "0"),
        ("0.0", "0"),
        ("1.5Gi", "1536Mi"),
        ("1e3", "1e3"),
        ("1000e3", "1e6"),
        ("100", "100"),
        ("1000", "1k"),
        ("-1.5", "-1500m"),
        ("0.1n", "1n"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("12E", "12E"),
        ("1.", "1."),
        (".5", "500m"),
        ("+1", "+1"),
        ("1.073741824G", "1.073741824G"),
        ("1.5k", "1500"),
        ("0.100", "100m"),
        ("100Ei", "9223372036854775807"),
        ("1500", "1500"),
        ("0.5Mi", "512Ki"),
        ("1E", "1E"),
        ("1E2", "100"),
        ("2048", "2048"),
    ],
)
def test_quantities_have_one_canonical_text(text: str, canonical: str) -> None:
    assert quantities.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "x", "1x", "1 ", "1.2.3", "--1", "1KI", "1e", "1e999"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        quantities.parse(text)


def test_values_round_up() -> None:
    assert quantities.parse("100m") == Fraction(1, 10)
    assert (quantities.milli("100m"), quantities.milli("2"), quantities.milli("1u")) == (100, 2000, 1)
    assert (quantities.value("100m"), quantities.value("1Ki"), quantities.value("1.5G")) == (1, 1024, 1_500_000_000)


def test_numbers_are_quantities_too() -> None:
    assert quantities.canonical(2) == "2"
    assert quantities.canonical(0.25) == "250m"


def test_sums_keep_the_format_of_what_they_are_of() -> None:
    assert quantities.format_value(quantities.parse("1Gi") + quantities.parse("1Gi"), "1Gi") == "2Gi"
    assert quantities.format_milli(1500) == "1500m"
    assert quantities.format_bytes(3 << 20) == "3Mi"
