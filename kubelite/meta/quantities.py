"""Resource quantities: `100m`, `1.5`, `2Gi`, `1e3`.

A parsed quantity is an exact number of its base unit; `canonical` is the one text that the API writes for it. All of it is
cached by text, since a cluster uses few different quantities and asks for them often.

Source: apimachinery pkg/api/resource (the serialization format and its limits), v0.34.
"""

import re
from fractions import Fraction
from functools import lru_cache

_PATTERN = re.compile(r"([+-]?)(?=.)0*(\d*)\.?(\d*)(?:([KMGTPE]i)|([numkMGTPE]?)|([eE][+-]?\d+))")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {exponent: suffix for suffix, exponent in _BINARY.items()}
_NANO = 10**9
#: Exponents beyond this are refused rather than computed; the API's own numbers end long before.
_MAX_EXPONENT = 64
_MAX_BINARY = 2**63 - 1

FORMAT_FAULT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@lru_cache(maxsize=16384)
def _parsed(text: str) -> tuple[int, str]:
    """The value in billionths, rounded away from zero, and its format: `si`, `binary` or `exponent`."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        if text and re.fullmatch(r"[+-]?\d*\.?\d*[eEinumkKMGTP]*[-+]?\d*", text):
            raise ValueError("unable to parse quantity's suffix")
        raise ValueError(FORMAT_FAULT)
    sign, whole, part, binary, decimal, exponent_text = match.groups()
    value = Fraction(int(f"{whole}{part}" or "0"), 10 ** len(part))
    if binary:
        form = "binary"
        value *= 1 << _BINARY[binary]
    else:
        form = "exponent" if exponent_text else "si"
        exponent = int(exponent_text[1:]) if exponent_text else _DECIMAL[decimal]
        if abs(exponent) > _MAX_EXPONENT:
            raise ValueError("unable to parse quantity's suffix")
        value *= Fraction(10) ** exponent
    scaled = value * _NANO
    nanos = -(-scaled.numerator // scaled.denominator)
    if form == "binary":
        nanos = min(nanos, _MAX_BINARY * _NANO)
        if 0 < nanos < _NANO:
            form = "si"
    return (-nanos if sign == "-" else nanos), form


@lru_cache(maxsize=16384)
def parse(text: str | int | float) -> Fraction:
    """The exact number that a quantity names, such as Fraction(1, 10) for `100m`.

    Raises:
        ValueError: the text is no quantity; its text is the API's.
    """
    return Fraction(_parsed(str(text))[0], _NANO)


@lru_cache(maxsize=16384)
def milli(text: str | int | float) -> int:
    """A quantity in thousandths, rounded away from zero: 100 for `100m`, 2000 for `2`.

    Raises:
        ValueError: the text is no quantity.
    """
    return _rounded(_parsed(str(text))[0], 1_000_000)


@lru_cache(maxsize=16384)
def value(text: str | int | float) -> int:
    """A quantity in whole units, rounded away from zero: 1 for `100m`, 1024 for `1Ki`.

    Raises:
        ValueError: the text is no quantity.
    """
    return _rounded(_parsed(str(text))[0], _NANO)


@lru_cache(maxsize=16384)
def canonical(text: str | int | float) -> str:
    """The text that the API writes for a quantity: `500m` for `0.5`, `1Gi` for `1024Mi`.

    Raises:
        ValueError: the text is no quantity.
    """
    text = str(text)
    nanos, form = _parsed(text)
    return text if nanos and _stands(text, form) else _format(nanos, form)


def _stands(text: str, form: str) -> bool:
    """Whether upstream keeps a quantity's text because its number needs no other suffix."""
    match = _PATTERN.fullmatch(text)
    assert match is not None
    _, whole, part, binary, decimal, exponent_text = match.groups()
    if form == "binary":
        exponent = _BINARY[binary]
        return not part and len(whole) + exponent * 3 // 10 <= 14 and int(whole) & 7 != 0
    if binary:
        return False
    scale = (int(exponent_text[1:]) if exponent_text else _DECIMAL[decimal]) - len(part)
    digits = f"{whole or '0'}{part}"
    return len(digits) <= 18 and scale >= -9 and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def format_value(number: Fraction | int, like: str = "") -> str:
    """The canonical text of a number, in the format (binary, decimal, exponent) of the quantity `like`."""
    scaled = Fraction(number) * _NANO
    nanos = -(-scaled.numerator // scaled.denominator)
    return _format(nanos, _parsed(like)[1] if like else "si")


def format_milli(number: int) -> str:
    """The canonical text of a number of thousandths: `100m`, `2`."""
    return _format(number * 1_000_000, "si")


def format_bytes(number: int) -> str:
    """The canonical text of a number of bytes in binary units: `1Gi`."""
    return _format(number * _NANO, "binary")


def _rounded(number: int, unit: int) -> int:
    """The number of units, away from zero."""
    return -(-number // unit) if number >= 0 else number // unit


def is_quantity(text: str | int | float) -> bool:
    try:
        _parsed(str(text))
    except ValueError:
        return False
    return True


def _format(nanos: int, form: str) -> str:
    if nanos == 0:
        return "0"
    if form == "binary" and (abs(nanos) < 1024 * _NANO or nanos % _NANO):
        form = "si"
    if form == "binary":
        number, exponent = nanos // _NANO, 0
        while number % 1024 == 0 and exponent < 60:
            number //= 1024
            exponent += 10
        return f"{number}{_BINARY_SUFFIX[exponent]}" if exponent else str(number)
    number, exponent = nanos, -9
    while number % 1000 == 0 and (exponent < 18 or form == "exponent"):
        number //= 1000
        exponent += 3
    if form == "exponent":
        return f"{number}e{exponent}" if exponent else str(number)
    return f"{number}{_DECIMAL_SUFFIX[exponent]}"
