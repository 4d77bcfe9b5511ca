"""DropKey, Drops: what was dropped between two ends for one reason, with its counts, times and talkers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from analyzer.drops.reasons import AUDIT, L7_DENIED, DropClass, Reason, Weight, reason
from analyzer.model.edge import Endpoint, Side
from analyzer.model.flow import PolicyRef, Workload
from analyzer.model.identity import Entity, entities
from analyzer.model.l4 import L4, Protocol

__all__ = ["MAX_MINUTES", "MINUTE", "DropKey", "Drops", "Few", "Talkers"]

MINUTE = 60_000_000_000
MAX_MINUTES = 120
"""Minutes whose counts are kept per drop: the latest."""


class DropKey(NamedTuple):
    """One line of the list: `source` is the client of the *connection*, `side` the end that dropped.

    `reason` is Hubble's number, 0 for the L7 proxy and for AUDIT. `request` is ``GET /path`` or a DNS name, for the proxy only.
    `reply` tells that the packet ran from server to client. `rest` stands for what else there was between the same ends, when
    addresses, ports or requests became too many to tell apart; its `source`, `destination`, `l4` and `request` are then examples.
    """

    cluster: str
    source: Endpoint
    destination: Endpoint
    l4: L4
    side: Side
    reason: int
    audit: bool = False
    l7: bool = False
    request: str = ""
    reply: bool = False
    directed: bool = True
    rest: bool = False

    @property
    def row(self) -> Reason:
        """What the reason means."""
        if self.audit:
            return AUDIT
        return L7_DENIED if self.l7 else reason(self.reason)

    @property
    def kind(self) -> DropClass:
        """The class of the drop. A pod that is still being set up has no identity yet: that passes, whatever the number says."""
        found = self.row.kind
        starting = any(Entity.INIT in entities(end.labels) for end in (self.source, self.destination))
        return DropClass.TRANSIENT if starting and found is DropClass.DEFAULT_DENY else found

    @property
    def weight(self) -> Weight:
        """Who has to act. A pod that sends from an address that is not its own harms nobody only if that is a link-local one."""
        harmless = self.row.harmless and (self.reason != _INVALID_SOURCE_IP or self._link_local)
        return Weight.PASSING if harmless else self.kind.weight

    @property
    def _link_local(self) -> bool:
        return self.l4.protocol is Protocol.ICMPV6 or self.source.address.startswith("fe80:")


_INVALID_SOURCE_IP = 132


class Talkers:
    """The most frequent of any number of names, in the room of `limit` (the space-saving algorithm).

    Exact while there are no more than `limit`; then a name's count is an upper bound, and every name with a share above 1/limit
    is in it.
    """

    __slots__ = ("counts", "limit", "overflow")

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self.counts: dict[str, int] = {}
        self.overflow = False

    def add(self, name: str, weight: int = 1) -> None:
        counts = self.counts
        if name in counts:
            counts[name] += weight
        elif len(counts) < self.limit:
            counts[name] = weight
        else:
            self.overflow = True
            least = min(counts.items(), key=lambda item: (item[1], item[0]))
            del counts[least[0]]
            counts[name] = least[1] + weight

    def top(self, number: int) -> tuple[tuple[str, int], ...]:
        """The most frequent, with their counts."""
        return tuple(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:number])


class Few:
    """The first `limit` different values, in the order they came; `more` tells that there were others."""

    __slots__ = ("limit", "more", "values")

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.values: dict[str, None] = {}
        self.more = False

    def add(self, value: str) -> None:
        if not value or value in self.values:
            return
        if len(self.values) >= self.limit:
            self.more = True
        else:
            self.values[value] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)


@dataclass(slots=True)
class Drops:
    """What is known about one `DropKey`. Times are ns since the epoch.

    `drops` counts connections: a policy verdict, the drop itself and all retransmissions of one connection are one. `events` are
    the records. `opening` are the records of packets that open a connection, as far as that shows (TCP). `exact` is False where
    connections cannot be told apart (from a store, or from aggregated records): then `drops` equals `events`, an upper bound.
    `stale` are the records in which one side has a pod's name but the identity of the world. `denied_by` are the policies that the
    cluster named. `host` is the HTTP host of the first request.
    """

    key: DropKey
    drops: int = 0
    events: int = 0
    first: int = 0
    last: int = 0
    opening: int = 0
    stale: int = 0
    exact: bool = True
    minutes: OrderedDict[int, int] = field(default_factory=OrderedDict)
    clients: Talkers = field(default_factory=Talkers)
    servers: Talkers = field(default_factory=Talkers)
    client_ips: Few = field(default_factory=Few)
    server_ips: Few = field(default_factory=Few)
    ports: Few = field(default_factory=Few)
    names: Few = field(default_factory=Few)
    services: Few = field(default_factory=Few)
    translated: Few = field(default_factory=Few)
    nodes: Few = field(default_factory=Few)
    samples: Few = field(default_factory=lambda: Few(4))
    denied_by: dict[PolicyRef, None] = field(default_factory=dict)
    host: str = ""
    source_workloads: tuple[Workload, ...] = ()
    destination_workloads: tuple[Workload, ...] = ()

    def seen(self, time: int, drops: int, events: int) -> None:
        """Count."""
        self.first = min(self.first, time) if self.events else time
        self.last = max(self.last, time)
        self.drops += drops
        self.events += events
        if not drops:
            return
        minute = time // MINUTE
        minutes = self.minutes
        minutes[minute] = minutes.get(minute, 0) + drops
        if len(minutes) > MAX_MINUTES:
            del minutes[min(minutes)]

    @property
    def kind(self) -> DropClass:
        return self.key.kind

    @property
    def subject(self) -> Endpoint:
        """The end whose side dropped it."""
        return self.key.source if self.key.side is Side.SOURCE else self.key.destination

    @property
    def peer(self) -> Endpoint:
        return self.key.destination if self.key.side is Side.SOURCE else self.key.source
