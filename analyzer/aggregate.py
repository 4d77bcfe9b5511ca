"""Aggregation: flows into an edge table, one record at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from analyzer.connection import is_service_address, observing_cluster, way
from analyzer.evidence import add_evidence
from analyzer.model.address import UNKNOWN, known_address, truncate
from analyzer.model.edge import HOUR, Activity, EdgeKey, EdgeStats, EdgeTable, Group
from analyzer.model.flow import (
    EventKind,
    Flow,
    FlowEndpoint,
    Form,
    KeptForm,
    LostEvents,
    NodeStatus,
    Skip,
)
from analyzer.model.l4 import L4
from analyzer.shapes import DESTINATION_PORT, SOURCE_PORT, Line, Manner, Shape, ShapeKey, Shapes
from analyzer.spots import Spots, new_spots, rest_of

if TYPE_CHECKING:
    from analyzer.sources.base import Batch, Record

__all__ = ["Aggregator", "aggregate"]

L7 = int(EventKind.L7)

MAX_SHAPES = 131_072
"""Record shapes remembered at a time; more only costs speed."""
MAX_ENDS = 65_536
"""Pods and other ends remembered at a time, likewise."""
MAX_SPOTS = 131_072
"""Forms remembered at a time, likewise."""


class _Crowd:
    """The cells of outside addresses met before. They count as long as the crowd stays at `level`."""

    __slots__ = ("cells", "group", "level")

    def __init__(self) -> None:
        self.group = Group()
        self.level = 0
        self.cells: dict[str, tuple[EdgeStats, Activity]] = {}


class _Outside:
    """Where packets of a shape with an outside end go: by address, IPv4 and IPv6 apart."""

    __slots__ = ("day", "four", "six")

    def __init__(self, day: int) -> None:
        self.day, self.four, self.six = day, _Crowd(), _Crowd()


_Place = tuple[Shape, EdgeStats | None, Activity | None, _Outside | None]
"""Where packets of a shape go in the table: edge and cell, or a place that depends on the packet, or (all None) nowhere."""

_Spot = tuple[
    Form, bool, object, Activity, EdgeStats | None, Activity | None, int, int, bool, _Outside | None, Manner, Shape
]
"""Where flows of a form count: the form, whether the source's port is the server's, that port; the node's activity, edge and cell;
the weight, whether it proves an answer, whether counting there is all that is to be done (`spots` reads so far), or else where
outside ends are looked up; what the numbers of the packet come to, and its shape."""


class _Day:
    """Where things are in the table on a UTC day: each node's activity and places, and the spots of kept forms by their `id`."""

    __slots__ = ("nodes", "number", "spots")

    def __init__(self, number: int) -> None:
        self.number = number
        self.nodes: dict[str, tuple[Activity, dict[ShapeKey, _Place]]] = {}
        self.spots: Spots[_Spot] = new_spots()


_NO_DAY = _Day(0)


class Aggregator:
    """Turns records into `table`, incrementally. `take` hands the table out and starts an empty one (a spill):
    merging what was handed out gives the same table as never spilling.

    What records mean is in `_shapes`, for good; where they go is in the other dictionaries, until `take`.
    """

    def __init__(self) -> None:
        self._table = EdgeTable()
        self._shapes = Shapes()
        self._tokens: dict[int, int] = {}
        self._stats: dict[Line, EdgeStats] = {}
        self._places: dict[tuple[str, int], dict[ShapeKey, _Place]] = {}
        self._days: dict[int, _Day] = {}
        self._placed = self._spots = 0

    @property
    def table(self) -> EdgeTable:
        """What was collected so far."""
        self.settle()
        return self._table

    @property
    def latest(self) -> EdgeTable:
        """The same table for those who look at it all the time: which edges there are, exactly; how often and when they were
        seen, as of the last `settle`."""
        return self._table

    def take(self) -> EdgeTable:
        """Hand out what was collected so far, and go on with an empty table."""
        table, self._table = self.table, EdgeTable()
        for each in (self._tokens, self._stats, self._places, self._days):
            each.clear()
        self._placed = self._spots = 0
        return table

    def _forget(self) -> None:
        """Start over with an empty memory, and with the same table."""
        self._shapes.clear()
        self._tokens.clear()
        self._stats.clear()
        # The loop holds on to the dictionaries it is at.
        for places in self._places.values():
            places.clear()
        self._placed = 0
        self._forget_spots()

    def settle(self) -> None:
        """Add up what was counted at spots since the last time. Who interrupts this has no use for the table any more."""
        for day in self._days.values():
            for spot, flows, first, last, hours in day.spots.take():
                _, _, _, node, stats, cell, weight, answered, _, _, _, _ = spot
                assert stats is not None
                assert cell is not None
                node.merge(Activity(flows, hours, first, last))
                cell.merge(Activity(flows * weight, hours, first, last))
                if answered:
                    stats.answered += flows * weight

    def _forget_spots(self) -> None:
        self.settle()
        for day in self._days.values():
            day.spots.clear()
        self._spots = 0

    def add(self, batch: Batch) -> None:
        """Add the records of a batch."""
        self._table.coverage.skipped.update(batch.skipped)
        self.add_records(batch.records)

    def add_records(self, records: Iterable[Record]) -> None:  # noqa: C901, PLR0915 - a call per step costs a third of the speed
        """Add records one by one. This loop is the hot path: everything that records have in common was worked out before.
        Where there is C, flows that are counted at their spots do not get here."""
        edge_records = since = until = bit = 0
        day = _NO_DAY
        spots = day.spots
        counted = rest_of(records)
        for flow in records if counted is None else counted:
            if flow.__class__ is not Flow:
                self._other(flow)
                continue
            time, uuid, _, _, source_port, destination_port, form = flow
            if not since <= time < until:
                hour = time // HOUR
                since, until, bit = hour * HOUR, hour * HOUR + HOUR, 1 << hour % 24
                day = self._day(hour // 24)
                spots = day.spots
                if counted is not None:
                    counted.at(spots, since, until, bit)
            spot = spots.get(id(form))
            if spot is None or (source_port if spot[1] else destination_port) != spot[2]:
                spot = self._spot(day, flow)
            _, _, _, node, stats, cell, weight, answered, plain, outside, manner, shape = spot
            if time > node.last:
                node.last = time
            elif time < node.first:
                node.first = time
            node.weight += 1
            node.hours |= bit
            if cell is None or stats is None:
                located = self._beyond(shape, outside, flow)
                if located is None:
                    continue
                stats, cell = located
            edge_records += 1
            if time > cell.last:
                cell.last = time
            elif time < cell.first:
                cell.first = time
            cell.weight += weight
            cell.hours |= bit
            if answered:
                stats.answered += weight
            if uuid and uuid < stats.samples.ceiling:
                stats.samples.add(uuid)
            if not plain:
                add_evidence(self._table, stats, shape, manner, flow)
        self._table.coverage.edge_records += edge_records + (0 if counted is None else counted.counted)

    def _day(self, number: int) -> _Day:
        found = self._days.get(number)
        if found is None:
            found = self._days[number] = _Day(number)
        return found

    def _spot(self, day: _Day, flow: Flow) -> _Spot:
        """Where `flow` counts; remembered by its form, and the server's port that was seen with it last, if the form is kept."""
        _, _, _, _, source_port, destination_port, form = flow
        (node, source, destination, protocol, flags, verdict, kind, sub_type, reason, direction, is_reply, trace_reason, weight,
         aggregated, detail) = form  # fmt: skip
        activity, places = day.nodes.get(node) or self._node(day, flow)
        told = way(flow) if is_reply is None or kind == L7 else is_reply
        numbers = (protocol, flags, verdict, kind, sub_type, reason, direction, told, trace_reason)
        manner = self._shapes.manners.get(numbers) or self._shapes.manner(numbers, flow, told)
        source_token, destination_token = self._tokens.get(id(source)), self._tokens.get(id(destination))
        if source_token is None:
            source_token = self._end(source)
        if destination_token is None:
            destination_token = self._end(destination)
        pick = manner.kin.pick
        # Port 0 is what a field mask leaves: then the other port decides whether there is a layer 4 at all.
        if pick == DESTINATION_PORT:
            port: object = destination_port or (source_port,)
        elif pick == SOURCE_PORT:
            port = source_port or (destination_port,)
        else:
            port = bool(source_port or destination_port)
        key = (source_token, destination_token, manner.kin, port)
        shape, stats, cell, outside = places.get(key) or self._place(places, key, flow)
        plain = cell is not None and detail is None and not (aggregated or shape.rare or manner.rare)
        by_source = pick == SOURCE_PORT
        spot: _Spot = (
            form, by_source, port, activity, stats, cell, weight, manner.answered, plain, outside, manner, shape
        )  # fmt: skip
        # Which way it runs must not depend on the packet's ports. A port that is a tuple is equal to none, and so never found.
        if form.__class__ is KeptForm and told is is_reply:
            if self._spots >= MAX_SPOTS:
                self._forget_spots()
            self._spots -= len(day.spots)
            day.spots[id(form)] = spot
            self._spots += len(day.spots)
        return spot

    def _node(self, day: _Day, flow: Flow) -> tuple[Activity, dict[ShapeKey, _Place]]:
        """The activity of the flow's node on a day, met for the first time, and the places of its cluster on that day."""
        node = flow.form.node
        cell = self._table.coverage.node(node, day.number)
        if not cell.hours:
            cell.first = cell.last = flow.time
        found = day.nodes[node] = (cell, self._places.setdefault((observing_cluster(node), day.number), {}))
        return found

    def _end(self, reported: FlowEndpoint) -> int:
        """The token of an end that this table has not met, and into the table with what only its own node knows of it."""
        if len(self._shapes.ends) >= MAX_ENDS:
            self._forget()
        end = self._shapes.end(reported)
        if end.workloads is not None:
            self._table.add_workloads(end.endpoint, end.workloads)
        if end.pod:
            self._table.pods.add(end.pod)
        self._tokens[id(reported)] = end.token
        return end.token

    def _place(self, places: dict[ShapeKey, _Place], key: ShapeKey, flow: Flow) -> _Place:
        """Where packets of a shape go that this table has not met; `flow` is the first."""
        if max(self._placed, self._shapes.made) >= MAX_SHAPES:
            self._forget()
        self._placed += 1
        shape = self._shapes.shape(observing_cluster(flow.node), key, flow)
        day = flow.time // HOUR // 24
        place: _Place
        if shape.skip is not None:
            place = (shape, None, None, None)
        elif shape.outside:
            place = (shape, None, None, _Outside(day))
        else:
            stats = self._stats.get(shape.line)
            if stats is None:
                stats = self._stats[shape.line] = self._table.stats(shape.line.key)
            place = (shape, stats, _cell(stats, shape, day, flow.time), None)
        places[key] = place
        return place

    def _skip(self, skip: Skip, flow: Flow) -> None:
        self._table.coverage.skipped[skip] += 1
        if skip is Skip.SERVICE_ADDRESS and flow.detail and flow.protocol is not None:
            l4 = L4(flow.protocol, flow.destination_port)
            where = (observing_cluster(flow.node), flow.destination_ip, str(l4), flow.detail.destination_service)
            self._table.service_addresses.add(where, flow.weight)

    def _other(self, record: Record) -> None:
        coverage = self._table.coverage
        if isinstance(record, LostEvents):
            coverage.lost[record.node, record.source] += record.lost
            coverage.skipped[Skip.LOST_EVENTS] += 1
        elif isinstance(record, NodeStatus):
            for node in record.nodes:
                coverage.statuses[node, record.state] += 1
            coverage.skipped[Skip.NODE_STATUS] += 1
        elif isinstance(record, Skip):
            coverage.skipped[record] += 1

    def _beyond(self, shape: Shape, outside: _Outside | None, flow: Flow) -> tuple[EdgeStats, Activity] | None:
        """Edge and cell of a packet that is not between two ends of the cluster, or None if it is part of no edge."""
        if outside is None:
            self._skip(shape.skip or Skip.CAPTURE, flow)
            return None
        at_source = shape.outside == 1
        if is_service_address(flow, at_source):
            self._skip(Skip.SERVICE_ADDRESS, flow)
            return None
        address = (flow.source_ip if at_source else flow.destination_ip) or UNKNOWN
        crowd = outside.six if ":" in address else outside.four
        level = crowd.level
        found = crowd.cells.get(truncate(address, level) if level else address)
        if found is None or crowd.group.level != level:
            found = self._newcomer(shape, outside.day, crowd, address, flow.time)
        return found

    def _newcomer(self, shape: Shape, day: int, crowd: _Crowd, address: str, time: int) -> tuple[EdgeStats, Activity]:
        """The edge of an outside address not met before in this shape. Its crowd may have been truncated meanwhile, also by
        another shape, and a record may belong to another crowd (a masked address): the cells known so far count only as
        long as crowd and level stay."""
        key = _with_address(shape.line.key, known_address(address))
        stats, group = self._table.stats(key), self._table.crowd(key)
        if group is not crowd.group or group.level != crowd.level:
            crowd.group, crowd.level = group, group.level
            crowd.cells.clear()
        address = known_address(address)
        found = crowd.cells[truncate(address, group.level)] = (stats, _cell(stats, shape, day, time))
        return found


def _cell(stats: EdgeStats, shape: Shape, day: int, time: int) -> Activity:
    """The cell for packets of a shape on a day; `time` is that of a packet which is about to be counted there."""
    cell = stats.cell(shape.kin.cell(day, shape.side))
    if not cell.hours:
        cell.first = cell.last = time
    return cell


def _with_address(key: EdgeKey, address: str) -> EdgeKey:
    if key.source.address:
        return key._replace(source=key.source._replace(address=address))
    return key._replace(destination=key.destination._replace(address=address))


def aggregate(records: Iterable[Record]) -> EdgeTable:
    """The edge table of some records."""
    aggregator = Aggregator()
    aggregator.add_records(records)
    return aggregator.table
