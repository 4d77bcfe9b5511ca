"""Half-open connections: a connection needs egress at one end and ingress at the other, and one of them alone opens nothing."""

from __future__ import annotations

from collections.abc import Mapping

from analyzer.model.edge import Edge, EdgeKey
from analyzer.policy.resolve import UNMANAGED
from analyzer.simulate import Result, SideOutcome
from analyzer.verify.result import HalfOpen

__all__ = ["Halves", "Refused"]

Refused = Mapping[tuple[EdgeKey, str], str]
"""Sides of edges that a proposal says it does not allow, with its reason."""

_OPEN_FIRST = (Result.ALLOWED, Result.UNDECIDED, Result.DENIED)


class Halves:
    """Puts the two ends of each edge together, which may be judged by different clusters' policies."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused
        self._waiting: dict[EdgeKey, tuple[str, SideOutcome]] = {}
        self._found: list[HalfOpen] = []

    def add(self, edge: Edge, direction: str, outcome: SideOutcome) -> None:
        """Take what became of one end."""
        other = self._waiting.pop(edge.key, None)
        if other is None:
            self._waiting[edge.key] = direction, outcome
            return
        ends = sorted((other, (direction, outcome)), key=lambda end: _OPEN_FIRST.index(end[1].result))
        (way, opened), (back, closed) = ends
        # Nobody's policies are about an outside peer: the connection has one end only that could be closed.
        if opened.result is not closed.result and opened.rules != _NOBODY and closed.rules != _NOBODY:
            self._found.append(HalfOpen(edge, way, opened, closed, self._refused.get((edge.key, back), "")))

    def found(self) -> tuple[HalfOpen, ...]:
        """All edges of which both ends are known and differ, those that are sure first, then in canonical order."""
        return tuple(sorted(self._found, key=lambda each: (not each.sure, each.edge.key)))


_NOBODY = (str(UNMANAGED),)
