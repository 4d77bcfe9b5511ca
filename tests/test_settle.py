"""Settling: edges completed, directed and judged, without touching the table they come from."""

from __future__ import annotations

from copy import deepcopy

import pytest

from analyzer.aggregate import aggregate
from analyzer.model.edge import MAX_PAIRS, Edge, Endpoint, Side, Status
from analyzer.model.flow import EventKind, Flow, FlowEndpoint, Verdict
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.settle import settle
from tests.flows import START, drop, pod, tcp, udp

CART, REDIS = pod("cart"), pod("redis")
UNLABELLED = CART._replace(labels=Labels(), workloads=())


def edges(*flows: Flow, **options: frozenset[str]) -> tuple[Edge, ...]:
    return settle(aggregate(flows), **options)


def only(*flows: Flow) -> Edge:
    [edge] = edges(*flows)
    return edge


def moved(end: FlowEndpoint, cluster: str, app: str = "cart") -> FlowEndpoint:
    labels = Labels.of([f"k8s:app={app}", f"k8s:io.cilium.k8s.policy.cluster={cluster}"])
    return end._replace(labels=labels, cluster=cluster)


def test_a_pod_without_labels_is_completed_by_its_name() -> None:
    assert only(tcp(UNLABELLED, REDIS, 80), tcp(CART, REDIS, 80)).source.labels == CART.labels


def test_a_name_that_two_pods_had_completes_nothing() -> None:
    """A StatefulSet's pod whose labels changed: nobody knows which of them the flow was of."""
    other = CART._replace(labels=Labels.of(["k8s:app=other"]))
    found = edges(tcp(UNLABELLED, REDIS, 80), tcp(CART, REDIS, 80), tcp(other, REDIS, 80))
    assert [edge.source for edge in found if not edge.source.labels] == [
        Endpoint(Labels(), "shop", "default", name=CART.pod)
    ]


def test_a_pod_of_another_cluster_completes_nothing() -> None:
    east, west = moved(CART, "east"), moved(CART, "west", "cart-of-the-west")
    found = edges(tcp(UNLABELLED._replace(cluster="west"), REDIS, 80), tcp(east, REDIS, 80))
    assert len(found) == 2
    found = edges(tcp(UNLABELLED._replace(cluster="west"), REDIS, 80), tcp(east, REDIS, 80), tcp(west, REDIS, 80))
    assert {edge.source.labels for edge in found} == {east.labels, west.labels}
    unnamed = tcp(UNLABELLED._replace(cluster=""), REDIS, 80)
    assert len(edges(unnamed, tcp(east, REDIS, 80))) == 1
    assert len(edges(unnamed, tcp(east, REDIS, 80), tcp(west, REDIS, 80))) == 3


def unknown(client_port: int, port: int, **changes: object) -> Flow:
    """A UDP packet from cart to redis of which nobody knows which way it runs."""
    return udp(CART, REDIS, port, client_port=client_port, reply=None, **changes)


def turned(source_port: int, port: int) -> Flow:
    return udp(REDIS, CART, port, client_port=source_port, reply=None)


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (unknown(5000, 80), (CART, 80)),
        (unknown(80, 5000), (REDIS, 80)),
        (unknown(1023, 1024), (REDIS, 1023)),
        (turned(80, 5000), (CART, 80)),
        (turned(5000, 80), (REDIS, 80)),
        (unknown(80, 81), None),
        (unknown(5000, 5001), None),
        (unknown(50_000, 50_001), None),
    ],
)
def test_without_better_evidence_the_privileged_port_is_the_servers(
    flow: Flow, expected: tuple[FlowEndpoint, int] | None
) -> None:
    edge = only(flow)
    if expected is None:
        assert edge.status is Status.UNDIRECTED
        return
    assert (edge.source.labels, edge.l4.port) == (expected[0].labels, expected[1])
    assert edge.stats.guessed == 1
    assert not edge.stats.pairs


def test_a_known_edge_is_better_evidence_than_a_privileged_port() -> None:
    edge = only(udp(CART, REDIS, 5000), unknown(80, 5000))
    assert (edge.source.labels, edge.l4, edge.weight) == (CART.labels, L4(Protocol.UDP, 5000), 2)


def test_two_known_edges_that_a_packet_fits_are_none() -> None:
    found = edges(udp(CART, REDIS, 5000), udp(REDIS, CART, 5001), unknown(5001, 5000))
    assert sorted(edge.status for edge in found) == [Status.UNDIRECTED, Status.FORWARDED, Status.FORWARDED]


def test_packets_that_disagree_leave_the_direction_open() -> None:
    edge = only(unknown(5000, 80), unknown(80, 5000))
    assert edge.status is Status.UNDIRECTED
    assert edge.weight == 2


def test_too_many_ports_to_keep_leave_the_direction_open() -> None:
    flows = [unknown(5000 + number, 80) for number in range(MAX_PAIRS)]
    assert only(*flows).status is Status.FORWARDED
    assert only(*flows, unknown(4999, 80)).status is Status.UNDIRECTED


def test_a_turned_edge_turns_the_side_that_reported() -> None:
    """Seen at the packet's source, which turns out to be the server."""
    found = only(unknown(80, 5000, direction=2, kind=EventKind.POLICY_VERDICT, verdict=Verdict.AUDIT))
    assert found.source.labels == REDIS.labels
    assert {key.side for key in found.stats.activity} == {Side.DESTINATION}
    kept = only(unknown(5000, 80, direction=2, kind=EventKind.POLICY_VERDICT, verdict=Verdict.AUDIT))
    assert {key.side for key in kept.stats.activity} == {Side.SOURCE}


def test_settling_changes_nothing_in_the_table() -> None:
    table = aggregate([udp(CART, REDIS, 80), unknown(5000, 80), turned(5000, 80), tcp(UNLABELLED, REDIS, 80)])
    before = deepcopy(table)
    assert settle(table) == settle(table)
    assert table == before


LATER = START + 1


@pytest.mark.parametrize(
    ("flows", "status"),
    [
        ([drop(CART, REDIS, 80, reason=189)], Status.DROPPED),
        ([drop(CART, REDIS, 80, reason=0, kind=EventKind.POLICY_VERDICT)], Status.DROPPED),
        ([drop(CART, REDIS, 80, reason=0)], Status.INFRASTRUCTURE),
        ([drop(CART, REDIS, 80, reason=177)], Status.INFRASTRUCTURE),
        ([drop(CART, REDIS, 80, reason=155), drop(CART, REDIS, 80)], Status.DROPPED),
        ([drop(CART, REDIS, 80), drop(CART, REDIS, 80, reason=181)], Status.DENIED),
        ([tcp(CART, REDIS, 80, time=LATER), drop(CART, REDIS, 80, reason=181)], Status.FORWARDED),
        ([tcp(CART, REDIS, 80), drop(CART, REDIS, 80, time=LATER, reason=155)], Status.FORWARDED),
        # A proxy's refusal, which comes later and has no reason, is no drop of the connection, nor is an error of it.
        ([tcp(CART, REDIS, 80), drop(CART, REDIS, 80, reason=0, kind=EventKind.L7, time=LATER)], Status.FORWARDED),
        ([tcp(CART, REDIS, 80), drop(CART, REDIS, 80, reason=133, kind=EventKind.L7, time=LATER)], Status.FORWARDED),
        ([udp(CART, REDIS, 80, kind=EventKind.L7, verdict=Verdict.ERROR, direction=1)], Status.FORWARDED),
        ([drop(CART, REDIS, 80), drop(CART, REDIS, 80, reason=0, kind=EventKind.L7, time=LATER)], Status.DROPPED),
        # Audit mode on one side, an earlier drop on the other.
        ([tcp(CART, REDIS, 80, verdict=Verdict.AUDIT, kind=EventKind.POLICY_VERDICT, direction=2, time=LATER),
          tcp(CART, REDIS, 80, time=LATER), drop(CART, REDIS, 80)], Status.AUDITED),
    ],
)  # fmt: skip
def test_status(flows: list[Flow], status: Status) -> None:
    assert only(*flows).status is status
