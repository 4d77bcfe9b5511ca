"""DropWindow: a stream of flows to drops, in bounded memory; verdict, drop event and retransmissions of a connection are one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from analyzer.connection import endpoint_of, observing_cluster, server_l4, side, way
from analyzer.drops.drop import DropKey, Drops
from analyzer.drops.reasons import DropClass
from analyzer.model.edge import Endpoint
from analyzer.model.flow import Detail, DropReason, EventKind, Flow, FlowEndpoint, TcpFlags, Verdict
from analyzer.model.identity import is_outside
from analyzer.model.l4 import L4, Protocol

if TYPE_CHECKING:
    from analyzer.sources.base import Record

__all__ = ["RETRANSMISSION", "DropWindow"]

RETRANSMISSION = 130 * 1_000_000_000
"""Longest silence between two packets of one attempt: Linux waits up to 120 s between retransmissions (TCP_RTO_MAX), and 64 s
between the SYNs of tcp_syn_retries = 6. What comes later with the same ports is another attempt."""
MAX_CONNECTIONS = 65_536
MAX_GROUPS = 4_096
MAX_PLACES = 32
"""Addresses, ports and requests told apart between two ends, before the rest is counted together."""
MAX_ANSWERS, MAX_NAMES = 16_384, 8
MAX_TEXT = 256
_NO_L4 = L4(Protocol.ANY)


class DropWindow:
    """Takes flows, oldest first as they come, and keeps what was dropped.

    `left_over` counts the events by class that found no room among `MAX_GROUPS`; `crowded` tells that connections were forgotten
    before their time, so that retransmissions may count as drops of their own. `verdicts` counts policy verdicts by number.
    `answers` are the names of addresses with the time of the first DNS answer seen; `asking` the pods whose lookups were visible.
    """

    def __init__(self) -> None:
        self.left_over: Counter[DropClass] = Counter()
        self.verdicts: Counter[int] = Counter()
        self.answers: OrderedDict[str, dict[str, int]] = OrderedDict()
        self.asking: dict[Endpoint, int] = {}
        self.crowded = False
        self.events = 0
        self._groups: dict[DropKey, Drops] = {}
        self._places: dict[DropKey, int] = {}
        self._rests: dict[DropKey, DropKey] = {}
        self._connections: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._ends: dict[int, tuple[FlowEndpoint, str, Endpoint]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Take in records of all kinds; only drops, AUDIT verdicts and DNS answers leave a trace."""
        for record in records:
            if record.__class__ is not Flow:
                continue
            verdict, kind = record.form.verdict, record.form.kind
            if kind == EventKind.POLICY_VERDICT:
                self.verdicts[verdict] += 1
            elif kind == EventKind.L7:
                self._lookup(record)
            if verdict in (Verdict.DROPPED, Verdict.AUDIT):
                self._drop(record)

    def drops(self) -> tuple[Drops, ...]:
        """All that was dropped, the most first."""
        return tuple(sorted(self._groups.values(), key=lambda each: (-each.drops, each.key)))

    def _drop(self, flow: Flow) -> None:
        self.events += flow.weight
        if flow.verdict == Verdict.DROPPED and _is_answer(flow):
            # The refusal that the proxy sends itself: the request that it refused is the drop.
            return
        told = way(flow).reply
        reply = bool(told)
        key = self._key(flow, reply, told is not None or flow.protocol is None or not flow.protocol.has_ports)
        found = self._group(key)
        if found is None:
            self.left_over[key.kind] += flow.weight
            return
        new = 1 if self._is_new(flow, found.key, reply) else 0
        # Of records that stand for many events, nobody knows how many connections they were.
        found.seen(flow.time, flow.weight if flow.aggregated else new, flow.weight)
        found.exact = found.exact and not flow.aggregated
        _note(found, flow, reply, new)

    def _key(self, flow: Flow, reply: bool, directed: bool) -> DropKey:
        source = self._end(flow.source, flow.source_ip)
        destination = self._end(flow.destination, flow.destination_ip)
        if reply:
            source, destination = destination, source
        l4 = server_l4(flow, reply) if flow.protocol is not None else _NO_L4
        proxy, audit = flow.kind == EventKind.L7, flow.verdict == Verdict.AUDIT
        number = flow.drop_reason
        if flow.kind == EventKind.POLICY_VERDICT and not number:
            # A denied verdict whose reason was masked away is still a denial.
            number = DropReason.POLICY_DENY if _denied_by(flow) else DropReason.POLICY_DENIED
        return DropKey(
            observing_cluster(flow.node), source, destination, l4, side(flow, reply), 0 if proxy or audit else int(number),
            audit, proxy, _request(flow) if proxy else "", reply, directed,
        )  # fmt: skip

    def _end(self, end: FlowEndpoint, address: str) -> Endpoint:
        known = self._ends.get(id(end))
        if known is not None and known[0] is end and known[1] == address:
            return known[2]
        found = endpoint_of(end, address)
        if len(self._ends) >= MAX_ANSWERS:
            self._ends.clear()
        self._ends[id(end)] = end, address, found
        return found

    def _group(self, key: DropKey) -> Drops | None:
        """The drops of `key`, made if there is room; with the rest of its crowd where that is too big."""
        found = self._groups.get(key)
        if found is not None:
            return found
        crowd = key._replace(
            source=key.source._replace(address=""), destination=key.destination._replace(address=""),
            l4=L4(key.l4.protocol), request="",
        )  # fmt: skip
        if self._places.get(crowd, 0) >= MAX_PLACES:
            key = self._rests.setdefault(crowd, key._replace(rest=True))
            found = self._groups.get(key)
            if found is not None:
                return found
        if len(self._groups) >= MAX_GROUPS:
            return None
        self._places[crowd] = self._places.get(crowd, 0) + 1
        found = self._groups[key] = Drops(key)
        return found

    def _is_new(self, flow: Flow, key: DropKey, reply: bool) -> bool:
        """Whether this is the first packet of its attempt."""
        connections = self._connections
        here, there = (flow.source_ip, flow.source_port), (flow.destination_ip, flow.destination_port)
        connection = (id(self._groups[key]), *((there, here) if reply else (here, there)), _request(flow))
        before = connections.get(connection)
        connections[connection] = flow.time
        if before is not None:
            connections.move_to_end(connection)
            return flow.time - before > RETRANSMISSION
        if len(connections) > MAX_CONNECTIONS:
            _, last = connections.popitem(last=False)
            self.crowded = self.crowded or flow.time - last < RETRANSMISSION
        return True

    def _lookup(self, flow: Flow) -> None:
        detail = flow.detail
        if detail is None or detail.dns is None or flow.verdict == Verdict.DROPPED:
            return
        reply = bool(way(flow).reply)
        client = self._end(*((flow.destination, flow.destination_ip) if reply else (flow.source, flow.source_ip)))
        if client in self.asking or len(self.asking) < MAX_ANSWERS:
            self.asking.setdefault(client, flow.time)
        for address in detail.dns.ips:
            names = self.answers.setdefault(address, {})
            if len(names) < MAX_NAMES:
                names.setdefault(detail.dns.query[:MAX_TEXT], flow.time)
            if len(self.answers) > MAX_ANSWERS:
                self.answers.popitem(last=False)


def _note(found: Drops, flow: Flow, reply: bool, new: int) -> None:
    """What the flow adds to what is known, besides counts."""
    client, server = (flow.destination, flow.source) if reply else (flow.source, flow.destination)
    client_ip, server_ip = (flow.destination_ip, flow.source_ip) if reply else (flow.source_ip, flow.destination_ip)
    if flow.protocol is not Protocol.TCP or flow.tcp_flags & (TcpFlags.SYN | TcpFlags.ACK) == TcpFlags.SYN:
        found.opening += flow.weight
    if new:
        found.clients.add(_talker(client, client_ip))
        found.servers.add(_talker(server, server_ip))
    found.client_ips.add(client_ip)
    found.server_ips.add(server_ip)
    found.nodes.add(flow.node)
    found.samples.add(flow.uuid)
    found.stale += flow.weight * any(end.pod and is_outside(end.labels) for end in (client, server))
    if found.key.rest and flow.protocol is not None:
        found.ports.add(str(server_l4(flow, reply)))
    if client.workloads and not found.source_workloads:
        found.source_workloads = client.workloads
    if server.workloads and not found.destination_workloads:
        found.destination_workloads = server.workloads
    detail = flow.detail
    if detail is not None:
        _note_detail(found, detail)


def _note_detail(found: Drops, detail: Detail) -> None:
    if detail.http is not None and not found.host:
        found.host = detail.http.host[:MAX_TEXT]
    for name in (*detail.source_names, *detail.destination_names):
        found.names.add(name[:MAX_TEXT])
    found.services.add(detail.destination_service)
    found.translated.add(detail.source_xlated)
    for ref in (*detail.egress_denied_by, *detail.ingress_denied_by):
        if len(found.denied_by) < MAX_NAMES:
            found.denied_by.setdefault(ref)


def _denied_by(flow: Flow) -> bool:
    detail = flow.detail
    return detail is not None and bool(detail.egress_denied_by or detail.ingress_denied_by)


def _talker(end: FlowEndpoint, address: str) -> str:
    if end.pod:
        return f"{end.namespace}/{end.pod}"
    named = sorted(end.labels.reserved())
    return f"{','.join(named)} {address}" if named and named != ["world"] else address or "unknown"


def _request(flow: Flow) -> str:
    """What was asked of the proxy, in few words."""
    detail = flow.detail
    if detail is None:
        return ""
    if detail.http is not None:
        return f"{detail.http.method} {detail.http.path}"[:MAX_TEXT]
    return detail.dns.query[:MAX_TEXT] if detail.dns is not None else ""


def _is_answer(flow: Flow) -> bool:
    detail = flow.detail
    if flow.kind != EventKind.L7 or detail is None:
        return False
    return detail.http is not None and bool(detail.http.code)
