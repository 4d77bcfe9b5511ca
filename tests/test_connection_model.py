"""The connection model: one connection is one edge, whoever reports it and whichever way the packet runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.aggregate import Aggregator, aggregate
from analyzer.model.edge import CROWD, Edge, EdgeTable, Endpoint, Side, Status
from analyzer.model.flow import (
    Detail,
    DnsRecord,
    EventKind,
    Flow,
    HttpRecord,
    LostEvents,
    NodeStatus,
    PolicyRef,
    Skip,
    TraceReason,
    Verdict,
)
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.settle import settle
from tests.flows import (
    ACK,
    API_SERVER,
    HOST,
    REMOTE_NODE,
    RST,
    START,
    SYN,
    SYN_ACK,
    WORLD,
    drop,
    icmp,
    pod,
    remote,
    tcp,
    udp,
)

CART, REDIS = pod("cart"), pod("redis")
HTTP = L4(Protocol.TCP, 8080)


def edges(*flows: Flow, **options: frozenset[str]) -> tuple[Edge, ...]:
    return settle(aggregate(flows), **options)


def only(*flows: Flow, **options: frozenset[str]) -> Edge:
    found = edges(*flows, **options)
    assert len(found) == 1, found
    return found[0]


def test_request_and_reply_are_one_edge_from_the_client() -> None:
    edge = only(tcp(CART, REDIS, 8080), tcp(CART, REDIS, 8080, reply=True))
    assert (edge.source.labels, edge.destination.labels, edge.l4) == (CART.labels, REDIS.labels, HTTP)
    assert (edge.weight, edge.status) == (2, Status.FORWARDED)


def test_both_nodes_report_one_edge_and_the_workloads_are_completed() -> None:
    edge = only(tcp(CART, remote(REDIS), 8080, sub_type=4), tcp(remote(CART), REDIS, 8080, node="node-2"))
    assert edge.source_workloads == CART.workloads
    assert edge.destination_workloads == REDIS.workloads
    assert {key.side for key in edge.stats.activity} == {Side.SOURCE, Side.DESTINATION}


def test_pods_of_one_workload_and_their_client_ports_are_one_edge() -> None:
    flows = [tcp(pod("cart", number=n), REDIS, 8080, client_port=40_000 + n) for n in range(20)]
    assert only(*flows).weight == 20


def test_the_traffic_direction_of_a_trace_is_not_believed() -> None:
    for direction in (0, 1, 2):
        edge = only(tcp(remote(CART), REDIS, 8080, direction=direction))
        assert (edge.source.labels, edge.destination.labels) == (CART.labels, REDIS.labels)
        assert {key.side for key in edge.stats.activity} == {Side.DESTINATION}


@pytest.mark.parametrize(
    ("changes", "reply"),
    [
        ({"trace_reason": TraceReason.REPLY, "tcp_flags": ACK}, True),
        ({"trace_reason": TraceReason.NEW, "tcp_flags": SYN}, False),
        ({"tcp_flags": SYN}, False),
        ({"tcp_flags": SYN_ACK}, True),
        ({"tcp_flags": ACK}, False),
    ],
)
def test_unknown_is_reply_falls_back(changes: dict[str, int], reply: bool) -> None:
    """Trace reason, SYN flag, then the only ephemeral port of the two."""
    client, server = (REDIS, CART) if reply else (CART, REDIS)
    ports = (8080, 40_000) if reply else (40_000, 8080)
    values = {"trace_reason": 0, **changes}
    flow = tcp(CART, REDIS, ports[1], **values).replace(source_port=ports[0], is_reply=None)
    found = settle(aggregate([flow]))[0]
    assert (found.source.labels, found.destination.labels, found.l4) == (client.labels, server.labels, HTTP)


def test_a_server_port_above_32768_proven_by_a_syn_is_the_servers() -> None:
    assert only(drop(CART, REDIS, 50_000)).l4 == L4(Protocol.TCP, 50_000)
    assert only(tcp(CART, REDIS, 50_000)).l4 == L4(Protocol.TCP, 50_000)


def test_two_ephemeral_ports_without_any_evidence_stay_undirected() -> None:
    edge = only(udp(CART, REDIS, 50_000, reply=None))
    assert edge.status is Status.UNDIRECTED
    assert not edge.accepted
    assert edge.l4 == L4(Protocol.UDP)


def test_an_undirected_edge_joins_the_directed_one_it_fits() -> None:
    known = udp(CART, REDIS, 50_000)
    back = udp(REDIS, CART, 40_000, reply=None, client_port=50_000)
    edge = only(known, back)
    assert (edge.weight, edge.l4, edge.source.labels) == (2, L4(Protocol.UDP, 50_000), CART.labels)
    assert edge.stats.guessed == 1


def test_a_dropped_udp_reply_is_no_connection_to_the_clients_port() -> None:
    edge = only(drop(REDIS, CART, 40_000, protocol=Protocol.UDP, tcp_flags=0, client_port=53))
    assert (edge.source.labels, edge.l4, edge.stats.guessed) == (CART.labels, L4(Protocol.UDP, 53), 1)


def test_an_echo_reply_belongs_to_the_request() -> None:
    request = icmp(CART, REDIS, 8)
    answer = icmp(REDIS, CART, 0, reply=None)
    assert only(request, answer).l4 == L4(Protocol.ICMP, 8)
    assert only(icmp(REDIS, CART, 0, reply=None)).source.labels == CART.labels


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (tcp(CART, REDIS, 80, kind=EventKind.TRACE_SOCK, verdict=Verdict.TRACED), Skip.SOCKET),
        (tcp(CART, REDIS, 80, verdict=Verdict.TRANSLATED), Skip.SOCKET),
        (tcp(CART, REDIS, 80, kind=EventKind.CAPTURE, verdict=0), Skip.CAPTURE),
        (tcp(CART, REDIS, 80, protocol=None), Skip.NO_L4),
        (icmp(REDIS, CART, 3), Skip.ICMP_ERROR),
        (icmp(REDIS, CART, 8, trace_reason=TraceReason.RELATED), Skip.ICMP_ERROR),
        (icmp(REDIS, CART, 135, protocol=Protocol.ICMPV6), Skip.NEIGHBOUR_DISCOVERY),
        (tcp(WORLD, WORLD, 80), Skip.OUTSIDE_ONLY),
        (tcp(WORLD._replace(labels=Labels()), WORLD._replace(labels=Labels()), 80), Skip.NO_ENDPOINT),
        (tcp(CART, WORLD, 80, detail=Detail(destination_service="shop/redis")), Skip.SERVICE_ADDRESS),
        (LostEvents("node-1", START, 3, 7), Skip.LOST_EVENTS),
        (NodeStatus(("node-1",), START, 1), Skip.NODE_STATUS),
        (Skip.MALFORMED, Skip.MALFORMED),
    ],
)
def test_what_is_no_edge_is_counted_under_its_reason(flow: Flow, reason: Skip) -> None:
    table = aggregate([flow])
    assert not table.edges
    assert dict(table.coverage.skipped) == {reason: 1}
    assert table.coverage.records == 1


def test_lost_events_are_counted_by_their_number() -> None:
    table = aggregate([LostEvents("node-1", START, 3, 7), LostEvents("node-1", START, 3, 5)])
    assert table.coverage.lost == {("node-1", 3): 12}


def test_aggregated_records_weigh_what_they_stand_for() -> None:
    edge = only(tcp(CART, REDIS, 8080, weight=41, aggregated=True))
    assert (edge.weight, edge.stats.uncertain) == (41, 41)


@pytest.mark.parametrize(
    ("flows", "status"),
    [
        ([tcp(CART, REDIS, 80, tcp_flags=SYN)], Status.UNANSWERED),
        ([tcp(CART, REDIS, 80, tcp_flags=SYN), tcp(CART, REDIS, 80, reply=True, tcp_flags=RST)], Status.UNANSWERED),
        ([tcp(CART, REDIS, 80, tcp_flags=SYN), tcp(CART, REDIS, 80, reply=True, tcp_flags=SYN_ACK)], Status.FORWARDED),
        ([tcp(CART, REDIS, 80, tcp_flags=ACK)], Status.FORWARDED),
        ([udp(CART, REDIS, 53)], Status.FORWARDED),
        ([drop(CART, REDIS, 80)], Status.DROPPED),
        ([drop(CART, REDIS, 80, reason=181)], Status.DENIED),
        ([drop(CART, REDIS, 80, reason=155)], Status.INFRASTRUCTURE),
        ([drop(CART, REDIS, 80, reason=155), tcp(CART, REDIS, 80)], Status.FORWARDED),
        ([drop(CART, REDIS, 80), tcp(CART, REDIS, 80, time=START + 1)], Status.FORWARDED),
        ([drop(CART, REDIS, 80, time=START + 1), tcp(CART, REDIS, 80)], Status.DROPPED),
        ([tcp(CART, remote(REDIS), 80, time=START + 9), drop(remote(CART), REDIS, 80)], Status.DROPPED),
        (
            [tcp(CART, REDIS, 80, kind=EventKind.POLICY_VERDICT, verdict=Verdict.AUDIT, direction=1), tcp(CART, REDIS, 80)],
            Status.AUDITED,
        ),
        ([tcp(CART, REDIS, 80, kind=EventKind.POLICY_VERDICT, verdict=Verdict.REDIRECTED), tcp(CART, REDIS, 80)],
         Status.FORWARDED),
        ([tcp(CART, REDIS, 80), tcp(CART, REDIS, 80, kind=EventKind.L7, verdict=Verdict.DROPPED, direction=1, time=START + 1)],
         Status.FORWARDED),
    ],
)  # fmt: skip
def test_status_per_side_and_by_time(flows: list[Flow], status: Status) -> None:
    """Per side a later policy drop outweighs AUDIT, which outweighs forwarded; only answered TCP is accepted."""
    edge = only(*flows)
    assert edge.status is status
    assert edge.accepted == (status in (Status.FORWARDED, Status.AUDITED))


def test_dropped_traffic_counts_only_on_request_and_denies_never() -> None:
    asked = {"include_verdicts": frozenset({"DROPPED"})}
    assert only(drop(CART, REDIS, 80), **asked).accepted
    assert not only(drop(CART, REDIS, 80, reason=181), **asked).accepted
    assert not only(drop(CART, REDIS, 80, reason=155), **asked).accepted


def test_reserved_identities_are_keyed_by_their_entity_alone() -> None:
    labelled = REMOTE_NODE._replace(labels=Labels.of(["reserved:remote-node", "node:zone=a"]))
    assert only(tcp(REMOTE_NODE, REDIS, 80), tcp(labelled, REDIS, 80)).source == Endpoint(REMOTE_NODE.labels)
    assert only(tcp(HOST, REDIS, 80)).source == Endpoint(HOST.labels)
    assert only(tcp(CART, API_SERVER, 443)).destination == Endpoint(API_SERVER.labels)


def test_an_outside_peer_is_world_and_its_address_whatever_its_policy_labels() -> None:
    named = WORLD._replace(labels=Labels.of(["cidr:198.51.100.7/32", "fqdn:api.example.com", "reserved:world"]))
    plain = tcp(CART, WORLD, 443, destination_ip="198.51.100.7")
    edge = only(plain, tcp(CART, named, 443, destination_ip="198.51.100.7"))
    assert edge.destination == Endpoint(Labels.of(["reserved:world"]), address="198.51.100.7")
    assert list(edge.stats.names) == ["api.example.com"]
    assert edge.stats.unnamed == 1


def test_a_crowd_of_clients_becomes_prefixes_and_loses_no_weight() -> None:
    clients = [f"{10 + n % 200}.{n // 200}.{n % 7}.{n % 250}" for n in range(5_000)]
    table = aggregate(tcp(WORLD, REDIS, 443, source_ip=address) for address in clients)
    assert len(table.edges) <= CROWD
    assert sum(stats.weight for stats in table.edges.values()) == 5_000
    assert {key.source.address.partition("/")[2] for key in table.edges} == {"8"}


def test_two_shapes_share_a_crowd_that_is_truncated_under_both() -> None:
    """A shape that remembers a cell must notice that another shape made its crowd too large."""
    seen = [tcp(WORLD, REDIS, 443, source_ip="203.0.113.9", tcp_flags=flags) for flags in (SYN, ACK)]
    crowd = [tcp(WORLD, REDIS, 443, source_ip=f"198.{n % 250}.{n // 250}.1", tcp_flags=SYN) for n in range(400)]
    table = aggregate([*seen, *crowd, *seen])
    assert sum(stats.weight for stats in table.edges.values()) == 404


def test_dns_answers_name_addresses_and_nxdomain_names_nothing() -> None:
    resolver = pod("coredns", "kube-system")
    good = Detail(dns=DnsRecord("api.example.com", ("198.51.100.7",)), l7_type=2)
    bad = Detail(dns=DnsRecord("api.example.com.shop.svc.cluster.local", rcode=3), l7_type=2)
    flows = [
        udp(CART, resolver, 53, reply=True, kind=EventKind.L7, direction=2, trace_reason=0, detail=detail)
        for detail in (good, bad)
    ]
    table = aggregate(flows)
    assert list(table.answers) == [("default", "198.51.100.7", "api.example.com")]
    (edge,) = settle(table)
    assert list(edge.stats.queries) == ["api.example.com"]


@pytest.mark.parametrize("ips", [(), ("198.51.100.7",)])
@pytest.mark.parametrize(("told", "source_port", "destination_port"), [(True, 42_270, 53), (False, 53, 42_270)])
def test_the_side_of_port_53_is_the_server_in_what_the_dns_proxy_says(
    ips: tuple[str, ...], told: bool, source_port: int, destination_port: int
) -> None:
    """Seen of agents of 1.20: a record of type RESPONSE, `is_reply` true, from the client to port 53."""
    resolver = pod("coredns", "kube-system", local=False)
    ends = (CART, resolver) if destination_port == 53 else (resolver, CART)
    record = udp(
        *ends, destination_port, client_port=source_port, kind=EventKind.L7, direction=2, trace_reason=0,
        detail=Detail(dns=DnsRecord("api.example.com", ips), l7_type=2),
    ).replace(is_reply=told)  # fmt: skip
    edge = only(record)
    assert (edge.source.labels, edge.destination.labels) == (CART.labels, resolver.labels)
    assert edge.l4 == L4(Protocol.UDP, 53)
    assert {key.side for key in edge.stats.activity} == {Side.SOURCE}
    # A name that was answered; the query alone proves nothing.
    assert list(edge.stats.queries) == (["api.example.com"] if ips or source_port == 53 else [])


def test_other_records_of_the_proxy_are_believed() -> None:
    """HTTP on port 53, and DNS on another port: the record's own word counts."""
    http = Detail(http=HttpRecord("GET", "/"), l7_type=2)
    flow = tcp(CART, REDIS, 53, reply=True, kind=EventKind.L7, direction=2, detail=http)
    assert only(flow).l4 == L4(Protocol.TCP, 53)
    assert only(flow.replace(is_reply=False)).l4 == L4(Protocol.TCP, 40_000)
    dns = Detail(dns=DnsRecord("api.example.com"), l7_type=2)
    assert only(udp(CART, REDIS, 5353, reply=True, kind=EventKind.L7, direction=2, detail=dns)).l4.port == 5353


def test_policies_named_by_a_verdict_are_evidence() -> None:
    policy = PolicyRef("CiliumNetworkPolicy", "shop", "redis")
    verdict = tcp(
        CART, REDIS, 80, kind=EventKind.POLICY_VERDICT, direction=1, detail=Detail(ingress_allowed_by=(policy,))
    )
    assert only(verdict).stats.allowed_by.items == {("INGRESS", *policy): 1}


def test_a_pod_known_only_by_name_is_completed_from_its_own_node() -> None:
    masked = CART._replace(labels=Labels(), endpoint_id=0, workloads=(), identity=0)
    edge = only(tcp(masked, REDIS, 80), tcp(CART, REDIS, 80))
    assert edge.source.labels == CART.labels
    assert edge.weight == 2


def test_clusters_stay_apart_by_the_node_that_observes() -> None:
    found = edges(tcp(CART, REDIS, 80, node="east/n1"), tcp(CART, REDIS, 80, node="west/n1"))
    assert [edge.cluster for edge in found] == ["east", "west"]


FLOWS = st.builds(
    lambda client, server, port, reply, kind, address, second, count: (
        drop(client, server, port, time=START + second * 10**9, source_ip=address)
        if kind == "drop"
        else tcp(
            client, server, port, reply=reply, time=START + second * 10**9, source_ip=address, weight=count,
            uuid=f"{second:08d}-{port}",
        )
    ),
    st.sampled_from([CART, pod("web"), WORLD, HOST, remote(CART), CART._replace(labels=Labels())]),
    st.sampled_from([REDIS, remote(REDIS), pod("redis", "batch")]),
    st.sampled_from([80, 8080, 40_001]),
    st.sampled_from([False, True, None]),
    st.sampled_from(["trace", "drop"]),
    st.integers(0, 40).map(lambda n: f"198.51.{n % 5}.{n}"),
    st.integers(0, 200_000),
    st.integers(1, 3),
)  # fmt: skip


@given(st.lists(FLOWS, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_spilling_anywhere_changes_nothing(flows: list[Flow], cuts: list[int]) -> None:
    """aggregate(xs + ys) = merge(aggregate xs, aggregate ys), in any order of the parts."""
    whole = aggregate(flows)
    assert whole.coverage.records == len(flows)
    aggregator = Aggregator()
    parts = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(flows)], strict=True):
        aggregator.add_records(flows[start:end])
        parts.append(aggregator.take())
    for order in (parts, parts[::-1]):
        merged = EdgeTable()
        for part in order:
            merged.merge(part)
        assert merged == whole
        assert settle(merged) == settle(whole)


@given(st.lists(FLOWS, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_records_is_irrelevant(flows: list[Flow], random: object) -> None:
    shuffled = list(flows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert aggregate(shuffled) == aggregate(flows)


@given(st.lists(FLOWS, max_size=40))
def test_no_client_port_becomes_an_edge(flows: list[Flow]) -> None:
    assert {edge.l4.port for edge in settle(aggregate(flows)) if edge.accepted} <= {80, 8080, 40_001}
