"""What people are told while flows are read: sums over edge tables that are handed over one after the other."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice

from analyzer.model.edge import Coverage, EdgeKey, EdgeStats, EdgeTable
from analyzer.model.flow import Verdict, Workload
from analyzer.model.workload import title
from analyzer.report.model import visible

__all__ = ["Known", "Tally", "place"]

MINUTES = 60
"""How far back the number of new connections is told, minute by minute."""
_PASS = 2.0
"""Seconds between looks at every edge."""
_NAMED = 10_000
"""Services and failed connections kept apart."""


class Known:
    """Counts different connections: edges, those to and from outside whatever their address. `total` is how many there were,
    in memory of some bytes for each."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._table: EdgeTable | None = None
        self._seen = 0

    @property
    def total(self) -> int:
        return len(self._hashes)

    def add(self, table: EdgeTable) -> int:
        """Look at the edges of a table that were not looked at yet: it keeps them in the order they came."""
        if table is not self._table or len(table.edges) < self._seen:
            self._table, self._seen = table, 0
        before = len(self._hashes)
        self._hashes.update(hash(_without_address(key)) for key in islice(table.edges, self._seen, None))
        self._seen = len(table.edges)
        return len(self._hashes) - before


def _without_address(key: EdgeKey) -> EdgeKey:
    if not (key.source.address or key.destination.address):
        return key
    source, destination = key.source._replace(address=""), key.destination._replace(address="")
    return key._replace(source=source, destination=destination)


class Tally:
    """Sums of everything read so far. `rate` is records per second; `new` are new connections per minute, the latest last."""

    def __init__(self, now: float) -> None:
        self.coverage = Coverage()
        self.rate = 0.0
        self.rates: deque[float] = deque(maxlen=MINUTES)
        self.new: deque[int] = deque([0], maxlen=MINUTES)
        self._known = Known()
        self._minute = now
        self._last = (now, 0)
        self._table = EdgeTable()
        self._passed = float("-inf")
        self._done, self._current = _Sums(), _Sums()

    @property
    def table(self) -> EdgeTable:
        """The one that is being filled. When another takes its place, `update` has to be called before there is a third."""
        return self._table

    @property
    def connections(self) -> int:
        """Different connections so far."""
        return self._known.total

    @property
    def services(self) -> Counter[str]:
        """Events of which a service was an end."""
        return self._done.services + self._current.services

    @property
    def drops(self) -> Counter[str]:
        """Dropped events by connection."""
        return self._done.drops + self._current.drops

    @property
    def dropped(self) -> int:
        return self._done.dropped + self._current.dropped

    def update(self, coverage: Coverage, table: EdgeTable, now: float, settle: Callable[[], None]) -> None:
        """Take in what was read up to `now`, in seconds. `settle` makes the numbers in `table` exact."""
        if table is not self._table:
            # The one before was handed over meanwhile, and is complete.
            self._done.add(self._table)
            self._current = _Sums()
            self._table, self._passed = table, float("-inf")
        self._count_new(table, now)
        then, before = self._last
        if now > then:
            self.rate = (coverage.records - before) / (now - then)
            self.rates.append(self.rate)
            self._last = (now, coverage.records)
        self.coverage = coverage
        if now - self._passed >= _PASS:
            self._passed = now
            settle()
            self._current = _Sums()
            self._current.add(table)

    def _count_new(self, table: EdgeTable, now: float) -> None:
        while now - self._minute >= 60.0:
            self._minute += 60
            self.new.append(0)
        self.new[-1] += self._known.add(table)


class _Sums:
    """Of some edge tables: events by service, dropped events by connection."""

    def __init__(self) -> None:
        self.services: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.dropped = 0

    def add(self, table: EdgeTable) -> None:
        for key, stats in table.edges.items():
            source, destination = place(key, table)
            weight = stats.weight
            for service in {source, destination}:
                _bounded(self.services, service, weight)
            dropped = _dropped(stats)
            if dropped:
                self.dropped += dropped
                _bounded(self.drops, f"{source} → {destination} {key.l4}", dropped)


def place(key: EdgeKey, table: EdgeTable) -> tuple[str, str]:
    """How people call both ends of an edge: outside addresses are one service each kind."""
    names = []
    for end in (key.source, key.destination):
        workloads = table.workloads.get(end)
        known = tuple(sorted(Workload(*each) for each in workloads.items)) if workloads else ()
        names.append(visible(title(end._replace(address=""), known)))
    return names[0], names[1]


def _dropped(stats: EdgeStats) -> int:
    return sum(cell.weight for key, cell in stats.activity.items() if key.verdict == Verdict.DROPPED)


def _bounded(counter: Counter[str], name: str, weight: int) -> None:
    if name in counter or len(counter) < _NAMED:
        counter[name] += weight
