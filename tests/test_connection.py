"""The rules of the connection model one by one, each with all other evidence pointing the other way."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.aggregate import aggregate
from analyzer.connection import Way, endpoint_of, observing_cluster, side, way
from analyzer.model.edge import Endpoint, Side
from analyzer.model.flow import Detail, Direction, EventKind, Flow, ObservationPoint, Skip, TraceReason, Verdict
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from tests.flows import API_SERVER, HOST, SYN, SYN_ACK, WORLD, drop, icmp, pod, remote, tcp, udp

CART, REDIS = pod("cart"), pod("redis")


def to_server(**changes: Any) -> Flow:
    """A packet that ports and flags take for a request."""
    return tcp(CART, REDIS, 8080, tcp_flags=SYN).replace(**{"is_reply": None, "trace_reason": 0, **changes})


def to_client(**changes: Any) -> Flow:
    """A packet that ports and flags take for a reply."""
    return tcp(CART, REDIS, 8080, reply=True, tcp_flags=SYN_ACK).replace(
        **{"is_reply": None, "trace_reason": 0, **changes}
    )


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (to_server(is_reply=True), Way(True)),
        (to_client(is_reply=False), Way(False)),
        (to_server(trace_reason=TraceReason.REPLY), Way(True)),
        (to_client(trace_reason=TraceReason.NEW), Way(False)),
        (to_client(trace_reason=TraceReason.ESTABLISHED), Way(False)),
        (to_client(trace_reason=TraceReason.SRV6_ENCAP), Way(True)),
        (to_server(source_port=80, destination_port=40_000), Way(False)),
        (to_client(source_port=40_000, destination_port=80), Way(True)),
        (to_server(tcp_flags=0), Way(False, guessed=True)),
        (to_client(tcp_flags=0), Way(True, guessed=True)),
        (to_client(tcp_flags=0, source_port=32_767, destination_port=32_768), Way(True, guessed=True)),
        (to_server(tcp_flags=0, source_port=80), Way(None)),
        (to_server(tcp_flags=0, destination_port=32_768), Way(None)),
        (to_server(protocol=Protocol.UDP), Way(False, guessed=True)),
        (icmp(CART, REDIS, 8, reply=None), Way(False)),
        (icmp(CART, REDIS, 0, reply=None), Way(True)),
        (icmp(CART, REDIS, 129, reply=None, protocol=Protocol.ICMPV6), Way(True)),
        (icmp(CART, REDIS, 129, reply=None), Way(False)),
        (icmp(CART, REDIS, 0, reply=None, protocol=Protocol.VRRP), Way(False)),
    ],
)
def test_the_best_evidence_tells_the_way(flow: Flow, expected: Way) -> None:
    """`is_reply`, then the trace reason, an echo's type, the SYN flag, and last the ports."""
    assert way(flow) == expected


ENDS = {"source": (CART, remote(REDIS)), "destination": (remote(CART), REDIS), "both": (CART, REDIS),
        "none": (remote(CART), remote(REDIS))}  # fmt: skip


@pytest.mark.parametrize(
    ("local", "changes", "expected"),
    [
        # Traces: where the local endpoint is; deliveries are at the destination; the direction is never believed.
        ("source", {"direction": Direction.INGRESS}, Side.SOURCE),
        ("destination", {"direction": Direction.EGRESS}, Side.DESTINATION),
        ("destination", {"sub_type": ObservationPoint.TO_STACK}, Side.DESTINATION),
        ("both", {"sub_type": ObservationPoint.TO_ENDPOINT}, Side.DESTINATION),
        ("both", {"sub_type": ObservationPoint.TO_STACK}, Side.SOURCE),
        ("none", {"sub_type": ObservationPoint.TO_ENDPOINT}, Side.DESTINATION),
        ("none", {"sub_type": ObservationPoint.TO_OVERLAY, "direction": Direction.EGRESS}, Side.UNKNOWN),
        # Verdicts and drops: their direction, whoever is local; without one, like traces.
        ("destination", {"kind": EventKind.POLICY_VERDICT, "direction": Direction.EGRESS}, Side.SOURCE),
        ("source", {"kind": EventKind.DROP, "direction": Direction.INGRESS, "sub_type": 133}, Side.DESTINATION),
        ("source", {"kind": EventKind.DROP, "sub_type": 133}, Side.SOURCE),
        # The proxy: its direction, and nothing else.
        ("destination", {"kind": EventKind.L7, "direction": Direction.EGRESS}, Side.SOURCE),
        ("source", {"kind": EventKind.L7, "direction": Direction.INGRESS}, Side.DESTINATION),
        ("source", {"kind": EventKind.L7}, Side.UNKNOWN),
    ],
)
def test_which_end_of_the_connection_reported(local: str, changes: dict[str, Any], expected: Side) -> None:
    flow = tcp(*ENDS[local], 8080, **changes)
    assert side(flow, reply=False) is expected


@pytest.mark.parametrize("kind", [EventKind.TRACE, EventKind.POLICY_VERDICT])
def test_of_a_reply_the_packets_source_is_the_connections_destination(kind: EventKind) -> None:
    direction = Direction.EGRESS if kind == EventKind.POLICY_VERDICT else 0
    reply = tcp(remote(CART), REDIS, 8080, reply=True, kind=kind, direction=direction, sub_type=3)
    assert reply.source == REDIS
    assert side(reply, reply=True) is Side.DESTINATION
    delivered = tcp(CART, remote(REDIS), 8080, reply=True, sub_type=ObservationPoint.TO_ENDPOINT)
    assert side(delivered, reply=True) is Side.SOURCE


def test_of_a_reply_the_proxy_keeps_the_connections_direction() -> None:
    assert (
        side(tcp(CART, REDIS, 80, reply=True, kind=EventKind.L7, direction=Direction.EGRESS), reply=True) is Side.SOURCE
    )


V6 = Protocol.ICMPV6


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (tcp(CART, REDIS, 80, kind=EventKind.TRACE_SOCK), Skip.SOCKET),
        (tcp(CART, REDIS, 80, verdict=Verdict.TRACED), Skip.SOCKET),
        (tcp(CART, REDIS, 80, verdict=Verdict.TRANSLATED), Skip.SOCKET),
        (tcp(CART, REDIS, 80, verdict=Verdict.UNKNOWN), Skip.CAPTURE),
        (tcp(CART, REDIS, 80, kind=EventKind.CAPTURE), Skip.CAPTURE),
        (tcp(CART, REDIS, 80, kind=EventKind.DEBUG), Skip.CAPTURE),
        (tcp(CART, REDIS, 0, client_port=0), Skip.NO_L4),
        (tcp(CART, REDIS, 80, client_port=0), None),
        (icmp(CART, REDIS, 0), None),
        (icmp(CART, REDIS, 11), Skip.ICMP_ERROR),
        *((icmp(CART, REDIS, kind, protocol=V6), Skip.ICMP_ERROR) for kind in (1, 2, 3, 4)),
        *((icmp(CART, REDIS, kind, protocol=V6), Skip.NEIGHBOUR_DISCOVERY) for kind in (130, 133, 136, 137, 143)),
        *((icmp(CART, REDIS, kind, protocol=V6), None) for kind in (128, 129, 144)),
        (icmp(CART, REDIS, 133), None),
        (tcp(CART, REDIS, 80, trace_reason=TraceReason.RELATED), Skip.ICMP_ERROR),
        (tcp(CART, WORLD, 80, detail=Detail(destination_service="shop/redis")), Skip.SERVICE_ADDRESS),
        (tcp(CART, WORLD, 80, reply=True, detail=Detail(source_service="shop/redis")), Skip.SERVICE_ADDRESS),
        (tcp(CART, REDIS, 80, detail=Detail(destination_service="shop/redis")), None),
        (tcp(WORLD, REDIS, 80, detail=Detail(destination_service="shop/redis")), None),
        # Dropped before translation: there will be no other packet that shows it.
        (drop(CART, WORLD, 80, detail=Detail(destination_service="shop/redis")), None),
        (tcp(HOST, WORLD, 80), None),
        (tcp(WORLD, WORLD, 80), Skip.OUTSIDE_ONLY),
        (udp(WORLD, WORLD._replace(labels=Labels()), 80), Skip.OUTSIDE_ONLY),
    ],
)
def test_why_a_flow_is_no_edge(flow: Flow, expected: Skip | None) -> None:
    assert aggregate([flow]).coverage.skipped == ({} if expected is None else {expected: 1})


def test_an_end_is_its_labels_its_namespace_and_only_outside_its_address() -> None:
    assert endpoint_of(CART, "10.0.0.1") == Endpoint(CART.labels, "shop", "default")
    unlabelled = CART._replace(labels=Labels())
    assert endpoint_of(unlabelled, "10.0.0.1") == Endpoint(Labels(), "shop", "default", name=CART.pod)
    filtered = CART._replace(labels=Labels.of(["k8s:app=cart"]))
    assert endpoint_of(filtered, "10.0.0.1") == Endpoint(filtered.labels, "shop", "default")
    alone = CART._replace(namespace="", cluster="")
    assert endpoint_of(alone, "10.0.0.1") == Endpoint(CART.labels, "shop", "default")
    assert endpoint_of(API_SERVER, "10.0.0.1") == Endpoint(API_SERVER.labels)
    assert endpoint_of(WORLD._replace(labels=Labels()), "") == Endpoint(Labels(), address="unknown")


@pytest.mark.parametrize("label", ["cidr:192.0.2.7/32", "reserved:world-ipv4", "fqdn:api.example.com"])
def test_an_api_server_outside_is_that_and_its_address(label: str) -> None:
    labels = Labels.of(["reserved:kube-apiserver", "reserved:world", label])
    expected = Endpoint(Labels.of(["reserved:kube-apiserver", "reserved:world"]), address="192.0.2.7")
    assert endpoint_of(WORLD._replace(labels=labels), "192.0.2.7") == expected


def test_the_cluster_that_observes_is_in_the_nodes_name() -> None:
    assert observing_cluster("east/node-1") == "east"
    assert observing_cluster("node-1") == observing_cluster("") == "default"
