"""Sight: how far every node of a live stream has been read, so that what a server sends again counts once, and gaps show."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

from analyzer.model.flow import OUT_OF_SIGHT, Flow, LostEvents, NodeStatus, Skip
from analyzer.sources.base import LIVE, Batch, History, Position, Record, nothing_read_before
from analyzer.sources.losses import Losses

__all__ = ["Sight"]

_SECOND = 1_000_000_000
_MARGIN = 2 * _SECOND
"""How far, in ns, the flows of a node may come out of order: Relay sorts for a second at most (`pkg/hubble/relay/observer`)."""
_HORIZON = 24 * 3600 * _SECOND
"""Nodes that sent nothing for longer, in ns by our own clock, do not hold back where a stream is resumed from: they may be gone
for good."""
_MEMORY = 32_768
"""The latest flows, of all nodes together, that are remembered one by one."""
_TAIL = 128
"""The latest flows of a node that a position names."""
_LONGEST = 253
_NODE, _TIME_AND_NODE = attrgetter("form.node"), attrgetter("time", "form.node")


@dataclass(slots=True)
class _Before:
    """What was read of a node before the connection that now sends flows of it again.

    A node's flows always come in the same order. So what comes before the latest ones that were read (the anchor), and lies in
    a time that was read, is known; and what comes after them is new, whatever the node's clock says.
    """

    ranges: Sequence[tuple[int, int]]
    """The last one is the run that may go on."""
    last: int
    uuids: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    floor: int = 0
    anchored: bool = False
    continued: bool = False
    matched: int = 0

    def knows(self, flow: Flow) -> bool:
        """Whether the flow was read before."""
        when, uuid = flow.time, flow.uuid
        if uuid and (uuid in self.uuids or (self.hashes and _hash(uuid) in self.hashes)):
            self.anchored = self.continued = True
            self.matched += 1
            return True
        if self.anchored and uuid:
            # It may be a neighbour of the earliest that are remembered, just out of order; later on it cannot.
            early = self.matched * 2 <= len(self.uuids) + len(self.hashes)
            low = self.ranges[-1][0]
            return early and max(low, self.floor - _MARGIN) <= when < self.floor
        if when and any(low <= when <= high for low, high in self.ranges):
            low, high = self.ranges[-1]
            self.continued = self.continued or low <= when <= high
            return True
        return False


@dataclass(slots=True)
class _Node:
    """A node's flows: how many were ever read (`count`), of which how many are in the positions told so far (`told`); and the
    times of the uninterrupted run that it is in. `last` is the time of the latest one, which a clock may have set back; `heard` is
    when that one came, by our own clock;
    `inherited` names the latest flows of an earlier process, not before `floor`, that the run goes on from."""

    count: int = 0
    told: int = 0
    low: int = 0
    high: int = 0
    last: int = 0
    heard: int = 0
    before: _Before | None = None
    inherited: tuple[str, ...] = ()
    floor: int = 0
    earlier: list[tuple[int, int]] = field(default_factory=list)


class Sight:
    """Takes the records of a live stream, hands on those that are new, and says how to go on after an interruption.

    `history` tells what earlier processes have read. Memory: some bytes per node, and the latest flows.
    """

    def __init__(self, history: History = nothing_read_before, clock: Callable[[], int] = time.time_ns) -> None:
        self._history, self._clock = history, clock
        self._nodes: dict[str, _Node] = {}
        self._pending: set[str] = set()
        self._recent: deque[Sequence[Flow]] = deque()
        self._remembered = 0
        self._ended: list[Position] = []
        self._losses = Losses(history, _losses_of)

    @property
    def since(self) -> int | None:
        """Where to resume from, in ns since the epoch: nothing older can be new. None if nothing was read yet.

        Servers leave out what is older, whatever comes later. So a node whose clock is ahead must not decide for the others, nor
        for itself, as somebody may set its clock right: it is never a time to come.
        """
        if not self._nodes:
            return None
        now, nodes = self._clock(), self._nodes.values()
        lasts = [node.last for node in nodes if now - node.heard <= _HORIZON] or [node.last for node in nodes]
        return max(0, min(*lasts, now) - _MARGIN)

    def reconnected(self) -> None:
        """From here on the server may send again what was read already."""
        uuids = self._uuids()
        for name, node in self._nodes.items():
            self._expect(name, node, uuids.get(name, []), anchored=False)
        self._losses.interrupted()

    def batch(self, records: Sequence[Record]) -> Batch:
        """Those records that are new, the others as duplicates, and the gaps that showed."""
        received, flows = records, [record for record in records if record.__class__ is Flow]
        if len(flows) < len(received):
            self._statuses(record for record in records if record.__class__ is NodeStatus)
            records = [record for record in records if not isinstance(record, LostEvents) or self._losses.fresh(record)]
        nodes = set(map(_NODE, flows))
        for name in nodes - self._nodes.keys():
            self._meet(name)
        if not self._pending.isdisjoint(nodes):
            records = self._fresh(records)
            flows = [record for record in records if record.__class__ is Flow]
        self._count(flows)
        duplicates = 0 if records is received else len(received) - sum(1 for record in records if not _is_gap(record))
        return Batch(records, None, {Skip.DUPLICATE: duplicates} if duplicates else {}, self.positions)

    def positions(self) -> list[Position]:
        """What was read since this was called last."""
        untold = [name for name, node in self._nodes.items() if node.count > node.told]
        told, self._ended = [*self._ended, *self._told(untold)], []
        return [*told, *self._losses.positions()]

    def _told(self, names: Sequence[str]) -> list[Position]:
        positions, uuids = [], self._tails(names)
        for name in names:
            node = self._nodes[name]
            positions.append(Position(_stream(name), node.told, node.count, _written(node, uuids.get(name, []))))
            node.told = node.count
        return positions

    def _fresh(self, records: Sequence[Record]) -> list[Record]:
        fresh: list[Record] = []
        for record in records:
            if isinstance(record, Flow) and record.node in self._pending:
                node = self._nodes[record.node]
                before = node.before
                if before is not None:
                    if before.knows(record):
                        continue
                    fresh.extend(self._go_on(record, node, before))
            fresh.append(record)
        return fresh

    def _go_on(self, flow: Flow, node: _Node, before: _Before) -> list[Record]:
        """A new flow of a node: unless it goes on where reading ended, it starts a run; and was anything missed between?"""
        gap: list[Record] = []
        if not before.continued:
            before.continued = True
            if node.count > node.told:
                self._ended += self._told([flow.node])
            node.earlier = list(before.ranges)
            node.low = node.high = flow.time
            node.inherited = ()
            if flow.time > before.last:
                gap.append(NodeStatus((flow.node,), flow.time, OUT_OF_SIGHT))
        if flow.time > before.last + _MARGIN:
            node.before = None
            self._pending.discard(flow.node)
        return gap

    def _count(self, flows: Sequence[Flow]) -> None:
        if not flows:
            return
        now, times = self._clock(), dict[str, list[int]]()
        for when, name in map(_TIME_AND_NODE, flows):
            times.setdefault(name, []).append(when)
        for name, found in times.items():
            node = self._nodes[name]
            node.low = min(node.low, *found) if node.count else min(found)
            node.high = max(node.high, *found)
            node.count += len(found)
            node.last, node.heard = found[-1], now
        self._recent.append(flows)
        self._remembered += len(flows)
        while self._remembered - len(self._recent[0]) >= _MEMORY:
            self._remembered -= len(self._recent.popleft())

    def _meet(self, name: str) -> None:
        node = self._nodes[name] = _Node()
        positions = self._history(_stream(name))
        if not positions:
            return
        node.count = node.told = positions[-1].end
        runs = sorted((_read(position.digest) for position in positions), key=lambda run: run.high)
        node.earlier, latest = [(run.low, run.high) for run in runs[:-1]], runs[-1]
        node.low, node.high, node.last = latest.low, latest.high, latest.last
        node.inherited, node.floor = latest.tail, latest.floor
        ranges = [*node.earlier, (node.low, node.high)]
        node.before = _Before(ranges, node.last, hashes=frozenset(latest.tail), floor=latest.floor)
        self._pending.add(name)

    def _statuses(self, records: Iterable[Record]) -> None:
        """A node that Relay lost and found may be sent again within the same stream, or not: then nothing may count as known
        but what is remembered."""
        names = {name for record in records if isinstance(record, NodeStatus) for name in record.nodes}
        self._losses.interrupted(names)
        found = {name for name in names & self._nodes.keys() if name not in self._pending}
        if found:
            uuids = self._uuids()
            for name in found:
                self._expect(name, self._nodes[name], uuids.get(name, []), anchored=True)

    def _expect(self, name: str, node: _Node, recent: Sequence[tuple[int, str]], *, anchored: bool) -> None:
        floor = min((when for when, _ in recent), default=node.last)
        node.before = _Before(
            [*node.earlier, (node.low, node.high)],
            node.last,
            uuids=frozenset(uuid for _, uuid in recent),
            hashes=frozenset(node.inherited),
            floor=min(floor, node.floor) if node.inherited else floor,
            anchored=anchored,
            continued=anchored,
        )
        self._pending.add(name)

    def _tails(self, names: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
        """The latest flows of some nodes, as many as a position names, oldest first."""
        found: dict[str, list[tuple[int, str]]] = {name: [] for name in names}
        missing = len(names)
        for flows in reversed(self._recent):
            for flow in reversed(flows):
                tail = found.get(flow.node)
                if tail is not None and flow.uuid and len(tail) < _TAIL:
                    tail.append((flow.time, flow.uuid))
                    missing -= len(tail) == _TAIL
            if not missing:
                break
        return {name: tail[::-1] for name, tail in found.items()}

    def _uuids(self) -> dict[str, list[tuple[int, str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for flows in self._recent:
            for flow in flows:
                if flow.uuid:
                    found.setdefault(flow.node, []).append((flow.time, flow.uuid))
        return found


class _Run(NamedTuple):
    """An uninterrupted run, as a position's digest tells it: first, highest and latest time, the earliest time among the latest
    flows, and hashes of their uuids."""

    low: int
    high: int
    last: int
    floor: int
    tail: tuple[str, ...]


def _is_gap(record: Record) -> bool:
    return isinstance(record, NodeStatus) and record.state == OUT_OF_SIGHT


def _stream(node: str) -> str:
    """A node's stream. Databases refuse some texts, and names come from outside; with a space none is taken for losses."""
    return f"{LIVE}{node if node.isprintable() and ' ' not in node and len(node) <= _LONGEST else _hash(node)}"


def _losses_of(node: str) -> str:
    """The stream of a node's losses."""
    return f"{LIVE}losses {_stream(node).removeprefix(LIVE)}"


def _hash(uuid: str) -> str:
    return blake2b(uuid.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _written(node: _Node, recent: Sequence[tuple[int, str]]) -> str:
    tail = [_hash(uuid) for _, uuid in recent]
    floor = min((when for when, _ in recent), default=node.last)
    if len(tail) < _TAIL and node.inherited:
        tail = [*node.inherited[len(tail) - _TAIL :], *tail]
        floor = min(floor, node.floor)
    return f"{node.low}/{node.high}/{node.last}/{floor}/{','.join(tail)}"


def _read(digest: str) -> _Run:
    low, high, last, floor, tail = digest.split("/")
    return _Run(int(low), int(high), int(last), int(floor), tuple(filter(None, tail.split(","))))
