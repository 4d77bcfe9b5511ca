"""Which content a store has read: whether a batch is new, was read before, or both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from analyzer.sources.base import LIVE, Position

__all__ = ["Novelty", "grows", "novelty"]


class Novelty(Enum):
    """What a store knows of the content of a batch."""

    NEW = "new"
    READ_BEFORE = "read before"
    BOTH = "both"
    """Some of it was read before, or something else was at its place: the batch cannot be counted, and not be left out."""


def grows(known: Position, position: Position) -> bool:
    """Whether `position` continues the uninterrupted run of a node that `known` is of."""
    if not known.stream.startswith(LIVE) or (known.stream, known.end) != (position.stream, position.start):
        return False
    return known.digest.partition("/")[0] == position.digest.partition("/")[0]


def novelty(positions: Sequence[Position], known: Iterable[Position]) -> Novelty:
    """Compare the `positions` of a batch to the `known` ones that overlap them, both without overlaps among themselves.

    The same range with another digest is other content at the same place. Ranges that were cut elsewhere are compared by what
    they cover.
    """
    ranges = {(each.stream, each.start, each.end): each.digest for each in known}
    found = {_novelty(each, ranges) for each in positions if each.end > each.start}
    if len(found) > 1:
        return Novelty.BOTH
    return found.pop() if found else Novelty.NEW


def _novelty(position: Position, known: dict[tuple[str, int, int], str]) -> Novelty:
    stream, start, end, digest = position
    same = known.get((stream, start, end))
    if same is not None:
        return Novelty.READ_BEFORE if same == digest else Novelty.BOTH
    if stream.startswith(LIVE):
        # Of a node, numbers say how many flows were read, and not which.
        met = (theirs for (where, low, high), theirs in known.items() if where == stream and low < end and start < high)
        if any(theirs.partition("/")[0] != digest.partition("/")[0] for theirs in met):
            return Novelty.BOTH
    covered = sum(
        max(0, min(end, their_end) - max(start, their_start))
        for their_stream, their_start, their_end in known
        if their_stream == stream
    )
    if not covered:
        return Novelty.NEW
    return Novelty.READ_BEFORE if covered == end - start else Novelty.BOTH
