"""The functions that Kubernetes adds to CEL: lists, strings, sets, URLs, quantities, addresses, formats, versions.

Values of types that JSON doesn't have (a quantity, an IP, a URL) are maps with their canonical form, so that equality works.
The first parameter of a function is the value it is called on. What takes a regular expression of the user's beyond CEL's
own `matches` (find, findAll) is left out: Python's would take exponential time.

Source: https://kubernetes.io/docs/reference/using-api/cel/; apiserver pkg/cel/library, v0.34.
"""

import ipaddress
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from kubelite.meta import names, quantities

_Value = dict[str, Any]


def _optional(value: Any, found: bool = True) -> Any:
    from cel import OptionalValue

    return OptionalValue.of(value) if found else OptionalValue.none()


def _select(target: Any, key: Any) -> Any:
    """`target.?key` and `target[?key]`."""
    from cel import OptionalValue

    if isinstance(target, OptionalValue):
        if not target.has_value():
            return target
        target = target.value()
    if isinstance(target, list):
        found = isinstance(key, int) and 0 <= key < len(target)
    else:
        found = isinstance(target, dict) and key in target
    return _optional(target[key] if found else None, found)


# Lists.


def _is_sorted(items: list[Any]) -> bool:
    return all(a <= b for a, b in pairwise(items))


def _sum(items: list[Any]) -> Any:
    return sum(items)


def _extreme(pick: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(*items: Any) -> Any:
        values = items[0] if len(items) == 1 and isinstance(items[0], list) else items
        if not values:
            raise ValueError(f"{pick.__name__} called on empty list")
        return pick(values)

    return extreme


def _index_of(target: Any, item: Any, start: int = 0) -> int:
    if isinstance(target, str):
        return target.find(item, start)
    return next((n for n, value in enumerate(target) if value == item), -1)


def _last_index_of(target: Any, item: Any, start: int | None = None) -> int:
    if isinstance(target, str):
        return target.rfind(item) if start is None else target.rfind(item, 0, start + len(item))
    return next((n for n in range(len(target) - 1, -1, -1) if target[n] == item), -1)


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    result: list[Any] = []
    for item in items:
        result.extend(
            _flatten(item, depth - 1) if isinstance(item, list) and depth > 1 else item if isinstance(item, list) else [item]
        )
    return result


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise ValueError(f"cannot slice({start}, {end}), the list has {len(items)} items")
    return items[start:end]


def _distinct(items: list[Any]) -> list[Any]:
    return [item for n, item in enumerate(items) if item not in items[:n]]


# Strings.


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise ValueError(f"index out of range: {at}")
    return text[at : at + 1]


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= stop <= len(text):
        raise ValueError(f"index out of range: {start}" if not 0 <= start <= len(text) else f"index out of range: {stop}")
    return text[start:stop]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not separator:
        letters = list(text)
        return letters if limit < 0 or limit >= len(letters) else [*letters[: limit - 1], "".join(letters[limit - 1 :])]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit)


def _join(items: list[str], separator: str = "") -> str:
    return separator.join(items)


def _ascii_case(upper: bool) -> Callable[[str], str]:
    change = str.upper if upper else str.lower
    return lambda text: "".join(change(letter) if letter.isascii() else letter for letter in text)


def _reverse(target: Any) -> Any:
    return target[::-1]


def _quote(text: str) -> str:
    import orjson

    return orjson.dumps(text).decode()


def _format(text: str, values: list[Any]) -> str:
    result: list[str] = []
    remaining = list(values)
    parts = iter(text)
    for letter in parts:
        if letter != "%":
            result.append(letter)
            continue
        clause = next(parts, "")
        precision = ""
        if clause == ".":
            for clause in parts:
                if not clause.isdigit():
                    break
                precision += clause
        if clause == "%":
            result.append("%")
            continue
        if not remaining:
            raise ValueError(f"index {len(values)} out of range")
        result.append(_formatted(clause, precision, remaining.pop(0)))
    return "".join(result)


def _formatted(clause: str, precision: str, value: Any) -> str:
    if int(precision or 0) > 1000:
        raise ValueError("precision is too large")
    match clause:
        case "s":
            return _text(value)
        case "d":
            return str(int(value))
        case "f":
            return f"{float(value):.{precision or 6}f}"
        case "e":
            return f"{float(value):.{precision or 6}e}"
        case "b":
            return f"{int(value):b}"
        case "o":
            return f"{int(value):o}"
        case "x" | "X":
            digits = value.encode().hex() if isinstance(value, str) else f"{int(value):x}"
            return digits.upper() if clause == "X" else digits
    raise ValueError(f'unrecognized formatting clause "{clause}"')


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(k)}: {_text(v)}' for k, v in sorted(value.items()))}}}"
    return str(value)


# Sets, which are lists.


def _sets_contains(a: list[Any], b: list[Any]) -> bool:
    return all(item in a for item in b)


def _sets_equivalent(a: list[Any], b: list[Any]) -> bool:
    return _sets_contains(a, b) and _sets_contains(b, a)


def _sets_intersects(a: list[Any], b: list[Any]) -> bool:
    return any(item in a for item in b)


# Quantities and semantic versions share the names of their comparisons.


def _quantity(text: str) -> _Value:
    return {"quantity": str(quantities.parse(text))}


def _number(value: Any) -> Any:
    from fractions import Fraction

    if isinstance(value, dict) and "quantity" in value:
        return Fraction(value["quantity"])
    if isinstance(value, dict) and "semver" in value:
        return _version_key(value["semver"])
    return value


def _compare(a: Any, b: Any) -> int:
    left, right = _number(a), _number(b)
    return int(left > right) - int(left < right)


def _add(a: Any, b: Any) -> _Value:
    return {"quantity": str(_number(a) + _number(b))}


def _sub(a: Any, b: Any) -> _Value:
    return {"quantity": str(_number(a) - _number(b))}


def _is_integer(value: Any) -> bool:
    return bool(_number(value).denominator == 1)


def _as_integer(value: Any) -> int:
    number = _number(value)
    if number.denominator != 1:
        raise ValueError("cannot convert value to integer")
    return int(number)


def _version(text: str) -> _Value:
    _version_key(text)
    return {"semver": text.partition("+")[0]}


def _version_key(text: str) -> tuple[Any, ...]:
    core, _, before = text.partition("+")[0].partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(n.isdigit() and (n == "0" or n[0] != "0") for n in numbers):
        raise ValueError(f"{text!r} is no semantic version")
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in before.split(".")) if before else ()
    return (*map(int, numbers), 0 if before else 1, parts)


def _version_part(position: int) -> Callable[[_Value], int]:
    return lambda version: int(_version_key(version["semver"])[position])


# Addresses and URLs.


def _address(text: Any) -> Any:
    if isinstance(text, dict):  # the method of a CIDR
        return {"ip": str(ipaddress.ip_interface(text["cidr"]).ip)}
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
        raise ValueError(f"IP Address {text!r} is not allowed: IPv4-mapped and zoned addresses are not")
    return {"ip": str(address)}


def _ip(value: _Value) -> Any:
    return ipaddress.ip_address(value["ip"])


def _cidr(text: str) -> _Value:
    return {"cidr": str(ipaddress.ip_interface(text))}


def _network(value: Any) -> Any:
    return ipaddress.ip_network(value["cidr"] if isinstance(value, dict) else value, strict=False)


def _contains_ip(cidr: _Value, address: Any) -> bool:
    found = ipaddress.ip_address(address["ip"] if isinstance(address, dict) else address)
    return found.version == _network(cidr).version and found in _network(cidr)


def _contains_cidr(cidr: _Value, other: Any) -> bool:
    return _network(other).version == _network(cidr).version and bool(_network(other).subnet_of(_network(cidr)))


def _url(text: str) -> _Value:
    parts = _parsed_url(text)
    return {"url": parts.geturl()}


def _parsed_url(text: str) -> SplitResult:
    parts = urlsplit(text)
    if not (parts.scheme and (parts.netloc or parts.path.startswith("/"))) and not text.startswith("/"):
        raise ValueError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    _ = parts.port
    return parts


def _of_url(read: Callable[[SplitResult], Any]) -> Callable[[_Value], Any]:
    return lambda value: read(urlsplit(value["url"]))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _is_valid(make: Callable[[str], Any]) -> Callable[[str], bool]:
    def is_valid(text: str) -> bool:
        try:
            make(text)
        except (ValueError, TypeError):
            return False
        return True

    return is_valid


# Formats.

_FORMATS: dict[str, Callable[[str], Sequence[str]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
    "dns1123LabelPrefix": lambda text: names.dns1123_label(text + "a"),
    "dns1123SubdomainPrefix": lambda text: names.dns1123_subdomain(text + "a"),
    "dns1035LabelPrefix": lambda text: names.dns1035_label(text + "a"),
}


def _named_format(name: str) -> Any:
    return _optional({"format": name}, name in _FORMATS)


def _validate(form: _Value, text: str) -> Any:
    found = [*_FORMATS[form["format"]](text)]
    return _optional(found, bool(found))


def _encode(data: Any) -> str:
    import base64

    return base64.b64encode(data if isinstance(data, bytes) else str(data).encode()).decode()


def _decode(text: str) -> bytes:
    import base64

    return base64.b64decode(text, validate=True)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "__select": _select,
    "isSorted": _is_sorted,
    "sum": _sum,
    "min": _extreme(min),
    "max": _extreme(max),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "flatten": _flatten,
    "slice": _slice,
    "distinct": _distinct,
    "sort": sorted,
    "charAt": _char_at,
    "substring": _substring,
    "split": _split,
    "join": _join,
    "replace": _replace,
    "trim": str.strip,
    "lowerAscii": _ascii_case(False),
    "upperAscii": _ascii_case(True),
    "reverse": _reverse,
    "format": _format,
    "__strings_quote": _quote,
    "__sets_contains": _sets_contains,
    "__sets_equivalent": _sets_equivalent,
    "__sets_intersects": _sets_intersects,
    "__base64_encode": _encode,
    "__base64_decode": _decode,
    "__math_greatest": _extreme(max),
    "__math_least": _extreme(min),
    "quantity": _quantity,
    "isQuantity": _is_valid(_quantity),
    "isInteger": _is_integer,
    "asInteger": _as_integer,
    "asApproximateFloat": lambda value: float(_number(value)),
    "sign": lambda value: _compare(value, 0),
    "add": _add,
    "sub": _sub,
    "compareTo": _compare,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "semver": _version,
    "isSemver": _is_valid(_version),
    "major": _version_part(0),
    "minor": _version_part(1),
    "patch": _version_part(2),
    "ip": _address,
    "isIP": _is_valid(_address),
    "__ip_isCanonical": lambda text: _address(text)["ip"] == text,
    "family": lambda value: _ip(value).version,
    "isUnspecified": lambda value: _ip(value).is_unspecified,
    "isLoopback": lambda value: _ip(value).is_loopback,
    "isLinkLocalMulticast": lambda value: (
        _ip(value) in ipaddress.ip_network("224.0.0.0/24" if _ip(value).version == 4 else "ff02::/16")
    ),
    "isLinkLocalUnicast": lambda value: _ip(value).is_link_local,
    "isGlobalUnicast": lambda v: not (_ip(v).is_loopback or _ip(v).is_link_local or _ip(v).is_multicast or _ip(v).is_unspecified),
    "cidr": _cidr,
    "isCIDR": _is_valid(_cidr),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "masked": lambda value: {"cidr": str(_network(value))},
    "prefixLength": lambda value: _network(value).prefixlen,
    "url": _url,
    "isURL": _is_valid(_url),
    "getScheme": _of_url(lambda parts: parts.scheme),
    "getHost": _of_url(_host),
    "getHostname": _of_url(lambda parts: parts.hostname or ""),
    "getPort": _of_url(lambda parts: str(parts.port or "")),
    "getEscapedPath": _of_url(lambda parts: parts.path),
    "getQuery": _of_url(lambda parts: parse_qs(parts.query, keep_blank_values=True)),
    "__format_named": _named_format,
    "validate": _validate,
}
FUNCTIONS |= {f"__format_{name}": (lambda name=name: {"format": name}) for name in _FORMATS}
