"""Counts and times in words, the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["count", "moment", "share"]

_PLURALS = {"entry": "entries", "policy": "policies"}


def count(number: int, thing: str) -> str:
    """``1 edge``, ``12,345 edges``."""
    plural = _PLURALS.get(thing, f"{thing}s")
    return f"1 {thing}" if number == 1 else f"{number:,} {plural}"


def share(part: int, whole: int) -> str:
    """A part in percent, never rounded to nothing or to all: ``0.4 %``, ``< 0.1 %``, ``100 %``."""
    if not part or not whole:
        return "0 %"
    if part >= whole:
        return "100 %"
    tenths = part * 1000 // whole
    return f"{tenths // 10}.{tenths % 10} %" if tenths else "< 0.1 %"


def moment(time: int) -> str:
    """Nanoseconds since the epoch as ``2026-01-31 12:00``, UTC. Whatever lies outside of Python's years prints as it is."""
    try:
        return datetime.fromtimestamp(time // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(time)
