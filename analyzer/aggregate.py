"""Aggregation: flows into an edge table, one record at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from analyzer.connection import endpoint_of, observing_cluster, server_l4, side, skip_reason, way
from analyzer.model.address import known_address, truncate
from analyzer.model.bounded import BoundedSet
from analyzer.model.edge import (
    DAY,
    HOUR,
    MAX_WORKLOADS,
    Activity,
    ActivityKey,
    EdgeKey,
    EdgeStats,
    EdgeTable,
    Endpoint,
    Group,
)
from analyzer.model.flow import (
    Detail,
    Direction,
    EventKind,
    Flow,
    FlowEndpoint,
    LostEvents,
    NodeStatus,
    Skip,
    TcpFlags,
    Verdict,
)
from analyzer.model.l4 import L4, Protocol

if TYPE_CHECKING:
    from analyzer.sources.base import Batch, Record

__all__ = ["Aggregator", "aggregate"]

TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
L7 = int(EventKind.L7)
SYN, ACK, RST = int(TcpFlags.SYN), int(TcpFlags.ACK), int(TcpFlags.RST)

MAX_SHAPES = 131_072
"""Record shapes remembered at a time; more only costs speed."""
MAX_ENDS = 65_536
"""Pods and other ends remembered at a time, likewise."""
MAX_TEXT = 512
"""Longest HTTP path or DNS name kept as evidence; a longer one marks the evidence as incomplete."""


class _End:
    """A flow's end as met before. It holds on to the flow's endpoint, so that the `id` it is found by stays its own.

    `token` is the same for all ends that make no difference to an edge: the pods of one workload on one side.
    """

    __slots__ = ("conflicting", "endpoint", "reported", "token")

    def __init__(self, reported: FlowEndpoint, endpoint: Endpoint, token: int) -> None:
        self.reported, self.endpoint, self.token = reported, endpoint, token
        self.conflicting = bool(reported.pod and endpoint.address)


class _Shape:
    """What all records with like ends and the same ports, flags, verdict, node and day have in common, worked out once."""

    __slots__ = (
        "answered", "cell_key", "cells", "conflicting", "crowd", "guessed", "key", "level", "node",
        "outside", "pair", "place", "rare", "reply", "resets", "skip",
    )  # fmt: skip

    def __init__(self, node: Activity) -> None:
        self.node = node
        self.skip: Skip | None = None
        self.key: EdgeKey | None = None
        self.cell_key: ActivityKey
        self.reply = self.rare = False
        self.outside = 0
        self.crowd: Group | None = None
        self.level = 0
        self.cells: dict[str, tuple[EdgeStats, Activity]] = {}
        self.place: tuple[EdgeStats, Activity]
        self.answered = self.resets = self.guessed = self.conflicting = 0
        self.pair: tuple[str, str] | None = None


class Aggregator:
    """Turns records into `table`, incrementally. `take` hands the table out and starts an empty one (a spill):
    merging what was handed out gives the same table as never spilling."""

    def __init__(self) -> None:
        self.table = EdgeTable()
        self._shapes: dict[tuple[object, ...], _Shape] = {}
        self._ends: dict[int, _End] = {}
        self._tokens: dict[tuple[object, ...], int] = {}
        self._numbers = count()

    def take(self) -> EdgeTable:
        """Hand out what was collected so far, and go on with an empty table."""
        table, self.table = self.table, EdgeTable()
        self._forget()
        return table

    def _forget(self) -> None:
        self._shapes.clear()
        self._ends.clear()
        self._tokens.clear()

    def add(self, batch: Batch) -> None:
        """Add the records of a batch."""
        self.table.coverage.skipped.update(batch.skipped)
        self.add_records(batch.records)

    def add_records(self, records: Iterable[Record]) -> None:  # noqa: C901, PLR0915 - a call per step costs a third of the speed
        """Add records one by one. This loop is the hot path: everything a shape can know is in the shape."""
        shapes, ends = self._shapes, self._ends
        coverage = self.table.coverage
        edge_records = 0
        for flow in records:
            if flow.__class__ is not Flow:
                self._other(flow)
                continue
            (time, node, source, destination, source_ip, destination_ip, protocol, source_port, destination_port, flags,
             verdict, kind, sub_type, reason, direction, is_reply, trace_reason, uuid, weight, aggregated, detail,
            ) = flow  # fmt: skip
            told: object = is_reply
            if is_reply is None or kind == L7:
                reply, guessed = told = way(flow)
            else:
                reply, guessed = is_reply, False
            if reply is None:
                ports: object = (source_port, destination_port)
            elif reply and (protocol is TCP or protocol is UDP or protocol is SCTP):
                ports = source_port
            else:
                ports = destination_port
            source_end = ends.get(id(source)) or self._end(source)
            destination_end = ends.get(id(destination)) or self._end(destination)
            key = (
                source_end.token, destination_end.token, ports, protocol, flags, verdict, kind, sub_type, reason, direction,
                told, trace_reason, node, time // DAY, detail and detail[2:4], ":" in source_ip,
            )  # fmt: skip
            shape = shapes.get(key)
            if shape is None:
                shape = self._shape(flow, source_end, destination_end, reply, guessed)
                if reply is not None:
                    shapes[key] = shape
            hour = 1 << time // HOUR % 24
            cell = shape.node  # what follows is `Activity.add`, which as a call would take a fifth of all the time
            if not cell.hours:
                cell.first = cell.last = time
            elif time > cell.last:
                cell.last = time
            elif time < cell.first:
                cell.first = time
            cell.weight += 1
            cell.hours |= hour
            if shape.skip is not None:
                self._skip(shape.skip, flow)
                continue
            edge_records += 1
            outside = shape.outside
            if outside:
                address = (source_ip if outside == 1 else destination_ip) or "unknown"
                level = shape.level
                found = shape.cells.get(truncate(address, level) if level else address)
                if found is None or shape.crowd is None or shape.crowd.level != level:
                    found = self._outside(shape, address)
            else:
                found = shape.place
            stats, cell = found
            if not cell.hours:
                cell.first = cell.last = time
            elif time > cell.last:
                cell.last = time
            elif time < cell.first:
                cell.first = time
            cell.weight += weight
            cell.hours |= hour
            if shape.answered:
                stats.answered += weight
            if uuid and uuid < stats.samples.ceiling:
                stats.samples.add(uuid)
            if detail is not None or aggregated or outside or shape.rare:
                self._evidence(shape, stats, flow)
        coverage.edge_records += edge_records

    def _skip(self, skip: Skip, flow: Flow) -> None:
        self.table.coverage.skipped[skip] += 1
        if skip is Skip.SERVICE_ADDRESS and flow.detail and flow.protocol is not None:
            l4 = L4(flow.protocol, flow.destination_port)
            where = (observing_cluster(flow.node), flow.destination_ip, str(l4), flow.detail.destination_service)
            self.table.service_addresses.add(where, flow.weight)

    def _other(self, record: Record) -> None:
        coverage = self.table.coverage
        if isinstance(record, LostEvents):
            coverage.lost[record.node, record.source] += record.lost
            coverage.skipped[Skip.LOST_EVENTS] += 1
        elif isinstance(record, NodeStatus):
            for node in record.nodes:
                coverage.statuses[node, record.state] += 1
            coverage.skipped[Skip.NODE_STATUS] += 1
        elif isinstance(record, Skip):
            coverage.skipped[record] += 1

    def _end(self, reported: FlowEndpoint) -> _End:
        """Meet an end for the first time: find its token, and remember what only its own node knows of it."""
        if len(self._ends) >= MAX_ENDS:
            self._forget()
        endpoint = endpoint_of(reported, "")
        outside = bool(endpoint.address)
        traits = (endpoint, bool(reported.endpoint_id), outside and bool(reported.pod))
        token = self._tokens.get(traits)
        if token is None:
            # Never a number used before: keys of shapes made before a `_forget` must not come back to life.
            token = self._tokens[traits] = next(self._numbers)
        if reported.workloads and not outside:
            seen: BoundedSet[tuple[str, ...]] = BoundedSet(MAX_WORKLOADS)
            for workload in reported.workloads:
                seen.add((workload.kind, workload.name))
            self.table.add_workloads(endpoint, seen)
        if reported.pod and endpoint.labels and not outside:
            where = (endpoint.cluster, endpoint.namespace, reported.pod)
            self.table.pods.add((*where, *endpoint.labels.strings()))
        end = self._ends[id(reported)] = _End(reported, endpoint, token)
        return end

    def _shape(self, flow: Flow, source: _End, destination: _End, reply: bool | None, guessed: bool) -> _Shape:
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        day = flow.time // DAY
        shape = _Shape(self.table.coverage.node(flow.node, day))
        shape.skip = skip_reason(flow)
        if shape.skip is not None:
            return shape
        shape.reply = bool(reply)
        shape.guessed = int(guessed)
        shape.cell_key = ActivityKey(day, side(flow, bool(reply)), flow.kind, flow.verdict, flow.drop_reason)
        self._answers(shape, flow, reply)
        shape.conflicting = int(source.conflicting or destination.conflicting)
        self._place(shape, flow, reply, (source.endpoint, destination.endpoint))
        shape.rare = bool(shape.resets or shape.guessed or shape.conflicting or shape.pair)
        if shape.key is not None and not shape.outside:
            stats = self.table.stats(shape.key)
            shape.place = stats, stats.cell(shape.cell_key)
        return shape

    @staticmethod
    def _answers(shape: _Shape, flow: Flow, reply: bool | None) -> None:
        if flow.verdict == Verdict.DROPPED:
            return
        if flow.protocol is not Protocol.TCP or flow.kind == EventKind.L7:
            shape.answered = int(bool(reply) or flow.kind == EventKind.L7)
            return
        reset, ack = flow.tcp_flags & RST, flow.tcp_flags & ACK
        shape.resets = int(bool(reply and reset))
        # Without flags (a field mask) a reply, or connection tracking that knows the connection, must do.
        known = ack or not flow.tcp_flags
        shape.answered = int(not reset and bool(known if reply else ack and not flow.tcp_flags & SYN))

    @staticmethod
    def _place(shape: _Shape, flow: Flow, reply: bool | None, ends: tuple[Endpoint, Endpoint]) -> None:
        cluster = observing_cluster(flow.node)
        swapped = bool(reply)
        if reply is None:
            swapped = ends[1] < ends[0]
            ports = (flow.source_port, flow.destination_port)
            first, second = reversed(ports) if swapped else ports
            shape.pair = (str(first), str(second))
            l4 = L4(flow.protocol or Protocol.ANY)
        else:
            l4 = server_l4(flow, reply)
        source, destination = (ends[1], ends[0]) if swapped else ends
        shape.key = EdgeKey(cluster, source, destination, l4, reply is not None)
        if ends[0].address:
            shape.outside = 1
        elif ends[1].address:
            shape.outside = 2

    def _outside(self, shape: _Shape, address: str) -> tuple[EdgeStats, Activity]:
        """The edge of an outside address not met before in this shape. Its crowd may have been truncated meanwhile, also by
        another shape, and a record may belong to another crowd (a masked address, the other family): the cells known so far
        count only as long as crowd and level stay."""
        assert shape.key is not None
        key, address = shape.key, known_address(address)
        if key.source.address:
            key = key._replace(source=key.source._replace(address=address))
        else:
            key = key._replace(destination=key.destination._replace(address=address))
        stats = self.table.stats(key)
        crowd = self.table.crowd(key)
        if crowd is not shape.crowd or crowd.level != shape.level:
            shape.crowd, shape.level = crowd, crowd.level
            shape.cells.clear()
        found = shape.cells[truncate(address, crowd.level)] = (stats, stats.cell(shape.cell_key))
        return found

    def _evidence(self, shape: _Shape, stats: EdgeStats, flow: Flow) -> None:
        """What varies from record to record of one shape, or is rare."""
        weight, detail = flow.weight, flow.detail
        stats.resets += shape.resets * weight
        stats.guessed += shape.guessed * weight
        stats.conflicting += shape.conflicting * weight
        if flow.aggregated:
            stats.uncertain += weight
        if shape.pair is not None:
            stats.pairs.add(shape.pair, weight)
        if shape.outside:
            self._names(shape, stats, flow)
        if detail is not None:
            self._details(shape, stats, flow, detail)

    @staticmethod
    def _names(shape: _Shape, stats: EdgeStats, flow: Flow) -> None:
        detail = flow.detail
        names = () if detail is None else (detail.source_names if shape.outside == 1 else detail.destination_names)
        end = flow.source if shape.outside == 1 else flow.destination
        names = names or tuple(label.key for label in end.labels if label.source == "fqdn" and "*" not in label.key)
        if not names:
            stats.unnamed += flow.weight
        for name in names:
            if len(name) > MAX_TEXT:
                stats.names.overflow = True
            else:
                stats.names.add(name, flow.weight)

    def _details(self, shape: _Shape, stats: EdgeStats, flow: Flow, detail: Detail) -> None:
        weight = flow.weight
        service = detail.source_service if shape.reply else detail.destination_service
        if service:
            stats.services.add(service, weight)
        for direction, allowed, denied in (
            (Direction.EGRESS, detail.egress_allowed_by, detail.egress_denied_by),
            (Direction.INGRESS, detail.ingress_allowed_by, detail.ingress_denied_by),
        ):
            for policy in allowed:
                stats.allowed_by.add((direction.name, *policy), weight)
            for policy in denied:
                stats.denied_by.add((direction.name, *policy), weight)
        if detail.http is not None:
            http = detail.http
            if len(http.path) + len(http.host) > MAX_TEXT:
                stats.http.overflow = True
            else:
                verdict = Verdict.DROPPED if http.code == 403 else flow.verdict
                stats.http.add((http.method, http.path, http.host, str(int(verdict))), weight)
        if detail.dns is not None:
            self._dns(shape, stats, flow, detail)

    def _dns(self, shape: _Shape, stats: EdgeStats, flow: Flow, detail: Detail) -> None:
        dns = detail.dns
        assert dns is not None
        if not dns.query or len(dns.query) > MAX_TEXT:
            stats.queries.overflow = stats.queries.overflow or bool(dns.query)
            return
        # Search-list expansions come back as NXDOMAIN: names nobody can use.
        if (shape.reply or dns.ips) and not dns.rcode:
            stats.queries.add(dns.query, flow.weight)
        cluster = observing_cluster(flow.node)
        for address in dns.ips[:64]:
            self.table.answers.add((cluster, address[:64], dns.query), flow.weight)


def aggregate(records: Iterable[Record]) -> EdgeTable:
    """The edge table of some records."""
    aggregator = Aggregator()
    aggregator.add_records(records)
    return aggregator.table
