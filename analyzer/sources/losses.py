"""Losses: which `lost_events` of a live stream are new. Servers keep them among the flows, and send them again with those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from analyzer.model.flow import LostEvents
from analyzer.sources.base import History, Position

__all__ = ["Losses"]


@dataclass(slots=True)
class _Node:
    """A node's losses: how many were ever read (`count`), of which `told`; the times of the first, the earliest and the latest of
    this process (`first`, `low`, `high`); and ranges of times whose losses were read before, by earlier processes (`before`) or
    by this one (`again`)."""

    count: int = 0
    told: int = 0
    first: int = 0
    low: int = 0
    high: int = 0
    before: list[tuple[int, int]] = field(default_factory=list)
    again: tuple[int, int] = (0, 0)


class Losses:
    """Tells losses that were counted from new ones, by their times; those without a time always count.

    A position of theirs says ``first/last``: the times of the first and the last loss of a run, which a process begins.
    """

    def __init__(self, history: History, stream: Callable[[str], str]) -> None:
        self._history, self._stream = history, stream
        self._nodes: dict[str, _Node] = {}

    def fresh(self, loss: LostEvents) -> bool:
        """Whether it was not counted before; then it is from now on."""
        node = self._nodes.get(loss.node) or self._meet(loss.node)
        if not loss.time:
            return True
        if any(low <= loss.time <= high for low, high in (*node.before, node.again)):
            return False
        node.low, node.high = min(node.low or loss.time, loss.time), max(node.high, loss.time)
        node.first = node.first or loss.time
        node.count += 1
        return True

    def interrupted(self, names: Iterable[str] | None = None) -> None:
        """From here on the server may send again what was read already, of some nodes or of all."""
        for name in self._nodes.keys() if names is None else names:
            node = self._nodes.get(name)
            if node is not None:
                node.again = (node.low, node.high)

    def positions(self) -> list[Position]:
        """What was read since this was called last."""
        positions = []
        for name, node in self._nodes.items():
            if node.count > node.told:
                positions.append(Position(self._stream(name), node.told, node.count, f"{node.first}/{node.high}"))
                node.told = node.count
        return positions

    def _meet(self, name: str) -> _Node:
        node = self._nodes[name] = _Node()
        for position in self._history(self._stream(name)):
            low, high = map(int, position.digest.split("/"))
            node.before.append((low, high))
            node.count = node.told = position.end
        return node
