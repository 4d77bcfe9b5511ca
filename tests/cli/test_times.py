"""Times as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cli.times import parse_duration, parse_time
from analyzer.errors import UsageError

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
NOW = 1_800_000_000 * SECOND + 123


@pytest.mark.parametrize(
    ("text", "time", "grain"),
    [
        ("3m", NOW - 3 * MINUTE, MINUTE),
        ("2h", NOW - 2 * HOUR, HOUR),
        ("1d", NOW - DAY, DAY),
        ("1h30m", NOW - 90 * MINUTE, MINUTE),
        ("1.5h", NOW - 90 * MINUTE, 1),
        ("99999d", 0, DAY),
        ("2026-01-31", 1769817600 * SECOND, DAY),
        ("2026-01-31T12:00:00Z", 1769860800 * SECOND, HOUR),
        ("2026-01-31T13:00:00+01:00", 1769860800 * SECOND, HOUR),
        ("2026-01-31T12:05:00", 1769861100 * SECOND, MINUTE),
        ("2026-01-31T12:00:00.000000001Z", 1769860800 * SECOND + 1, 1),
        ("2026-01-31T12:00:00.1Z", 1769860800 * SECOND + SECOND // 10, SECOND // 1000),
        ("1969-01-01", 0, DAY),
    ],
)
def test_times(text: str, time: int, grain: int) -> None:
    moment = parse_time(text, NOW, "--since")
    assert moment == (time, grain)


@pytest.mark.parametrize("text", ["", "yesterday", "3", "-3m", "3x", "2026-13-01", "m", "9" * 400 + "d", "1d ago"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        parse_time(text, NOW, "--until")


@given(st.text(max_size=30))
def test_any_text_gives_a_time_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        assert 0 <= parse_time(text, NOW, "--since").time < 2**63


@given(st.datetimes())
def test_iso_times_are_read(when: object) -> None:
    assert parse_time(str(when), NOW, "--since").time >= 0


def test_durations() -> None:
    assert parse_duration("1m30s", "--timeout") == 90
    assert parse_duration("500ms", "--timeout") == 0.5
    assert parse_duration("12", "--timeout") == 12
    with pytest.raises(UsageError, match="--timeout"):
        parse_duration("soon", "--timeout")
