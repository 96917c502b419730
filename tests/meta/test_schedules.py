"""Schedules are read as Kubernetes reads them."""

from datetime import UTC, datetime

import pytest

from kubelite.meta.schedules import Schedule, ScheduleError

START = datetime(2026, 3, 1, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("5/15 * * * *", datetime(2026, 3, 1, 12, 20, tzinfo=UTC)),
        ("1,,2 * * * ?", datetime(2026, 3, 1, 13, 1, tzinfo=UTC)),
        ("0 0 * feb-mar/2 SUN", datetime(2027, 2, 7, tzinfo=UTC)),
        ("0 0 */2 * mon", datetime(2026, 3, 2, tzinfo=UTC)),
    ],
)
def test_ranges_steps_and_names_say_when(text: str, due: datetime) -> None:
    assert Schedule(text).next_after(START.timestamp()) == due.timestamp()


@pytest.mark.parametrize("text", ["0 0 31 2 *", ", * * * *"])
def test_what_can_be_read_and_never_comes_is_never_due(text: str) -> None:
    assert Schedule(text).next_after(START.timestamp()) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("9-5 * * * *", "beginning of range (9) beyond end of range (5): 9-5"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("* * L * *", 'failed to parse int from L: strconv.Atoi: parsing "L": invalid syntax'),
        ("@often", "unrecognized descriptor: @often"),
        ("@every now", 'failed to parse duration @every now: time: invalid duration "now"'),
        ("@every 9999999h", 'failed to parse duration @every 9999999h: time: invalid duration "9999999h"'),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, fault: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        Schedule(text)
    assert str(refused.value) == fault
