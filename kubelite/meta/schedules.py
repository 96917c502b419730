"""Schedules in cron's notation, as CronJobs have them: five fields, names like @daily, @every with a duration.

Source: github.com/robfig/cron v3 (what ParseStandard takes), which Kubernetes uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from kubelite.meta import times

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class ScheduleError(ValueError):
    """The text is no schedule, or its time zone is not known."""


class UnknownTimeZone(ScheduleError):
    """There is no time zone of that name."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What one of the five fields may say."""

    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    def normal(self, text: str) -> str:
        """A field as a star or a list of numbers, which mean the same to all that read cron's notation. Raises ScheduleError."""
        numbers: set[int] = set()
        for part in text.split(","):
            if part:
                found, is_star = self._range(part)
                if is_star:
                    return "*"
                numbers.update(found)
        return ",".join(str(number) for number in sorted(numbers))

    def _range(self, text: str) -> tuple[range, bool]:
        """The numbers of `1-5/2`, and whether it stands for no choice at all."""
        spread, *steps = text.split("/")
        first, *others = spread.split("-")
        star = first in ("*", "?")
        start = self.low if star else self._number(first)
        end = self.high if star else self._number(others[0]) if others else start
        if len(others) > 1 and not star:
            raise ScheduleError(f"too many hyphens: {text}")
        if len(steps) > 1:
            raise ScheduleError(f"too many slashes: {text}")
        step = _parse_number(steps[0]) if steps else 1
        if steps and not others:
            end = self.high
        if start < self.low:
            raise ScheduleError(f"beginning of range ({start}) below minimum ({self.low}): {text}")
        if end > self.high:
            raise ScheduleError(f"end of range ({end}) above maximum ({self.high}): {text}")
        if start > end:
            raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
        if step == 0:
            raise ScheduleError(f"step of range should be a positive number: {text}")
        return range(start, end + 1, step), star and step == 1

    def _number(self, text: str) -> int:
        named = self.names.get(text.lower())
        return _parse_number(text) if named is None else named


def _parse_number(text: str) -> int:
    digits = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if len(digits) > 18:  # more than Go's numbers hold, or nearly
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": value out of range')
    if text.startswith("-") and int(text):
        raise ScheduleError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Bounds(0, 59),
    _Bounds(0, 23),
    _Bounds(1, 31),
    _Bounds(1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Bounds(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


class Schedule:
    """When something is due. Times are seconds since the epoch."""

    def __init__(self, text: str, time_zone: str = "") -> None:
        """Raises ScheduleError, and of them UnknownTimeZone for the time zone."""
        self._every_s = 0
        self._text = ""
        self._zone: tzinfo = UTC
        if time_zone:
            try:
                self._zone = ZoneInfo(time_zone)
            except (OSError, ValueError, KeyError) as e:
                raise UnknownTimeZone(f"unknown time zone {time_zone}") from e
        if text.startswith("@every "):
            length = text.removeprefix("@every ")
            try:
                self._every_s = max(int(times.parse_go_duration(length)), 1)
            except ValueError as e:
                raise ScheduleError(f"failed to parse duration {text}: {e}") from e
            return
        if text.startswith("@") and text not in _NAMED:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        texts = _NAMED.get(text, text).split()
        if len(texts) != len(_FIELDS):
            raise ScheduleError(f"expected exactly 5 fields, found {len(texts)}: [{' '.join(texts)}]")
        found = [bounds.normal(part) for bounds, part in zip(_FIELDS, texts, strict=True)]
        try:
            CronSim(" ".join(found), datetime.now(UTC))
        except CronSimError:
            return  # of all that is read, this is what never comes: a 31st of February, an empty list
        self._text = " ".join(found)

    def next_after(self, moment: float) -> float | None:
        """The first time after the moment; None where there is none for decades (a 31st of February)."""
        if self._every_s:
            return int(moment) + self._every_s
        return self._step(moment, reverse=False)

    def last_until(self, moment: float, since: float) -> float | None:
        """The newest time after `since` that is not after the moment."""
        if self._every_s:
            count = int(moment - since) // self._every_s
            return since + count * self._every_s if count > 0 else None
        found = self._step(int(moment) + 1, reverse=True)
        return found if found is not None and found > since else None

    def _step(self, moment: float, *, reverse: bool) -> float | None:
        if not self._text:
            return None
        start = datetime.fromtimestamp(int(moment), self._zone)
        try:
            found: datetime = next(CronSim(self._text, start, reverse=reverse))
        except StopIteration:
            return None
        return found.timestamp()
