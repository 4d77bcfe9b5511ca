"""Port ranges: only where there is evidence for one, never wider than what was seen, and never across a rule on requests."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inventories import from_edges
from analyzer.manifests import dump
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.policy import parse
from analyzer.recommend import L7, Options, Proposal, Settings, Topic, recommend
from analyzer.recommend.draft import CidrPeer, Span
from analyzer.recommend.knp import network_policies
from analyzer.recommend.ranges import dense, near
from analyzer.verify import check_proposal
from tests.recommend.build import CART, REDIS, REMOTE_NODE, allows, edge, outside, pod
from tests.recommend.test_laws import validator

DATA = [30_000, 30_012, 30_013, 30_027, 30_031, 30_044, 30_052, 30_060]
ROW = list(range(7001, 7012))


def used(ports: Iterable[int], client: Endpoint = CART, server: Endpoint = REDIS, **changes: Any) -> list[Edge]:
    return [edge(client, server, f"{port}/TCP", **changes) for port in ports]


def made(seen: Sequence[Edge], **options: Any) -> Proposal:
    """The proposal, after the engine agreed that it is sound, minimal and valid."""
    proposal = recommend(seen, options=Options(**options))
    checked = check_proposal(proposal, seen, from_edges(seen))
    assert checked.passed, checked
    assert checked.minimal, checked.idle
    for document in proposal.documents():
        validator().validate(document)
    return proposal


def ports(proposal: Proposal, subject: str = "cart", section: str = "egress") -> list[str]:
    found = next(each for each in proposal.documents() if each["metadata"]["name"] == subject)
    return [_told(port) for rule in found["spec"][section] for port in rule["toPorts"][0]["ports"]]


def _told(port: dict[str, Any]) -> str:
    last = f"-{port['endPort']}" if "endPort" in port else ""
    return f"{port['port']}{last}/{port['protocol']}"


def told(proposal: Proposal) -> list[str]:
    return [note.text for note in proposal.notes if note.topic is Topic.RANGE]


def singles(numbers: Iterable[int], protocol: str = "TCP") -> list[str]:
    return [f"{port}/{protocol}" for port in sorted(numbers)]


@pytest.mark.parametrize("announcer", [21, 990, 111, 135, 4369])
def test_a_service_that_hands_ports_out_makes_a_range_of_what_was_seen_at_the_same_server(announcer: int) -> None:
    proposal = made(used([announcer, *DATA]))
    expected = sorted([f"{announcer}/TCP", "30000-30060/TCP"], key=lambda each: int(each.split("/")[0].split("-")[0]))
    assert ports(proposal) == ports(proposal, "redis", "ingress") == expected
    assert len(told(proposal)) == 2
    assert "30000-30060/TCP stands for 8 ports that were seen, and 53 that were not" in told(proposal)[0]
    assert f"{announcer}/TCP) at the same server hands such ports out" in told(proposal)[0]


def test_media_is_announced_over_another_protocol() -> None:
    media = [edge(CART, REDIS, f"{port}/UDP") for port in DATA]
    assert ports(made([*media, edge(CART, REDIS, "5060/UDP")])) == ["5060/UDP", "30000-30060/UDP"]
    assert ports(made([*media, *used([5061])])) == ["5061/TCP", "30000-30060/UDP"]
    assert ports(made([*media, *used([21])])) == ["21/TCP", *singles(DATA, "UDP")], "FTP hands out TCP only"


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_ports_side_by_side_are_a_range_without_an_announcement(protocol: str) -> None:
    seen = [edge(CART, REDIS, f"{port}/{protocol}") for port in (*ROW, 7030)]
    assert ports(made(seen)) == [f"7001-7011/{protocol}", f"7030/{protocol}"]
    seen = [edge(CART, REDIS, f"{port}/{protocol}") for port in range(20_000, 20_020, 2)]
    assert ports(made(seen)) == [f"20000-20018/{protocol}"], "every second one, as media has it"
    seen = [edge(CART, REDIS, f"{port}/{protocol}") for port in range(20_000, 20_050, 3)]
    assert ports(made(seen)) == singles(range(20_000, 20_050, 3), protocol)


def test_without_a_reason_there_is_none_and_who_reads_is_told() -> None:
    sparse = [33_000 + 137 * n for n in range(12)]
    proposal = made(used(sparse))
    assert ports(proposal) == singles(sparse)
    assert all("12 ports between 33000 and 34507/TCP are listed one by one" in text for text in told(proposal))
    assert "no service that hands ports out" in told(proposal)[0]


@pytest.mark.parametrize("announced", [[], [21]])
def test_the_threshold(announced: list[int]) -> None:
    data = DATA if announced else list(range(30_000, 30_008))
    seen = used([*announced, *data])
    assert ports(made(seen))[-1] == f"30000-{data[-1]}/TCP"
    assert ports(made(seen, range_ports=9)) == singles([*announced, *data])
    assert ports(made(seen, range_ports=0)) == singles([*announced, *data])
    fewer = [each for each in seen if each.l4.port != data[3]]
    assert ports(made(fewer)) == singles(each.l4.port for each in fewer)


def test_services_stay_apart_even_beside_a_range() -> None:
    heavy = edge(CART, REDIS, "30070/TCP")
    for key in list(heavy.stats.activity):
        heavy.stats.cell(key).add(heavy.stats.first, 500)
    proposal = made([*used([21, 5432, *DATA]), heavy])
    assert ports(proposal) == ["21/TCP", "5432/TCP", "30000-30060/TCP", "30070/TCP"]
    assert ports(made(used([*range(8071, 8079), 8080]))) == ["8071-8078/TCP", "8080/TCP"]
    assert ports(made(used(range(1016, 1040)))) == [*singles(range(1016, 1024)), "1024-1039/TCP"]


def test_guessed_unanswered_or_uncertain_ports_are_no_evidence() -> None:
    ephemeral = range(40_000, 40_020)
    for weights in ({"guessed": 1}, {"uncertain": 1}):
        assert ports(made(used(ephemeral, **weights))) == singles(ephemeral)
    assert "only guessed" in told(made(used(ephemeral, guessed=1)))[0]
    unanswered = [edge(CART, REDIS, f"{port}/UDP", answered=0) for port in ephemeral]
    assert ports(made(unanswered)) == singles(ephemeral, "UDP")
    announced = [*used([21]), *used(ephemeral, guessed=1)]
    assert ports(made(announced)) == singles([21, *ephemeral])


def test_replies_taken_for_connections_are_no_range() -> None:
    """The server's answers to its clients' own ports, beside what the clients asked for."""
    ephemeral = range(40_000, 40_020)
    replies = used(ephemeral, client=REDIS, server=CART)
    assert ports(made(replies), "redis") == ["40000-40019/TCP"], "nothing speaks against it"
    proposal = made([*replies, *used([6379])])
    assert ports(proposal, "redis") == ports(proposal, "cart", "ingress") == singles(ephemeral)
    assert "may be its clients' own ports" in told(proposal)[0]
    assert ports(made([*replies, *used([21])]), "redis") == singles(ephemeral), "announced by the wrong side"


def test_an_announcement_is_for_its_own_server_only() -> None:
    one, other = outside("198.51.100.7"), outside("203.0.113.9")
    proposal = made([*used([21], server=one), *used(DATA, server=other)])
    assert not any("-" in each for each in ports(proposal))
    unknown = made([*used([21], server=one), *used([21, *DATA], server=other)])
    assert "30000-30060/TCP" in ports(unknown)


def test_peers_are_judged_one_by_one() -> None:
    api = pod("shop", app="api")
    proposal = made([*used(ROW[:5]), *used(ROW[5:], server=api)])
    assert not any("-" in each for each in ports(proposal))


CALLS = [(outside(f"198.51.100.{n}"), 10_000 + 2 * n) for n in range(12)]


def test_outside_clients_are_judged_together() -> None:
    """A media server: each call has a port and, as far as rules know, a client of its own."""
    seen = [edge(client, REDIS, f"{port}/UDP") for client, port in CALLS]
    proposal = made(seen)
    (document,) = proposal.documents()
    (rule,) = document["spec"]["ingress"]
    assert rule["toPorts"] == [{"ports": [{"port": "10000", "protocol": "UDP", "endPort": 10_022}]}]
    assert len(rule["fromCIDR"]) == 12
    assert "ingress from outside: 10000-10022/UDP stands for 12 ports" in told(proposal)[0]
    assert ports(made([each for each in seen if each.l4.port < 10_014]), "redis", "ingress") == singles(
        range(10_000, 10_014, 2), "UDP"
    )


def test_a_range_is_for_the_world_where_one_of_its_ports_is() -> None:
    seen = [edge(client, REDIS, f"{port}/UDP") for client, port in CALLS]
    elsewhere = edge(CALLS[0][0], REDIS, "443/TCP")
    (document,) = made([*seen, elsewhere, edge(outside("unknown"), REDIS, "10003/UDP")]).documents()
    world, address = sorted(document["spec"]["ingress"], key=str, reverse=True)
    assert world["fromEntities"] == ["world"]
    assert world["toPorts"][0]["ports"] == [{"port": "10000", "protocol": "UDP", "endPort": 10_022}]
    assert address["fromCIDR"] == ["198.51.100.0/32"]
    assert address["toPorts"][0]["ports"] == [{"port": "443", "protocol": "TCP"}]


def test_replies_from_outside_are_no_range_even_if_addresses_were_truncated() -> None:
    replies = [edge(outside(f"198.51.100.{n}"), CART, f"{40_000 + n}/TCP") for n in range(20)]
    assert ports(made(replies), "cart", "ingress") == ["40000-40019/TCP"], "nothing speaks against it"
    asked = edge(CART, outside("198.51.100.0/24"), "443/TCP")
    assert sorted(ports(made([*replies, asked]), "cart", "ingress")) == singles(range(40_000, 40_020))


def test_a_port_with_requests_is_never_in_a_range() -> None:
    seen = used([7011, *range(7002, 7011), *range(7012, 7021)])
    web = next(each for each in seen if each.l4.port == 7011)
    web.stats.http.add(("GET", "/", "redis", "FORWARDED"), 1)
    plain = made(seen)
    assert ports(plain) == ["7002-7020/TCP"]
    proposal = recommend(seen, options=Options(Settings(l7=frozenset({L7.HTTP}))))
    assert ports(proposal) == ["7002-7010/TCP", "7011/TCP", "7012-7020/TCP"]
    for document in proposal.documents():
        for section in ("ingress", "egress"):
            for rule in document["spec"].get(section, ()):
                with_l7 = "rules" in rule["toPorts"][0]
                assert not (with_l7 and any("endPort" in port for port in rule["toPorts"][0]["ports"]))


def test_what_visibility_shows_is_single_ports() -> None:
    proposal = recommend(used(range(8076, 8096)), options=Options(Settings(l7=frozenset({L7.HTTP}))))
    assert ports(proposal, "redis", "ingress") == ["8076-8095/TCP"]
    listed = [port for policy in proposal.visibility for rule in policy.rules for port in rule.ports]
    assert listed == [L4(Protocol.TCP, port) for port in (8080, 8081, 8088)]


def test_a_range_counts_as_one_of_forty_ports() -> None:
    far = [2000 + 10 * n for n in range(39)]
    proposal = made(used([*far, *range(30_000, 30_100)]))
    (rule,) = next(each for each in proposal.policies if each.name == "cart").rules
    assert len(rule.ports) == 40
    assert rule.ports[-1] == Span(Protocol.TCP, 30_000, 30_099)
    assert len(rule.evidence) == 139


def test_what_exists_is_left_out_and_still_announces() -> None:
    rule = {
        "toEndpoints": [{"matchLabels": {"app": "redis"}}],
        "toPorts": [{"ports": [{"port": "21", "protocol": "TCP"}]}],
    }
    control = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "ftp", "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "cart"}}, "egress": [rule]},
    }
    proposal = recommend(used([21, *DATA]), options=Options(existing=(parse(control),)))
    assert ports(proposal) == ["30000-30060/TCP"]


def test_kubernetes_knows_ranges_too() -> None:
    documents, losses = network_policies(made([*used([21, *DATA]), *used(ROW, REMOTE_NODE)]))
    (loss,) = losses
    assert "ingress 7001-7011/TCP: any peer" in loss.text
    cart = next(each.data for each in documents if each.data["metadata"]["name"] == "cart")
    assert cart["spec"]["egress"][0]["ports"][1] == {"protocol": "TCP", "port": 30_000, "endPort": 30_060}


def test_the_document_says_how_much_of_a_range_was_seen() -> None:
    assert "egress: 30000-30060/TCP: 8 of 61 ports were seen" in dump(made(used([21, *DATA])).manifests())


def test_many_ranges_are_told_in_one_sentence() -> None:
    blocks = [port for start in range(10_000, 20_000, 1000) for port in range(start, start + 8)]
    proposal = made(used(blocks))
    assert len(ports(proposal)) == 10
    listed = "10000-10007/TCP, 11000-11007/TCP, 12000-12007/TCP and 7 more stand for 80 ports that were seen, and 0 that were not"
    assert [listed in text for text in told(proposal)] == [True, True]
    assert "egress: 5 ranges more" in dump(proposal.manifests())


PORTS = st.one_of(
    st.sampled_from([21, 80, 1023, 1024, 5432, 8080]),
    st.integers(7000, 7030),
    st.integers(30_000, 30_200),
    st.integers(32_760, 61_000),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Edge]:
    found = {}
    for server in (REDIS, outside("198.51.100.7")):
        for port in draw(st.sets(PORTS, max_size=40)):
            each = edge(
                CART, server, f"{port}/{draw(st.sampled_from(['TCP', 'UDP']))}", guessed=draw(st.integers(0, 1))
            )
            found[each.key] = each
    for port in draw(st.sets(PORTS, max_size=10)):
        each = edge(REDIS, CART, f"{port}/TCP")
        found[each.key] = each
    for client in ("198.51.100.7", "203.0.113.9", "203.0.113.0/24", "unknown"):
        for port in draw(st.sets(PORTS, max_size=8)):
            each = edge(outside(client), CART, f"{port}/UDP")
            found[each.key] = each
    return list(found.values())


@settings(max_examples=60, deadline=None)
@given(conversations(), st.integers(0, 12), st.randoms())
def test_laws(seen: list[Edge], least: int, rng: random.Random) -> None:
    """Sound and minimal by the engine; bounded by what was seen, at enough ports; and the order does not matter."""
    proposal = made(seen, range_ports=least)
    documents = proposal.documents()
    for each in seen:
        assert allows(documents, each.source, "egress", each.destination, each.l4)
    for policy in proposal.policies:
        for rule in policy.rules:
            peers = [each for each in policy.section(rule.direction) if type(each.peers[0]) is type(rule.peers[0])]
            used_here = {edge.l4 for edge in rule.evidence}
            used_beside = {edge.l4 for each in peers for edge in each.evidence}
            for span in rule.ports:
                if not isinstance(span, Span):
                    assert span in used_here
                    continue
                assert any(map(span.holds, used_here))
                within = [
                    l4.port for l4 in (used_beside if type(rule.peers[0]) is CidrPeer else used_here) if span.holds(l4)
                ]
                assert least
                assert min(within) == span.port >= 1024
                assert max(within) == span.last
                assert len(within) >= least
    shuffled = list(seen)
    rng.shuffle(shuffled)
    again = recommend(shuffled, options=Options(range_ports=least))
    assert dump(again.manifests()) == dump(proposal.manifests())
    assert again.notes == proposal.notes


@given(st.sets(st.integers(1024, 2048)), st.integers(2, 10))
def test_runs_are_parts_of_what_was_seen_and_hold_nothing_else_that_was(seen: set[int], least: int) -> None:
    found = sorted(seen)
    for runs in (list(dense(found, least)), list(near(found, least))):
        assert all(len(run) >= least for run in runs)
        assert all(a[-1] < b[0] for a, b in pairwise(runs))
        assert all([port for port in found if run[0] <= port <= run[-1]] == list(run) for run in runs)
    for run in dense(found, least):
        assert run[-1] - run[0] + 1 <= 2 * len(run)


def test_an_empty_record_has_none() -> None:
    assert recommend([], Inventory()).notes == ()
