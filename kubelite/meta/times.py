"""Time stamps as Kubernetes writes them: RFC 3339 in UTC, whole seconds (Time) or six digits (MicroTime).

`now` is asked through this module everywhere, so that a test can set `clock`.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

#: Where the current time comes from, in seconds since the epoch.
clock: Callable[[], float] = time.time

#: The longest that Go's durations, nanoseconds in 64 bits, can say.
MAX_DURATION_S = 2**63 / 1e9

_PATTERN = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))")
_last: tuple[int, str] = (-1, "")


def now() -> str:
    """The current time as a Time."""
    global _last
    second = int(clock())
    # one format a second, however many objects are written in it
    if _last[0] != second:
        _last = (second, format_time(second))
    return _last[1]


def micro_now() -> str:
    """The current time as a MicroTime."""
    return format_micro_time(clock())


def format_time(moment: float | datetime) -> str:
    """`2026-01-02T03:04:05Z`, from seconds since the epoch or an aware datetime; fractions are cut."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(int(moment // 1), UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def format_micro_time(moment: float | datetime) -> str:
    """`2026-01-02T03:04:05.000006Z`, from seconds since the epoch or an aware datetime."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def parse_time(text: str) -> datetime:
    """The moment that a Time or MicroTime names, in UTC. Digits beyond microseconds are cut.

    Raises:
        ValueError: the text is not RFC 3339; its text is the API's.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(_layout_fault(text, "2006-01-02T15:04:05Z07:00"))
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, _, sign, offset_hours, offset_minutes = match.groups()[6:]
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    zone = UTC
    if sign:
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
        zone = timezone(-offset if sign == "-" else offset)
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, zone).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        part = str(e).partition(" ")[0]
        raise ValueError(f'parsing time "{text}": {part} out of range') from None


def parse_micro_time(text: str) -> datetime:
    """As `parse_time`, for a text that must have exactly six digits after the seconds.

    Raises:
        ValueError: the text is no MicroTime.
    """
    match = _PATTERN.fullmatch(text)
    if match is None or len(match[7] or "") != 6:
        raise ValueError(_layout_fault(text, "2006-01-02T15:04:05.000000Z07:00"))
    return parse_time(text)


def _layout_fault(text: str, layout: str) -> str:
    """Where a text leaves a layout, in the words of Go's time package."""
    rest = text
    for part in re.findall(r"\d{4}|\d\d|\.0+|Z07:00|[-T:]", layout):
        pattern = {"Z07:00": r"Z|[+-]\d\d:\d\d", ".000000": r"\.\d{6}(?!\d)"}.get(
            part, r"\d" * len(part) if part[0].isdigit() else part
        )
        if part == "Z07:00" and layout.count(".") == 0:
            rest = re.sub(r"^\.\d+", "", rest)  # a fraction may always follow seconds
        found = re.match(pattern, rest)
        if found is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{part}"'
        rest = rest[found.end() :]
    return f'parsing time "{text}": extra text: "{rest}"'


def parse_seconds(text: str) -> float:
    """The moment that a Time or MicroTime names, in seconds since the epoch.

    Raises:
        ValueError: the text is not RFC 3339.
    """
    return parse_time(text).timestamp()


def format_duration(seconds: float) -> str:
    """An age as tables print it: `5s`, `3m12s`, `47m`, `5h30m`, `2d3h`, `120d`, `3y`.

    Source: apimachinery pkg/util/duration HumanDuration.
    """
    if seconds < -1:
        return "<invalid>"
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if days < 365 * 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def format_go_duration(nanoseconds: int) -> str:
    """A length of time as Go prints it and as Duration fields are written: `1h0m5s`, `1.5s`, `10ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
    hours, rest = divmod(rest, 3600 * 1_000_000_000)
    minutes, rest = divmod(rest, 60 * 1_000_000_000)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def parse_go_duration(text: str) -> float:
    """Seconds that a Go duration such as `1h0m5s` or `1.5s` names.

    Raises:
        ValueError: the text is no duration.
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    if not re.fullmatch(r"((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+", rest):
        raise ValueError(f'time: invalid duration "{text}"')
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", rest)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds > MAX_DURATION_S:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * seconds


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    if not fraction:
        return str(whole)
    return f"{whole}.{str(fraction).rjust(len(str(size)) - 1, '0').rstrip('0')}"
