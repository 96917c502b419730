import pytest

from kubelite.meta import times


def test_time_stamps_come_back_as_they_were_written() -> None:
    assert times.format_time(times.parse_time("2026-01-02T03:04:05Z")) == "2026-01-02T03:04:05Z"
    assert times.format_micro_time(times.parse_time("2026-01-02T03:04:05.000006Z")) == "2026-01-02T03:04:05.000006Z"


def test_offsets_are_turned_to_utc() -> None:
    assert times.format_time(times.parse_time("2026-01-02T03:04:05.999+02:00")) == "2026-01-02T01:04:05Z"


@pytest.mark.parametrize("text", ["", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "x2026-01-02T03:04:05Z"])
def test_what_is_no_time_stamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        times.parse_time(text)


def test_now_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "clock", lambda: 0.75)
    assert times.now() == "1970-01-01T00:00:00Z"
    assert times.micro_now() == "1970-01-01T00:00:00.750000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (119, "119s"),
        (120, "2m"),
        (192, "3m12s"),
        (600, "10m"),
        (10800, "3h"),
        (19800, "5h30m"),
        (86400, "24h"),
        (172800, "2d"),
        (183600, "2d3h"),
        (86400 * 10, "10d"),
        (86400 * 365 * 2, "2y"),
        (86400 * 365 * 9, "9y"),
        (-5, "<invalid>"),
    ],
)
def test_ages_are_printed_as_kubectl_does(seconds: float, text: str) -> None:
    assert times.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (3_605_000_000_000, "1h0m5s"), (1_500_000_000, "1.5s"), (10_000_000, "10ms"), (-90_000_000_000, "-1m30s")],
)
def test_go_durations_go_both_ways(nanoseconds: int, text: str) -> None:
    assert times.format_go_duration(nanoseconds) == text
    assert times.parse_go_duration(text) == pytest.approx(nanoseconds / 1e9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x", 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
        ("2026-01-02T03:04:05", 'parsing time "2026-01-02T03:04:05" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"'),
        ("2026-13-02T03:04:05Z", 'parsing time "2026-13-02T03:04:05Z": month out of range'),
    ],
)
def test_a_bad_time_stamp_is_explained_in_the_words_of_the_api(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as e:
        times.parse_time(text)
    assert str(e.value) == fault


def test_micro_times_have_exactly_six_digits() -> None:
    with pytest.raises(ValueError) as e:
        times.parse_micro_time("2026-01-01T00:00:00.5Z")
    assert str(e.value) == (
        'parsing time "2026-01-01T00:00:00.5Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".5Z" as ".000000"'
    )
