"""Shapes: what records that are alike mean to an edge table, worked out once and kept from one table to the next."""

from __future__ import annotations

from itertools import count

from analyzer.connection import Way, endpoint_of, ends_skip, packet_skip, server_l4, side_of
from analyzer.model.bounded import BoundedSet
from analyzer.model.edge import MAX_WORKLOADS, ActivityKey, EdgeKey, Endpoint
from analyzer.model.flow import EventKind, Flow, FlowEndpoint, Skip, TcpFlags, TraceReason, Verdict
from analyzer.model.l4 import L4, Protocol

__all__ = ["End", "Kin", "Line", "Manner", "Shape", "ShapeKey", "Shapes"]

SYN, ACK, RST = int(TcpFlags.SYN), int(TcpFlags.ACK), int(TcpFlags.RST)

DESTINATION_PORT, SOURCE_PORT, NO_PORT = 0, 1, 2
"""Which of a packet's ports is the server's."""

MAX_MANNERS = 4_096
"""Combinations of numbers, such as flags and verdicts, remembered at a time; more only costs speed."""


class End:
    """A flow's end as met before. It holds on to the flow's endpoint, so that the `id` it is found by stays its own.

    `token` is the same for all ends that make no difference to an edge: the pods of one workload on one side. `number` is the
    same for all with the same `endpoint`.
    """

    __slots__ = ("conflicting", "endpoint", "local", "number", "pod", "reported", "token", "workloads")

    def __init__(self, reported: FlowEndpoint, endpoint: Endpoint, number: int) -> None:
        self.reported, self.endpoint, self.number = reported, endpoint, number
        self.token = 0
        self.local = bool(reported.endpoint_id)
        self.conflicting = bool(reported.pod and endpoint.address)
        self.workloads: BoundedSet[tuple[str, ...]] | None = None
        self.pod: tuple[str, ...] = ()


class Kin:
    """What the numbers of a packet - protocol, verdict, kind and so on - come to, but for what they prove.

    Most of them make no difference: a PSH is as good as an ACK. Packets whose `traits` are equal share one object.
    """

    __slots__ = ("cells", "directed", "kind", "pick", "protocol", "reason", "reply", "sides", "traits", "verdict")

    def __init__(self, flow: Flow, reply: bool | None) -> None:
        self.protocol = flow.protocol or Protocol.ANY
        self.directed, self.reply = reply is not None, bool(reply)
        self.kind, self.verdict, self.reason = flow.kind, flow.verdict, flow.drop_reason
        self.sides = tuple(side_of(flow, here, there, bool(reply)) for here in (False, True) for there in (False, True))
        ports = self.protocol.has_ports
        self.pick = NO_PORT if reply is None else SOURCE_PORT if reply and ports else DESTINATION_PORT
        self.cells: dict[tuple[int, int], ActivityKey] = {}
        related = flow.trace_reason == TraceReason.RELATED
        self.traits = (flow.protocol, self.kind, self.verdict, self.reason, related, reply, self.sides)

    def cell(self, day: int, side: int) -> ActivityKey:
        """Where a packet on `day` is counted, when `side` (an index of `sides`) says which of its ends are local."""
        found = self.cells.get((day, side))
        if found is None:
            key = ActivityKey(day, self.sides[side], self.kind, self.verdict, self.reason)
            found = self.cells[day, side] = key
        return found


class Manner:
    """What all the numbers of a packet come to: `kin`, and what they prove (`rare` if it is more than an answer)."""

    __slots__ = ("answered", "guessed", "kin", "rare", "resets")

    def __init__(self, flow: Flow, kin: Kin, reply: bool | None, guessed: bool) -> None:
        self.kin, self.guessed = kin, int(guessed)
        self.answered, self.resets = _answers(flow, reply)
        self.rare = bool(self.resets or guessed)


def _answers(flow: Flow, reply: bool | None) -> tuple[int, int]:
    """Whether the packet proves an answer, and whether it is a reset by the server."""
    if flow.verdict == Verdict.DROPPED:
        return 0, 0
    if flow.protocol is not Protocol.TCP or flow.kind == EventKind.L7:
        return int(bool(reply) or flow.kind == EventKind.L7), 0
    reset, ack = flow.tcp_flags & RST, flow.tcp_flags & ACK
    # Without flags (a field mask) a reply, or connection tracking that knows the connection, must do.
    known = ack or not flow.tcp_flags
    return int(not reset and bool(known if reply else ack and not flow.tcp_flags & SYN)), int(bool(reply and reset))


class Line:
    """An edge as met before. As a dictionary's key it is found by what it is and not by what its many labels are."""

    __slots__ = ("key",)

    def __init__(self, key: EdgeKey) -> None:
        self.key = key


class Shape:
    """What all packets with like ends, of one kin and to or from one server port have in common.

    `outside` is 1 if the source, 2 if the destination lies outside the cluster, so that its address is part of the edge;
    `swapped` tells whether the edge's source is the packet's destination; `side` is an index of the kin's `sides`.
    """

    __slots__ = ("conflicting", "kin", "line", "outside", "rare", "side", "skip", "swapped")

    def __init__(self, kin: Kin, source: End, destination: End) -> None:
        self.kin = kin
        self.side = 2 * source.local + destination.local
        self.outside = 1 if source.endpoint.address else 2 if destination.endpoint.address else 0
        self.conflicting = int(source.conflicting or destination.conflicting)
        self.rare = bool(self.conflicting or self.outside or not kin.directed)
        self.swapped = kin.reply
        self.skip: Skip | None = None
        self.line: Line


ShapeKey = tuple[int, int, Kin, object]
"""Tokens of both ends, the kin, and the server's port."""


class Shapes:
    """Everything met before. None of it belongs to a table, so it may be kept for as long as there is room."""

    def __init__(self) -> None:
        self.ends: dict[int, End] = {}
        self.manners: dict[tuple[object, ...], Manner] = {}
        self._kin: dict[tuple[object, ...], Kin] = {}
        self._skips: dict[tuple[Kin, object], Skip | None] = {}
        self._endpoints: dict[Endpoint, End] = {}
        self._tokens: dict[tuple[int, bool, bool], int] = {}
        self._shapes: dict[str, dict[ShapeKey, Shape]] = {}
        self._lines: dict[tuple[object, ...], Line] = {}
        self._numbers = count()
        self.made = 0
        """Shapes since the last `clear`."""

    def clear(self) -> None:
        """Forget everything. No number is given a second time: keys made before must not come back to life."""
        known: tuple[dict[object, object], ...] = (
            self.ends, self.manners, self._kin, self._skips, self._endpoints, self._tokens, self._shapes, self._lines,
        )  # type: ignore[assignment]  # fmt: skip
        for each in known:
            each.clear()
        self.made = 0

    def end(self, reported: FlowEndpoint) -> End:
        """An end, met for the first time or again."""
        found = self.ends.get(id(reported))
        return self._meet(reported) if found is None else found

    def _meet(self, reported: FlowEndpoint) -> End:
        endpoint = endpoint_of(reported, "")
        first = self._endpoints.get(endpoint)
        if first is None:
            made = End(reported, endpoint, next(self._numbers))
            self._endpoints[endpoint] = made
        else:
            made = End(reported, first.endpoint, first.number)
        traits = (made.number, made.local, made.conflicting)
        token = self._tokens.get(traits)
        if token is None:
            token = self._tokens[traits] = next(self._numbers)
        made.token = token
        if not endpoint.address:
            if reported.workloads:
                made.workloads = BoundedSet(MAX_WORKLOADS)
                for workload in reported.workloads:
                    made.workloads.add((workload.kind, workload.name))
            if reported.pod and endpoint.labels:
                # The labels' text is long, and the same for all pods of a workload.
                texts = first.pod[3:] if first is not None and first.pod else endpoint.labels.strings()
                made.pod = (endpoint.cluster, endpoint.namespace, reported.pod, *texts)
        self.ends[id(reported)] = made
        return made

    def manner(self, key: tuple[object, ...], flow: Flow, told: Way | bool) -> Manner:
        """The manner of `flow`, to be found under `key` from now on."""
        if len(self.manners) >= MAX_MANNERS:
            self.manners.clear()
        reply, guessed = told if isinstance(told, Way) else (told, False)
        kin = Kin(flow, reply)
        kin = self._kin.setdefault(kin.traits, kin)
        made = self.manners[key] = Manner(flow, kin, reply, guessed)
        return made

    def shape(self, cluster: str, key: ShapeKey, flow: Flow) -> Shape:
        """The shape of `flow`, met for the first time or again."""
        shapes = self._shapes.get(cluster)
        if shapes is None:
            shapes = self._shapes[cluster] = {}
        found = shapes.get(key)
        if found is None:
            found = shapes[key] = self._shape(cluster, flow, *key[2:])
            self.made += 1
        return found

    def _shape(self, cluster: str, flow: Flow, kin: Kin, port: object) -> Shape:
        source, destination = self.end(flow.source), self.end(flow.destination)
        shape = Shape(kin, source, destination)
        shape.skip = self._skip(flow, kin, port) or ends_skip(source.endpoint, destination.endpoint)
        if shape.skip is not None:
            return shape
        if not kin.directed:
            shape.swapped = destination.endpoint < source.endpoint
        if shape.swapped:
            source, destination = destination, source
        where = (cluster, source.number, destination.number, kin.protocol, port, kin.directed)
        line = self._lines.get(where)
        if line is None:
            l4 = server_l4(flow, kin.reply) if kin.directed else L4(kin.protocol)
            line = Line(EdgeKey(cluster, source.endpoint, destination.endpoint, l4, kin.directed))
            self._lines[where] = line
        shape.line = line
        return shape

    def _skip(self, flow: Flow, kin: Kin, port: object) -> Skip | None:
        try:
            return self._skips[kin, port]
        except KeyError:
            found = self._skips[kin, port] = packet_skip(flow)
            return found
