"""Activity: how much happened and when - per UTC day, side that observed, event kind, verdict and drop reason."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["DAY", "HOUR", "Activity", "ActivityKey", "Side"]

HOUR = 3_600_000_000_000
DAY = 24 * HOUR


class Side(IntEnum):
    """Which end of the *connection* reported an event."""

    UNKNOWN = 0
    SOURCE = 1
    DESTINATION = 2


class ActivityKey(NamedTuple):
    """`day` counts UTC days since the epoch; `kind`, `verdict`, `reason` are Hubble's numbers."""

    day: int
    side: int
    kind: int
    verdict: int
    reason: int


class Activity:
    """How much and when: a weight, a 24-bit mask of UTC hours, and the first and last time in ns."""

    __slots__ = ("first", "hours", "last", "weight")

    def __init__(self, weight: int = 0, hours: int = 0, first: int = 0, last: int = 0) -> None:
        self.weight, self.hours, self.first, self.last = weight, hours, first, last

    def add(self, time: int, weight: int) -> None:
        """Count `weight` events at `time`."""
        if not self.hours:
            self.first = self.last = time
        elif time > self.last:
            self.last = time
        elif time < self.first:
            self.first = time
        self.weight += weight
        self.hours |= 1 << (time // HOUR % 24)

    def merge(self, other: Activity) -> None:
        # The hours tell an empty cell, not the weight: an event may weigh nothing.
        if not other.hours:
            return
        self.first = min(self.first, other.first) if self.hours else other.first
        self.last = max(self.last, other.last) if self.hours else other.last
        self.weight += other.weight
        self.hours |= other.hours

    def values(self) -> tuple[int, int, int, int]:
        return self.weight, self.hours, self.first, self.last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activity) and self.values() == other.values()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Activity{self.values()}"
