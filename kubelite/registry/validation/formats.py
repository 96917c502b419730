"""Texts of a format, as schemas of custom kinds name them.

Source: kube-openapi pkg/validation/strfmt, govalidator (patterns), apiextensions-apiserver pkg/apiserver/validation/formats.go.
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import date

from kubelite.meta import times, urls
from kubelite.schema import patterns

_HOSTNAME = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|"
    r"([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)
_CARD = r"4\d{12}(\d{3})?|5[1-5]\d{14}|6(011|5\d\d)\d{12}|3[47]\d{13}|3(0[0-5]|[68]\d)\d{11}|(2131|1800|35\d{3})\d{11}"
_COLOR = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_ADDRESS = rf'({_ATOM}(\.{_ATOM})*|"([^"\\]|\\.)*")@({_ATOM}(\.{_ATOM})*|\[[^\[\]\\]*\])'
_LONG_DURATION = re.compile(
    r"\d+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|m|min|h|hr|hour|d|day|w|wk|week)(?![A-Za-zµ])", re.IGNORECASE
)
_LONG_UNITS = re.compile(r"\d+\s*(nano|micro|milli|sec|min|hour|day|week)", re.IGNORECASE)


def known(name: str | None) -> str:
    """A format's name without dashes, empty for one that means nothing."""
    normal = name.replace("-", "") if name else ""
    return normal if normal in _FORMATS else ""


def fits(name: str, text: str) -> bool:
    """Whether a text has a known format."""
    return _FORMATS[name](text)


def _matching(pattern: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _parsing(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def parses(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return parses


def _without_zeros(text: str) -> str:
    """An address as it is read where zeros may lead its numbers."""
    return re.sub(r"(?<![0-9A-Fa-f:])0+(?=\d)", "", text) if "." in text else text


def _is_ipv4(text: str) -> bool:
    return "." in text and _parsing(ipaddress.ip_address)(_without_zeros(text)) and "%" not in text


def _is_ipv6(text: str) -> bool:
    return ":" in text and "%" not in text and _parsing(ipaddress.IPv6Address)(text)


def _is_cidr(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    plain = _without_zeros(address)
    return slash == "/" and prefix.isascii() and prefix.isdigit() and "%" not in text and _parsing(_network)(f"{plain}/{prefix}")


def _network(text: str) -> object:
    return ipaddress.ip_network(text, strict=False)


def _is_mac(text: str) -> bool:
    digits = re.sub(r"[:.-]", "", text)
    form = r"[0-9A-Fa-f]{2}(([:-])[0-9A-Fa-f]{2})(\2[0-9A-Fa-f]{2})+|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4})+|[0-9A-Fa-f]+"
    return len(digits) in (12, 16, 40) and re.fullmatch(form, text) is not None


def _is_hostname(text: str) -> bool:
    return (
        len(text.encode()) <= 255
        and all(len(part.encode()) <= 63 for part in text.split("."))
        and patterns.matches(_HOSTNAME, text)
    )


def _is_isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{9}[\dX]", digits, re.ASCII):
        return False
    return sum((n + 1) * (10 if digit == "X" else int(digit)) for n, digit in enumerate(digits)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{13}", digits, re.ASCII):
        return False
    return sum(int(digit) * (3 if n % 2 else 1) for n, digit in enumerate(digits)) % 10 == 0


def _is_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not re.fullmatch(_CARD, digits, re.ASCII):
        return False
    doubled = [int(digit) * (n % 2 + 1) for n, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _is_date_time(text: str) -> bool:
    day, _, rest = text.lower().partition("t")
    found = re.fullmatch(r"(\d\d):(\d\d):(\d\d)(.\d+)?(z|[+-]\d\d:\d\d)", rest.partition("t")[0], re.ASCII)
    return _is_date(day) and found is not None and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


def _is_date(text: str) -> bool:
    return len(text) == 10 and text[4] == "-" and _parsing(date.fromisoformat)(text)


def _is_duration(text: str) -> bool:
    """As Go has them, or as Scala: `2 weeks`."""
    return _parsing(times.parse_go_duration)(text) or bool(_LONG_DURATION.search(text) or _LONG_UNITS.search(text))


def _uuid(version: str = "[0-9a-f]", variant: str = "[0-9a-f]") -> Callable[[str], bool]:
    return _matching(
        rf"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}", re.IGNORECASE
    )


_FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _matching(r"[0-9a-fA-F]{24}"),
    "uri": _parsing(urls.parse_request_uri),
    "email": lambda text: re.fullmatch(rf"\s*(({_ATOM}|\"([^\"\\]|\\.)*\"|[\s.])*<{_ADDRESS}>|{_ADDRESS})\s*", text) is not None,
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "cidr": _is_cidr,
    "mac": _is_mac,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_card,
    "ssn": lambda text: len(text) == 11 and re.fullmatch(r"\d{3}[- ]?\d{2}[- ]?\d{4}", text, re.ASCII) is not None,
    "hexcolor": _matching(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matching(rf"rgb\({_COLOR},{_COLOR},{_COLOR}\)"),
    "byte": _matching(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"),
    "password": lambda text: True,
    "date": _is_date,
    "duration": _is_duration,
    "datetime": _is_date_time,
}
