"""The connection model: which connection a packet belongs to, which way it runs, who reported it - from one record alone."""

from __future__ import annotations

from typing import NamedTuple

from analyzer.model.edge import Endpoint, Side
from analyzer.model.flow import (
    Direction,
    EventKind,
    Flow,
    FlowEndpoint,
    ObservationPoint,
    Skip,
    TcpFlags,
    TraceReason,
    Verdict,
)
from analyzer.model.identity import Entity, entities, is_outside
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import CLUSTER_KEY, Labels

__all__ = [
    "EPHEMERAL",
    "Way",
    "endpoint_of",
    "ends_skip",
    "is_service_address",
    "observing_cluster",
    "packet_skip",
    "server_l4",
    "side",
    "side_of",
    "way",
]

EPHEMERAL = 32768
"""Linux hands out client ports from here on (net.ipv4.ip_local_port_range)."""

DNS_PORT = 53

ECHO_REPLY_TO_REQUEST = {(Protocol.ICMP, 0): 8, (Protocol.ICMPV6, 129): 128}
ICMP_ERRORS = frozenset(
    [(Protocol.ICMP, kind) for kind in (3, 4, 5, 11, 12)] + [(Protocol.ICMPV6, kind) for kind in (1, 2, 3, 4)]
)
# Router and neighbour discovery, multicast listener discovery: everyday noise that policies cannot express.
NEIGHBOUR_DISCOVERY = frozenset((Protocol.ICMPV6, kind) for kind in (*range(130, 138), 143))
_NOT_ON_THE_WIRE = frozenset({Verdict.TRACED, Verdict.TRANSLATED})
_CAPTURES = frozenset({EventKind.DEBUG, EventKind.CAPTURE})
_WITH_DIRECTION = frozenset({EventKind.POLICY_VERDICT, EventKind.DROP})
# Plain numbers: operators of flag enumerations take a microsecond.
_SYN, _SYN_ACK = int(TcpFlags.SYN), int(TcpFlags.SYN | TcpFlags.ACK)
_WORLD = Labels.of(["reserved:world"])
_EXTERNAL_API_SERVER = Labels.of(["reserved:kube-apiserver", "reserved:world"])


class Way(NamedTuple):
    """`reply` tells whether the packet runs from server to client, None if nobody knows; `guessed` that port numbers told it."""

    reply: bool | None
    guessed: bool = False


def way(flow: Flow) -> Way:
    """Which way the packet of `flow` runs within its connection.

    In order: `is_reply`, the trace reason, an ICMP echo's type, the SYN flag, and last the port numbers: the only
    ephemeral port of the two is the client's. Drops and denied verdicts have no `is_reply`
    (Cilium pkg/hubble/parser/threefour/parser.go, `decodeIsReply`). Of the DNS proxy's records not even `is_reply` is
    believed: some are responses by their type, but run from the client to port 53 like the query that they repeat.
    """
    if flow.is_reply is not None:
        return Way(flow.is_reply if flow.kind != EventKind.L7 else _l7_reply(flow, flow.is_reply))
    if flow.trace_reason == TraceReason.REPLY:
        return Way(True)
    if flow.trace_reason in (TraceReason.NEW, TraceReason.ESTABLISHED):
        return Way(False)
    protocol = flow.protocol
    if protocol is None or not protocol.has_ports:
        return Way((protocol, flow.destination_port) in ECHO_REPLY_TO_REQUEST)
    if protocol is Protocol.TCP and flow.tcp_flags & _SYN:
        return Way(flow.tcp_flags & _SYN_ACK == _SYN_ACK)
    source, destination = flow.source_port >= EPHEMERAL, flow.destination_port >= EPHEMERAL
    return Way(None) if source == destination else Way(destination, guessed=True)


def _l7_reply(flow: Flow, told: bool) -> bool:
    at_source, at_destination = flow.source_port == DNS_PORT, flow.destination_port == DNS_PORT
    dns = flow.detail is not None and flow.detail.dns is not None
    return at_source if dns and at_source != at_destination else told


def server_l4(flow: Flow, reply: bool) -> L4:
    """Layer 4 at the server's side: the client's port is never part of it; an echo reply takes the request's type."""
    protocol = flow.protocol
    assert protocol is not None
    if protocol.is_icmp:
        return L4(protocol, ECHO_REPLY_TO_REQUEST.get((protocol, flow.destination_port), flow.destination_port))
    if not protocol.has_ports:
        return L4(protocol)
    return L4(protocol, flow.source_port if reply else flow.destination_port)


def side(flow: Flow, reply: bool) -> Side:
    """Which end of the connection reported `flow`."""
    return side_of(flow, bool(flow.source.endpoint_id), bool(flow.destination.endpoint_id), reply)


def side_of(flow: Flow, source: bool, destination: bool, reply: bool) -> Side:
    """Which end of the connection reported a packet like `flow`, whose `source` or `destination` is local to the reporter.

    A trace is reported where the local endpoint is, never mind `traffic_direction`, which is wrong on deliveries of current
    releases; policy verdicts, drops and the proxy know their direction.
    """
    if flow.kind == EventKind.L7:
        return _BY_DIRECTION.get(flow.direction, Side.UNKNOWN)
    if flow.kind in _WITH_DIRECTION and flow.direction:
        at_source = flow.direction == Direction.EGRESS
    elif source == destination:
        if not source and flow.sub_type != ObservationPoint.TO_ENDPOINT:
            return Side.UNKNOWN
        at_source = flow.sub_type != ObservationPoint.TO_ENDPOINT
    else:
        at_source = source
    return Side.SOURCE if at_source != reply else Side.DESTINATION


_BY_DIRECTION: dict[int, Side] = {Direction.EGRESS: Side.SOURCE, Direction.INGRESS: Side.DESTINATION}


def packet_skip(flow: Flow) -> Skip | None:
    """Why `flow` is not part of any edge, whatever its ends are, or None."""
    if flow.kind == EventKind.TRACE_SOCK or flow.verdict in _NOT_ON_THE_WIRE:
        return Skip.SOCKET
    if flow.kind in _CAPTURES or flow.verdict == Verdict.UNKNOWN:
        return Skip.CAPTURE
    if flow.protocol is None or (flow.protocol.has_ports and not (flow.source_port or flow.destination_port)):
        return Skip.NO_L4
    icmp = (flow.protocol, flow.destination_port)
    if flow.trace_reason == TraceReason.RELATED or icmp in ICMP_ERRORS:
        return Skip.ICMP_ERROR
    return Skip.NEIGHBOUR_DISCOVERY if icmp in NEIGHBOUR_DISCOVERY else None


def ends_skip(source: Endpoint, destination: Endpoint) -> Skip | None:
    """Why no flow between these two is part of any edge, or None."""
    if not (source.address and destination.address):
        return None
    return Skip.OUTSIDE_ONLY if source.labels or destination.labels else Skip.NO_ENDPOINT


def is_service_address(flow: Flow, at_source: bool) -> bool:
    """Whether the outside end of `flow` is a service's address that was not translated yet. A drop shows no other packet."""
    detail = flow.detail
    if detail is None or flow.verdict == Verdict.DROPPED:
        return False
    return bool(detail.source_service if at_source else detail.destination_service)


def _elsewhere(end: FlowEndpoint) -> bool:
    """Whether nothing but an address identifies this end: outside the cluster, or without labels, namespace and pod."""
    return is_outside(end.labels) if end.labels else not (end.namespace or end.pod)


def endpoint_of(end: FlowEndpoint, address: str) -> Endpoint:
    """The edge's end for a flow's end. An outside peer is reduced to world or kube-apiserver and its address."""
    labels = end.labels
    if _elsewhere(end):
        if not labels:
            return Endpoint(Labels(), address=address or "unknown")
        api_server = Entity.KUBE_APISERVER in entities(labels)
        return Endpoint(_EXTERNAL_API_SERVER if api_server else _WORLD, address=address or "unknown")
    if entities(labels):
        # Nodes carry labels of their own beside the reserved ones; policies name them by the reserved ones.
        return Endpoint(Labels(label for label in labels if label.source == "reserved"))
    cluster = labels.get(CLUSTER_KEY, "k8s") or end.cluster
    namespace = end.namespace or labels.namespace
    return Endpoint(labels, namespace, cluster, "" if labels else end.pod)


def observing_cluster(node: str) -> str:
    """The cluster part of a node name; Hubble writes plain node names in a cluster called ``default``."""
    cluster, slash, _ = node.partition("/")
    return cluster if slash else "default"
