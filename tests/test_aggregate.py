"""Aggregation: what is remembered to be fast changes nothing, and what an edge keeps as evidence."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import aggregate as aggregation
from analyzer import shapes
from analyzer.aggregate import Aggregator, aggregate
from analyzer.evidence import MAX_TEXT
from analyzer.model.edge import DAY, EdgeStats, EdgeTable
from analyzer.model.flow import (
    Detail,
    DnsRecord,
    EventKind,
    Flow,
    HttpRecord,
    Skip,
    TraceReason,
    Verdict,
)
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from tests.flows import ACK, HOST, RST, START, SYN, SYN_ACK, WORLD, drop, kept, pod, remote, tcp, udp

CART, REDIS = pod("cart"), pod("redis")
GHOST = WORLD._replace(pod="cart-1", namespace="shop")
SERVICE, OTHER_SERVICE = Detail(destination_service="shop/redis"), Detail(destination_service="shop/other")
NAMED = Detail(destination_names=("api.example.com",), source_names=("www.example.com",))
HTTP = Detail(http=HttpRecord("GET", "/a", "cart"), l7_type=1)
DNS = Detail(dns=DnsRecord("api.example.com", ("198.51.100.7",)), l7_type=2)


def varied(**given: object) -> Flow:
    values = {key: value for key, value in given.items() if key not in ("ends", "ports", "reply", "keep")}
    source, destination = given["ends"]  # type: ignore[misc]
    client, server = given["ports"]  # type: ignore[misc]
    made = tcp(source, destination, server, client_port=client, reply=given["reply"], **values)  # type: ignore[arg-type]
    return kept(made) if given["keep"] else made


PEERS = [CART, remote(CART), pod("cart", number=3), pod("web"), WORLD, GHOST, HOST, CART._replace(labels=Labels())]
VARIED = st.builds(
    varied,
    ends=st.tuples(st.sampled_from(PEERS), st.sampled_from([REDIS, remote(REDIS)])),
    ports=st.sampled_from([(40_000, 80), (40_001, 80), (50_000, 50_001), (80, 80), (80, 40_000), (53, 40_000)]),
    reply=st.sampled_from([False, True, None]),
    time=st.sampled_from([START, START + 5, START + DAY, START - DAY]),
    node=st.sampled_from(["node-1", "node-2", "east/node-1"]),
    protocol=st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP]),
    tcp_flags=st.sampled_from([SYN, ACK, SYN_ACK, RST, 0]),
    verdict=st.sampled_from([Verdict.FORWARDED, Verdict.DROPPED, Verdict.AUDIT, Verdict.TRACED]),
    kind=st.sampled_from([EventKind.TRACE, EventKind.DROP, EventKind.POLICY_VERDICT, EventKind.L7]),
    sub_type=st.sampled_from([0, 3, 133]),
    drop_reason=st.sampled_from([0, 133, 181]),
    direction=st.sampled_from([0, 1, 2]),
    trace_reason=st.sampled_from([0, 3, 4]),
    source_ip=st.sampled_from(["10.0.0.1", "192.0.2.7", "2001:db8::7", ""]),
    weight=st.sampled_from([1, 7]),
    aggregated=st.booleans(),
    uuid=st.sampled_from(["", "a", "b"]),
    detail=st.sampled_from([None, None, SERVICE, OTHER_SERVICE, NAMED, HTTP, DNS]),
    keep=st.booleans(),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(VARIED, min_size=1, max_size=12))
def test_what_was_met_before_changes_nothing(flows: list[Flow]) -> None:
    """One aggregator that remembers shapes and ends gives what a fresh one for each flow gives. Every flow comes twice."""
    expected = EdgeTable()
    for flow in flows * 2:
        expected.merge(aggregate([flow]))
    assert aggregate(flows * 2) == expected


BASES = [
    tcp(CART, REDIS, 80, tcp_flags=SYN),
    tcp(CART, REDIS, 80, reply=True, tcp_flags=SYN_ACK),
    tcp(CART, REDIS, 50_000, reply=None, tcp_flags=0),
    tcp(CART, WORLD, 443),
    tcp(remote(CART), REDIS, 80, kind=EventKind.POLICY_VERDICT, direction=1),
    udp(WORLD, REDIS, 53, kind=EventKind.L7, direction=2),
    drop(CART, REDIS, 80),
]
OTHER = {
    "time": [START + DAY], "node": ["node-2", "east/node-1"], "source": PEERS, "destination": PEERS,
    "source_ip": ["192.0.2.7", "2001:db8::7"], "destination_ip": ["192.0.2.7", "2001:db8::7"],
    "protocol": [Protocol.UDP, Protocol.SCTP, Protocol.ICMP, None], "source_port": [53, 40_002],
    "destination_port": [53, 40_002], "tcp_flags": [SYN, ACK, SYN_ACK, RST, 0], "verdict": [2, 4, 6],
    "kind": [1, 3, 4, 5, 7, 129], "sub_type": [3], "drop_reason": [0, 133, 181], "direction": [0, 1, 2],
    "is_reply": [True, False, None], "trace_reason": [0, 3, 4], "uuid": ["a"], "weight": [9], "aggregated": [True],
    "detail": [SERVICE, OTHER_SERVICE, NAMED, HTTP, DNS],
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_no_field_is_missing_from_what_tells_shapes_apart(field: str) -> None:
    """A flow, and then one that differs from it in a single field."""
    for flow in BASES:
        for value in OTHER[field]:
            other = flow.replace(**{field: value})
            expected = aggregate([flow])
            expected.merge(aggregate([other]))
            for one, two in ((flow, other), (kept(flow), kept(other))):
                assert aggregate([one, two]) == expected, (flow, value)
                assert aggregate([two, one]) == expected, (flow, value)


@given(flows=st.lists(VARIED, max_size=20))
def test_forgetting_changes_nothing(flows: list[Flow]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "MAX_SHAPES", 2)
        patch.setattr(aggregation, "MAX_ENDS", 2)
        patch.setattr(aggregation, "MAX_SPOTS", 2)
        patch.setattr(shapes, "MAX_MANNERS", 2)
        forgetful = aggregate(flows)
    assert forgetful == aggregate(flows)


@settings(deadline=None)
@given(st.lists(st.lists(VARIED, max_size=8), max_size=8), st.integers(1, 4), st.randoms(use_true_random=False))
def test_what_was_handed_out_adds_up(parts: list[list[Flow]], room: int, random: Random) -> None:
    """Taking the table after every part, and merging in any order, is as good as never taking it; so it is with little
    room. Every part comes twice, so that the second table meets what only the memory of the first one knows."""
    flows = [flow for part in parts * 2 for flow in part]
    for limit in (room, aggregation.MAX_SHAPES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aggregation, "MAX_SHAPES", limit)
            patch.setattr(aggregation, "MAX_ENDS", limit)
            patch.setattr(aggregation, "MAX_SPOTS", limit)
            aggregator, taken = Aggregator(), []
            for part in parts * 2:
                aggregator.add_records(part)
                taken.append(aggregator.take())
        for table, part in zip(taken, parts * 2, strict=True):
            assert table == aggregate(part)
        random.shuffle(taken)
        merged = EdgeTable()
        for table in taken:
            merged.merge(table)
        assert merged == aggregate(flows)


def test_numbers_that_mean_nothing_do_not_fill_the_memory() -> None:
    """Flags of every kind and an end for every packet, as somebody might send who wants the memory to grow."""
    aggregator = Aggregator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "MAX_SHAPES", 50)
        patch.setattr(aggregation, "MAX_ENDS", 50)
        patch.setattr(aggregation, "MAX_SPOTS", 50)
        patch.setattr(shapes, "MAX_MANNERS", 50)
        aggregator.add_records(kept(tcp(CART, REDIS, 80, sub_type=number)) for number in range(60))
        [day] = aggregator._days.values()
        assert len(day.spots) <= 50
        aggregator.add_records(
            kept(tcp(CART._replace(identity=number), REDIS, number % 200 + 1, tcp_flags=number % 512, sub_type=number))
            for number in range(1_000)
        )
    known = [aggregator._shapes.ends, aggregator._shapes.manners, aggregator._tokens, *aggregator._places.values()]
    known += [day.spots for day in aggregator._days.values()]
    assert all(len(each) <= 51 for each in known)
    assert aggregator.table.coverage.edge_records == 1_060


def test_packets_that_mean_the_same_share_a_shape() -> None:
    aggregator = Aggregator()
    aggregator.add_records(
        tcp(CART, REDIS, 80, client_port=port, tcp_flags=ACK | port % 16) for port in range(40_000, 40_064)
    )
    [places] = aggregator._places.values()
    assert len(places) == 1


def test_a_form_that_is_kept_is_worked_out_once() -> None:
    aggregator = Aggregator()
    with pytest.MonkeyPatch.context() as patch:
        met = []
        patch.setattr(Aggregator, "_spot", lambda *args, found=Aggregator._spot: met.append(args) or found(*args))
        aggregator.add_records(kept(tcp(CART, REDIS, 80, client_port=port)) for port in range(40_000, 40_064))
    assert len(met) == 1
    assert aggregator.table == aggregate(tcp(CART, REDIS, 80, client_port=port) for port in range(40_000, 40_064))


@pytest.mark.parametrize(
    "flows",
    [
        # The numbers of the ports tell the way of the first, and of the second they tell nothing.
        [udp(CART, REDIS, 40_000, client_port=80, reply=None), udp(CART, REDIS, 81, client_port=80, reply=None)],
        # Replies of two servers, the second to a client at the first one's port.
        [tcp(CART, REDIS, 80, reply=True), tcp(CART, REDIS, 81, client_port=80, reply=True)],
        # DNS responses by their type, of which the second runs from the client to port 53.
        [
            udp(CART, REDIS, 53, reply=True, kind=EventKind.L7, direction=1, detail=DNS),
            udp(REDIS, CART, 9, client_port=53, reply=None, kind=EventKind.L7, direction=1, detail=DNS).replace(
                is_reply=True, trace_reason=TraceReason.REPLY
            ),
            udp(REDIS, CART, 53, client_port=53, kind=EventKind.L7, direction=1, detail=DNS).replace(
                is_reply=True, trace_reason=TraceReason.REPLY
            ),
        ],
        # Ports that are masked, on one side or on both.
        [tcp(CART, REDIS, 0), tcp(CART, REDIS, 0, client_port=0), tcp(CART, REDIS, 80)],
    ],
)
def test_what_the_ports_tell_is_asked_of_each_flow_of_a_form(flows: list[Flow]) -> None:
    for order in (flows, flows[::-1]):
        assert aggregate(map(kept, order)) == aggregate(order)


def test_ports_of_one_form_in_turn_do_not_fill_the_memory() -> None:
    aggregator = Aggregator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "MAX_SPOTS", 3)
        patch.setattr(Aggregator, "_forget_spots", lambda self: pytest.fail("forgotten"))
        aggregator.add_records(kept(tcp(CART, REDIS, 80 + number % 2)) for number in range(20))
    assert len(aggregator.table) == 2


def test_forms_that_are_not_kept_are_not_remembered() -> None:
    aggregator = Aggregator()
    aggregator.add_records([tcp(CART, REDIS, 80), tcp(CART, REDIS, 81)])
    [day] = aggregator._days.values()
    assert not day.spots


def test_a_mask_on_one_port_leaves_a_packet_with_layer_4() -> None:
    """Only when both ports are missing is there nothing to go by, whichever of the two comes first."""
    one = tcp(CART, REDIS, 0, reply=True)
    none = one.replace(destination_port=0)
    for flows in ([one, none], [none, one]):
        coverage = aggregate(flows).coverage
        assert (coverage.edge_records, coverage.skipped) == (1, {Skip.NO_L4: 1})


@given(st.lists(st.one_of(VARIED, st.sampled_from([*Skip])), max_size=30))
def test_every_record_is_part_of_an_edge_or_counted(records: list[Flow | Skip]) -> None:
    table = aggregate(records)
    assert table.coverage.records == len(records)
    weight = sum(stats.weight for stats in table.edges.values())
    assert table.coverage.edge_records <= weight <= 7 * len(records)


def stats_of(*flows: Flow) -> EdgeStats:
    [stats] = aggregate(flows).edges.values()
    return stats


@pytest.mark.parametrize(
    ("flow", "answered", "resets"),
    [
        (tcp(CART, REDIS, 80, tcp_flags=SYN), 0, 0),
        (tcp(CART, REDIS, 80, tcp_flags=ACK), 7, 0),
        (tcp(CART, REDIS, 80, tcp_flags=ACK | SYN), 0, 0),
        (tcp(CART, REDIS, 80, tcp_flags=RST), 0, 0),
        (tcp(CART, REDIS, 80, tcp_flags=0), 0, 0),
        (tcp(CART, REDIS, 80, reply=True, tcp_flags=SYN_ACK), 7, 0),
        (tcp(CART, REDIS, 80, reply=True, tcp_flags=RST), 0, 7),
        (tcp(CART, REDIS, 80, reply=True, tcp_flags=0), 7, 0),
        (tcp(CART, REDIS, 80, tcp_flags=ACK, verdict=Verdict.DROPPED), 0, 0),
        (tcp(CART, REDIS, 80, reply=True, tcp_flags=ACK, verdict=Verdict.DROPPED), 0, 0),
        (tcp(CART, REDIS, 80, kind=EventKind.L7, tcp_flags=0), 7, 0),
        (udp(CART, REDIS, 80), 0, 0),
        (udp(CART, REDIS, 80, reply=True), 7, 0),
    ],
)
def test_what_proves_an_answer(flow: Flow, answered: int, resets: int) -> None:
    """A reply that is no reset, or a request past the handshake; each by its weight."""
    stats = stats_of(flow.replace(weight=7))
    assert (stats.answered, stats.resets) == (answered, resets)


@pytest.mark.parametrize(("code", "verdict"), [(0, 1), (200, 1), (503, 1), (403, 2)])
def test_a_request_that_was_refused_is_no_request_that_was_made(code: int, verdict: int) -> None:
    detail = Detail(http=HttpRecord("GET", "/a", "cart", code), l7_type=2)
    stats = stats_of(tcp(CART, REDIS, 80, reply=True, kind=EventKind.L7, direction=2, detail=detail))
    assert list(stats.http) == [("GET", "/a", "cart", str(verdict))]


def test_a_pod_that_is_taken_for_the_world_is_a_conflict() -> None:
    assert stats_of(tcp(GHOST, REDIS, 80, weight=3)).conflicting == 3
    assert stats_of(tcp(CART, GHOST, 80, weight=3)).conflicting == 3
    assert stats_of(tcp(WORLD, REDIS, 80)).conflicting == 0


def test_a_service_address_is_remembered_for_the_service_it_is_of() -> None:
    table = aggregate([tcp(CART, WORLD, 443, destination_ip="10.96.0.1", weight=3, detail=SERVICE)])
    assert table.coverage.skipped == {Skip.SERVICE_ADDRESS: 1}
    assert table.service_addresses.items == {("default", "10.96.0.1", "443/TCP", "shop/redis"): 3}


def test_services_are_evidence_of_the_server() -> None:
    assert stats_of(tcp(CART, REDIS, 80, detail=SERVICE)).services.items == {"shop/redis": 1}
    reply = tcp(CART, REDIS, 80, reply=True, detail=Detail(source_service="shop/redis"))
    assert stats_of(reply).services.items == {"shop/redis": 1}


def test_names_of_outside_peers_are_kept_and_their_lack_is_weighed() -> None:
    named = tcp(CART, WORLD, 443, destination_ip="198.51.100.7", detail=NAMED, weight=2)
    plain = named.replace(detail=None, weight=5)
    stats = stats_of(named, plain)
    assert (stats.names.items, stats.unnamed) == ({"api.example.com": 2}, 5)
    back = tcp(CART, WORLD, 443, destination_ip="198.51.100.7", reply=True, detail=NAMED)
    assert stats_of(back).names.items == {"www.example.com": 1}
    assert not list(stats_of(tcp(CART, REDIS, 80, detail=NAMED)).names)


def test_evidence_that_is_too_long_is_left_out_and_said_so() -> None:
    long = "a" * (MAX_TEXT + 1)
    http = stats_of(tcp(CART, REDIS, 80, kind=EventKind.L7, detail=Detail(http=HttpRecord("GET", long), l7_type=1)))
    name = stats_of(tcp(CART, WORLD, 80, detail=Detail(destination_names=(long,))))
    query = stats_of(udp(CART, REDIS, 53, reply=True, kind=EventKind.L7, detail=Detail(dns=DnsRecord(long), l7_type=2)))
    for found in (http.http, name.names, query.queries):
        assert found.overflow
        assert not list(found)


def test_drops_have_a_cell_of_their_own_by_reason() -> None:
    stats = stats_of(drop(CART, REDIS, 80), drop(CART, REDIS, 80, reason=181), tcp(CART, REDIS, 80))
    assert sorted((key.verdict, key.reason) for key in stats.activity) == [(1, 0), (2, 133), (2, 181)]


def test_an_aggregator_hands_out_its_table_and_starts_anew() -> None:
    aggregator = Aggregator()
    flow = tcp(CART, REDIS, 80, detail=SERVICE)
    aggregator.add_records([flow])
    first = aggregator.take()
    aggregator.add_records([flow])
    assert first == aggregator.take() == aggregate([flow])
    assert aggregator.take() == EdgeTable()
