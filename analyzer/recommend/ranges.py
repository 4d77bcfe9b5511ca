"""The pass that finds port ranges among the ports of one peer, and the judgement of what is evidence for one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from analyzer.connection import EPHEMERAL
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.recommend.draft import (
    L7,
    CidrPeer,
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    Note,
    Peer,
    Purpose,
    Reason,
    Span,
    SubjectKey,
    Topic,
)

__all__ = ["dense", "near", "ranges"]

Place = tuple[SubjectKey, Direction, Peer]
_Ends = tuple[Endpoint, Endpoint, Protocol]

PRIVILEGED = 1024
"""Ports below are services of their own."""
SERVICES = frozenset(
    {
        1433, 1521, 1883, 2049, 2181, 2379, 2380, 3000, 3306, 3389, 4317, 4318, 4369, 5000, 5060, 5061, 5353, 5432, 5601, 5671,
        5672, 6379, 6443, 8000, 8008, 8080, 8081, 8086, 8088, 8443, 8500, 8888, 9000, 9042, 9090, 9092, 9093, 9100, 9200, 9300,
        10250, 11211, 15672, 26379, 27017,
    }
)  # fmt: skip
"""Ports that one service usually has to itself: they say nothing of the ports beside them."""
HEAVY = 20
"""A port with more than so many times the events of the usual one is a service of its own."""
GAP = 16
"""Announced ports that lie further apart than so many times the usual distance are no neighbours."""

NAMED = 3
"""Ranges of one peer that a note names."""


class _Announcer(NamedTuple):
    """A service that tells its clients which other port of the same host to connect to."""

    name: str
    protocols: frozenset[Protocol]


_TCP, _UDP = frozenset({Protocol.TCP}), frozenset({Protocol.UDP})
_FTP, _PORTMAPPER, _SIP = _Announcer("FTP", _TCP), _Announcer("the portmapper", _TCP | _UDP), _Announcer("SIP", _UDP)
ANNOUNCERS: Mapping[L4, _Announcer] = {
    L4(Protocol.TCP, 21): _FTP,
    L4(Protocol.TCP, 990): _FTP,
    L4(Protocol.TCP, 111): _PORTMAPPER,
    L4(Protocol.UDP, 111): _PORTMAPPER,
    L4(Protocol.TCP, 135): _Announcer("the RPC endpoint mapper", _TCP),
    L4(Protocol.TCP, 554): _Announcer("RTSP", _UDP),
    L4(Protocol.TCP, 4369): _Announcer("Erlang's port mapper", _TCP),
    L4(Protocol.UDP, 5060): _SIP,
    L4(Protocol.TCP, 5060): _SIP,
    L4(Protocol.SCTP, 5060): _SIP,
    L4(Protocol.TCP, 5061): _SIP,
}

_WORLD = EntityPeer(Entity.WORLD)
_OUTSIDE = Endpoint(Labels.of([]))
_BEYOND = 65536

_SIDE_BY_SIDE = "at least every second port of it was seen"
_GUESSED = "which side is the client was only guessed, from these numbers"
_BOTH_WAYS = "the other side opens connections too, so that these may be its clients' own ports"
_SPARSE = "they lie too far apart, and no service that hands ports out was seen beside them"


def ranges(draft: Draft) -> Draft:
    """Find, per workload, direction, peer and protocol, ranges of at least as many ports as the option says.

    Ports of a server whose service that hands them out (`ANNOUNCERS`) was used too are a range from the lowest to the highest
    one seen. Other ports are one where at least half of them were seen. What proves nothing takes no part: privileged ports and
    those of `SERVICES`, ports with far more events than the rest, without an answer, or known by a guess only; and, without an
    announcement, ephemeral ports between peers that connect both ways. A range never holds a port that has a rule on layer 7,
    since a plain rule on the same port would undo that.

    The outside clients of a workload are judged together: each call of a media server has its own client. Where one of them is the
    entity world, the range is for the world, as a port would be.
    """
    if not draft.options.range_ports:
        return draft
    least = max(2, draft.options.range_ports)
    cuts, both_ways = _cuts(draft), _BothWays(draft)
    groups = _groups(draft)
    announcers = _announcers(draft)
    found: dict[Place, list[Span]] = defaultdict(list)
    notes: list[Note] = []
    for (place, protocol), ports in groups.items():
        if len(ports) < least:
            continue
        group = _Group(ports, protocol, announcers[place], cuts[place[:2]], both_ways)
        spans = group.spans(least)
        found[place].extend(spans)
        notes.extend(group.notes(place, spans, least))
    for spans in found.values():
        spans.sort()
    public = {
        (claim.subject, claim.direction, span)
        for claim in draft.claims
        if claim.peer == _WORLD and (span := _holding(found, claim))
    }
    claims: list[Claim] = []
    kept: dict[Place, tuple[Span, ...]] = {}
    for claim in draft.claims:
        world = claim._replace(peer=_WORLD, fallback=None)
        if isinstance(claim.peer, CidrPeer | NamePeer) and (*claim[:2], _holding(found, world)) in public:
            claim = world
        claims.append(claim)
        if spans := found.get(_place(claim), []):
            kept[claim.subject, claim.direction, claim.peer] = tuple(spans)
    return replace(draft, claims=tuple(claims), ranges=kept, notes=(*draft.notes, *notes))


def _holding(found: Mapping[Place, Sequence[Span]], claim: Claim) -> Span | None:
    """The range, of those found for the claim's peer, that its port lies in."""
    spans = found.get(_place(claim), ()) if claim.purpose is Purpose.TRAFFIC else ()
    at = bisect_right(spans, (claim.l4.protocol, claim.l4.port, _BEYOND))
    return spans[at - 1] if at and spans[at - 1].holds(claim.l4) else None


def _groups(draft: Draft) -> dict[tuple[Place, Protocol], dict[int, list[Edge]]]:
    groups: dict[tuple[Place, Protocol], dict[int, list[Edge]]] = defaultdict(lambda: defaultdict(list))
    for claim in draft.claims:
        if claim.purpose is Purpose.TRAFFIC and claim.l4.protocol.has_ports:
            groups[_place(claim), claim.l4.protocol][claim.l4.port].extend(claim.edges)
    return groups


def _place(claim: Claim) -> Place:
    outside = claim.direction is Direction.INGRESS and isinstance(claim.peer, CidrPeer)
    return claim.subject, claim.direction, _WORLD if outside else claim.peer


def _announcers(draft: Draft) -> dict[Place, dict[L4, set[Endpoint]]]:
    """The services that hand ports out, with the servers they were used at."""
    found: dict[Place, dict[L4, set[Endpoint]]] = defaultdict(lambda: defaultdict(set))
    for claim in (*draft.claims, *draft.covered):
        if claim.l4 in ANNOUNCERS:
            servers = {edge.destination for edge in claim.edges if _is_sure(edge)}
            if servers:
                found[_place(claim)][claim.l4] |= servers
    return found


def _cuts(draft: Draft) -> dict[tuple[SubjectKey, Direction], set[L4]]:
    """The ports that have rules on layer 7, or may get them, per workload and direction."""
    found: dict[tuple[SubjectKey, Direction], set[L4]] = defaultdict(set)
    for claim in draft.claims:
        if claim.purpose is not Purpose.TRAFFIC or (
            any(edge.stats.http for edge in claim.edges)
            and L7.HTTP in draft.options.settings(claim.subject.namespace).l7
        ):
            found[claim.subject, claim.direction].add(claim.l4)
    return found


def _is_sure(edge: Edge) -> bool:
    """Whether the record itself says who serves this port, and that somebody does."""
    return bool(edge.stats.answered) and not edge.stats.guessed and not edge.stats.uncertain


class _BothWays:
    """Tells between whom connections, or what may be some, run the other way too. It looks only when it is asked."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._ends: set[_Ends] | None = None

    def __contains__(self, edge: object) -> bool:
        assert isinstance(edge, Edge)
        if self._ends is None:
            self._ends = set(self._found())
        source, destination, protocol = _ends(edge)
        return (destination, source, protocol) in self._ends

    def _found(self) -> Iterator[_Ends]:
        yield from map(_ends, self._draft.edges)
        for refusal in self._draft.refused:
            if refusal.reason is Reason.UNDIRECTED:
                source, destination, protocol = _ends(refusal.edge)
                yield source, destination, protocol
                yield destination, source, protocol


def _ends(edge: Edge) -> _Ends:
    """Client, server and protocol. All that is outside is one: its addresses may be truncated in one direction only."""
    source, destination = (_OUTSIDE if end.address else end for end in (edge.source, edge.destination))
    return source, destination, edge.l4.protocol


class _Group:
    """The ports of one protocol that a workload and its peer use in one direction, with the edges of each."""

    def __init__(
        self,
        ports: Mapping[int, Sequence[Edge]],
        protocol: Protocol,
        announcers: Mapping[L4, set[Endpoint]],
        cuts: Iterable[L4],
        both_ways: _BothWays,
    ) -> None:
        self._ports, self._protocol = ports, protocol
        self._sorted = sorted(ports)
        self._announcers = sorted(l4 for l4 in announcers if protocol in ANNOUNCERS[l4].protocols)
        self._cuts = sorted(l4.port for l4 in cuts if l4.protocol is protocol)
        light = _light({port: edges for port, edges in ports.items() if port >= PRIVILEGED and port not in SERVICES})
        sure = {port: [edge for edge in ports[port] if _is_sure(edge)] for port in light}
        self._guessed = {port for port, edges in sure.items() if not edges}
        servers = set[Endpoint]().union(*(announcers[l4] for l4 in self._announcers))
        self._announced = {port for port, edges in sure.items() if any(edge.destination in servers for edge in edges)}
        self._doubtful = {
            port
            for port in light - self._guessed - self._announced
            if port >= EPHEMERAL and all(edge in both_ways for edge in sure[port])
        }
        self._others = light - self._guessed - self._announced - self._doubtful

    def spans(self, least: int) -> list[Span]:
        """The ranges, from the lowest to the highest port that was seen of each."""
        announced = [self._span(run) for part in _parts(self._announced, self._cuts) for run in near(part, least)]
        others = self._others.difference(*map(self._seen, announced))
        parts = _parts(others, [*self._cuts, *(span.port for span in announced)])
        return [*announced, *(self._span(run) for part in parts for run in dense(part, least))]

    def _span(self, run: Sequence[int]) -> Span:
        return Span(self._protocol, run[0], run[-1])

    def _seen(self, span: Span) -> Sequence[int]:
        return self._sorted[bisect_left(self._sorted, span.port) : bisect_right(self._sorted, span.last)]

    def notes(self, place: Place, spans: Sequence[Span], least: int) -> Iterator[Note]:
        """What the ranges stand for, and why so many ephemeral ports are none."""
        subject, direction, peer = place
        ends = f"{direction.name.lower()} {'from' if direction is Direction.INGRESS else 'to'} {_called(peer)}"
        listed = ", ".join(f"{ANNOUNCERS[l4].name} ({l4})" for l4 in self._announcers)
        reasons = {True: f"{listed} at the same server hands such ports out", False: _SIDE_BY_SIDE}
        for announced, why in reasons.items():
            own = [span for span in spans if (span.port in self._announced) is announced]
            if own:
                yield Note(Topic.RANGE, str(subject), f"{ends}: {self._stands_for(own)}; {why}")
        left = {port for port in self._ports if port >= EPHEMERAL}.difference(*map(self._seen, spans))
        if len(left) >= least:
            because = next(
                (text for ports, text in ((self._guessed, _GUESSED), (self._doubtful, _BOTH_WAYS)) if ports & left),
                _SPARSE,
            )
            told = f"{len(left)} ports between {min(left)} and {max(left)}/{self._protocol} are listed one by one"
            yield Note(Topic.RANGE, str(subject), f"{ends}: {told}, not as a range: {because}")

    def _stands_for(self, spans: Sequence[Span]) -> str:
        seen = sum(len(self._seen(span)) for span in spans)
        unseen = sum(span.last - span.port + 1 for span in spans) - seen
        more = f" and {len(spans) - NAMED} more" if len(spans) > NAMED else ""
        verb = "stands" if len(spans) == 1 else "stand"
        listed = ", ".join(map(str, spans[:NAMED]))
        return f"{listed}{more} {verb} for {seen} ports that were seen, and {unseen} that were not"


def _light(ports: Mapping[int, Sequence[Edge]]) -> set[int]:
    """The ports without those that have far more events than the usual one."""
    if not ports:
        return set()
    weights = {port: sum(edge.weight for edge in edges) for port, edges in ports.items()}
    most = HEAVY * max(1, median_low(weights.values()))
    return {port for port, weight in weights.items() if weight <= most}


def _called(peer: Peer) -> str:
    match peer:
        case EndpointPeer(subject=subject):
            return str(subject) if subject.name else subject.namespace
        case EntityPeer(entity=entity):
            return "outside" if peer == _WORLD else entity.value
        case NamePeer(name=name):
            return name
        case CidrPeer(cidr=cidr):
            return cidr


def _parts(ports: Iterable[int], cuts: Iterable[int]) -> Iterator[Sequence[int]]:
    """The ports, sorted and parted where a cut lies on or between them. What is cut is in no part."""
    parts: list[list[int]] = [[]]
    parting = frozenset(cuts)
    for port in sorted(parting.union(ports)):
        if port in parting:
            parts.append([])
        else:
            parts[-1].append(port)
    return iter(parts)


def near(ports: Sequence[int], least: int) -> Iterator[Sequence[int]]:
    """Runs of at least `least` of the sorted `ports`, parted where two lie much further apart than they usually do."""
    if len(ports) < max(2, least):
        return
    limit = GAP * median_low(b - a for a, b in pairwise(ports))
    yield from (run for run in _split(ports, limit) if len(run) >= least)


def dense(ports: Sequence[int], least: int) -> Iterator[Sequence[int]]:
    """Runs of at least `least` of the sorted `ports` that hold no more other ports than these; the widest gaps part them."""
    if len(ports) < max(2, least):
        return
    if ports[-1] - ports[0] + 1 <= 2 * len(ports):
        yield ports
        return
    widest = max(b - a for a, b in pairwise(ports))
    for run in _split(ports, widest - 1):
        yield from dense(run, least)


def _split(ports: Sequence[int], limit: int) -> Iterator[Sequence[int]]:
    """Parts of the sorted `ports`, none of which has a gap wider than `limit`."""
    start = 0
    for at, (a, b) in enumerate(pairwise(ports), start=1):
        if b - a > limit:
            yield ports[start:at]
            start = at
    yield ports[start:]
