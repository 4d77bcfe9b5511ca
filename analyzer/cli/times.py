"""--since and --until: times as the hubble CLI takes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from analyzer.errors import UsageError

__all__ = ["Moment", "parse_duration", "parse_time"]

SECOND = 1_000_000_000
MAX_TIME = 2**63 - 1
_UNITS = {
    "ms": SECOND // 1000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86400 * SECOND,
    "w": 7 * 86400 * SECOND,
}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d|w)")
_RELATIVE = re.compile(rf"(?:{_PART.pattern})+")
_FRACTION = re.compile(r"\.(\d+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(NamedTuple):
    """A point in time, in ns since the epoch, and how exactly it was meant: to the week, day, hour, ..., in ns.

    ``2d`` is meant to the day and can be answered from days; ``3m`` cannot.
    """

    time: int
    grain: int


def parse_time(text: str, now: int, flag: str) -> Moment:
    """Read ``3m``, ``1h30m``, ``2d`` (before `now`), RFC 3339, or a date. What has no offset is UTC.

    Raises UsageError, naming `flag`.
    """
    trimmed = text.strip()
    if _RELATIVE.fullmatch(trimmed):
        parts = [(float(number), _UNITS[unit]) for number, unit in _PART.findall(trimmed)]
        time = now - int(sum(number * unit for number, unit in parts))
        whole = all(number.is_integer() for number, _ in parts)
        return Moment(max(0, time), min(unit for _, unit in parts) if whole else 1)
    time = _absolute(trimmed, flag)
    return Moment(time, next((unit for unit in sorted(set(_UNITS.values()), reverse=True)[1:] if time % unit == 0), 1))


def _absolute(text: str, flag: str) -> int:
    # Python reads microseconds at most; Hubble writes nanoseconds.
    fraction = _FRACTION.search(text)
    digits = fraction.group(1)[:9].ljust(9, "0") if fraction else "0"
    try:
        when = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError:
        hint = "write 90s, 3m, 2h, 1d, 2026-01-31 or 2026-01-31T12:00:00Z"
        raise UsageError(f"{flag} {text}: not a time", hint=hint) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0, (when - _EPOCH) // timedelta(seconds=1) * SECOND + int(digits)), MAX_TIME)


def parse_duration(text: str, flag: str) -> float:
    """``5s``, ``1m30s`` or a plain number of seconds, in seconds. Raises UsageError, naming `flag`."""
    trimmed = text.strip()
    if _RELATIVE.fullmatch(trimmed):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(trimmed)) / SECOND
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", trimmed):
        return float(trimmed)
    raise UsageError(f"{flag} {text}: not a duration", hint="write 500ms, 5s or 1m30s")
