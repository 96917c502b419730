"""Schedules in cron's notation, as CronJobs have them: five fields, names like @daily, @every with a duration.

Source: github.com/robfig/cron v3 (what ParseStandard takes), which Kubernetes uses.
"""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from kubelite.meta import times

NAMED = {
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


class Schedule:
    """When something is due. Times are seconds since the epoch."""

    def __init__(self, text: str, time_zone: str = "") -> None:
        """Raises ScheduleError."""
        self._every_s = 0
        self._text = ""
        self._zone: tzinfo = UTC
        if time_zone:
            try:
                self._zone = ZoneInfo(time_zone)
            except (OSError, ValueError, KeyError) as e:
                raise ScheduleError(f'unknown time zone "{time_zone}"') from e
        if text.startswith("@every "):
            try:
                self._every_s = max(int(times.parse_go_duration(text.removeprefix("@every ").strip())), 1)
            except ValueError as e:
                raise ScheduleError(str(e)) from e
            return
        fields = NAMED.get(text.strip(), text).upper().replace("?", "*").split()
        if len(fields) != 5:
            raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
        self._text = " ".join(fields)
        try:
            CronSim(self._text, datetime.now(UTC))
        except CronSimError as e:
            raise ScheduleError(f"{e}: [{text}]") from e

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
        start = datetime.fromtimestamp(int(moment), self._zone)
        try:
            found: datetime = next(CronSim(self._text, start, reverse=reverse))
        except StopIteration:
            return None
        return found.timestamp()
