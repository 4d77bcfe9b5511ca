"""Outcomes: simulated ones agree with the naive engine and know what an edge does not tell; observed ones follow the record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analyzer.errors import PolicyError
from analyzer.model.edge import ActivityKey, Edge, EdgeKey, EdgeStats, Endpoint, Side, Status
from analyzer.model.flow import DropReason, EventKind, Verdict
from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import CLUSTER_KEY, Labels
from analyzer.policy import Policy, parse
from analyzer.simulate import Outcomes, Result, SideOutcome, observed, simulate
from tests.oracle.engine import decide_between
from tests.oracle.world import Party, World
from tests.recommend.build import CART, HOST, REDIS, START, edge, outside, pod
from tests.strategies import NAMES, flows, inventory, policies, worlds

Doc = dict[str, Any]
LETTERS = {"A": Result.ALLOWED, "R": Result.ALLOWED, "D": Result.DENIED}
ANY_NAME = (*NAMES, "nowhere.test", "api.any.com", "any.any.example.com", "www.any.any", "subany.com")
"""At least one name for each name and pattern that the drawn policies hold."""


def accepted(drawn: list[Doc], options: AgentOptions = AgentOptions()) -> list[Policy]:
    found = []
    for document in drawn:
        try:
            found.append(parse(document, options))
        except PolicyError:
            continue
    return found


def as_edge(world: World, flow: Doc) -> Edge:
    """The edge that a flow makes in the record."""
    ends = []
    for who in (flow["src"], flow["dst"]):
        party = world.party(who)
        cluster = party.labels.get(CLUSTER_KEY, "k8s") or ""
        ends.append(Endpoint(party.labels, party.labels.namespace, cluster, "", party.ip if party.outside else ""))
    protocol = Protocol.parse(flow["proto"])
    l4 = L4(protocol, flow["icmpType"] if protocol.is_icmp else flow["port"])
    stats = EdgeStats()
    stats.cell(ActivityKey(20_697, Side.UNKNOWN, EventKind.TRACE, Verdict.FORWARDED, 0)).add(START, 1)
    for who in (flow["src"], flow["dst"]):
        for name in world.party(who).names:
            stats.names.add(name)
    return Edge(EdgeKey(world.options.cluster_name, ends[0], ends[1], l4), stats, Status.FORWARDED)


@settings(
    max_examples=50, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.data(), worlds(), policies())
def test_an_edge_fares_as_the_naive_engine_says(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    asked = [{k: v for k, v in data.draw(flows(world)).items() if k != "l7"} for _ in range(12)]
    by_edge = {(made := as_edge(world, flow)).key: (made, flow) for flow in asked}
    made = simulate([each for each, _ in by_edge.values()], accepted(drawn, world.options), inventory(world))
    for key, (_, flow) in by_edge.items():
        ends = world.party(flow["src"]), world.party(flow["dst"])
        letters = decide_between(drawn, world, *ends, flow)
        outcome = made[key]
        for side, letter in ((outcome.egress, letters[0]), (outcome.ingress, letters[1])):
            if side.result is Result.UNDECIDED:
                assert "no DNS name" in side.reason
                assert letter == "D"
                named = Party(ends[1].labels, ends[1].ip, ANY_NAME, ends[1].ports)
                assert decide_between(drawn, world, ends[0], named, flow)[0] in "AR"
            else:
                assert side.result is LETTERS[letter], (flow, letters)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.permutations(range(4)), policies(most=4), worlds(), st.data())
def test_the_order_of_policies_does_not_matter(
    order: list[int], drawn: list[Doc], world: World, data: st.DataObject
) -> None:
    for number, document in enumerate(drawn):
        document["metadata"]["name"] = f"p{number}"
    edges = list({(made := as_edge(world, data.draw(flows(world)))).key: made for _ in range(6)}.values())
    known = accepted(drawn, world.options)
    turned = [known[number] for number in order if number < len(known)]
    assert simulate(edges, turned, inventory(world)) == simulate(edges, known, inventory(world))


def cnp(name: str = "p", namespace: str = "shop", subject: Doc | None = None, **sections: Any) -> Policy:
    body = {"endpointSelector": {} if subject is None else {"matchLabels": subject}, **sections}
    return parse(
        {"kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": body},
    )


def ports(*each: str) -> list[Doc]:
    return [{"ports": [dict(zip(("port", "protocol"), one.split("/"), strict=True)) for one in each]}]


def egress(found: Outcomes) -> SideOutcome:
    (outcome,) = found.values()
    return outcome.egress


CIDRS = st.sampled_from(
    ["198.51.100.0/24", "198.51.100.64/26", "198.51.100.255/32", "198.51.100.0/32", "198.0.0.0/8", "203.0.113.0/24"]
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(CIDRS, min_size=1, max_size=2), st.lists(CIDRS, max_size=1))
def test_a_prefix_is_decided_only_if_all_its_addresses_fare_alike(allow: list[str], deny: list[str]) -> None:
    """Rules may speak of the middle of a prefix and leave its ends alone."""
    policy = cnp(egress=[{"toCIDR": allow}], **({"egressDeny": [{"toCIDR": deny}]} if deny else {}))
    whole = simulate([edge(CART, outside("198.51.100.0/24"), "443/TCP")], [policy], Inventory())
    single = simulate(
        [edge(CART, outside(f"198.51.100.{last}"), "443/TCP") for last in range(256)], [policy], Inventory()
    )
    results = {outcome.egress.result for outcome in single.values()}
    assert egress(whole).result is (results.pop() if len(results) == 1 else Result.UNDECIDED)


def test_an_unknown_address_is_undecided_only_where_addresses_matter() -> None:
    seen = [edge(CART, outside("unknown"), "443/TCP")]
    for rule, result in (
        ({"toCIDR": ["198.51.100.0/24"]}, Result.UNDECIDED),
        ({"toEntities": ["world"]}, Result.ALLOWED),
        ({"toEntities": ["cluster"]}, Result.DENIED),
    ):
        assert egress(simulate(seen, [cnp(egress=[rule])], Inventory())).result is result


BY_NAME = cnp(egress=[{"toFQDNs": [{"matchName": "api.example.com"}], "toPorts": ports("443/TCP")}])


@pytest.mark.parametrize(
    ("names", "unnamed", "result"),
    [
        (["api.example.com"], 0, Result.ALLOWED),
        (["api.example.com"], 3, Result.UNDECIDED),
        (["api.example.com", "b.example.com"], 0, Result.UNDECIDED),
        (["b.example.com"], 0, Result.DENIED),
        (["b.example.com"], 3, Result.DENIED),
    ],
)
def test_names_belong_to_some_addresses_of_a_prefix(names: list[str], unnamed: int, result: Result) -> None:
    seen = edge(CART, outside("198.51.100.0/24"), "443/TCP", names=names, unnamed=unnamed)
    assert egress(simulate([seen], [BY_NAME], Inventory())).result is result


def test_an_address_without_a_name_may_still_have_one() -> None:
    """Where lookups were not visible nobody knows; where they were, the address was not looked up."""
    bare = edge(CART, outside("198.51.100.7"), "443/TCP", unnamed=1)
    other = edge(CART, outside("198.51.100.8"), "443/TCP", names=["b.example.com"])
    found = egress(simulate([bare], [BY_NAME], Inventory()))
    assert found.result is Result.UNDECIDED
    assert "198.51.100.7" in found.reason
    assert "CiliumNetworkPolicy shop/p egress[0]" in found.reason
    assert simulate([bare, other], [BY_NAME], Inventory())[bare.key].egress.result is Result.DENIED
    known = Inventory(names={"api.example.com": ("198.51.100.7",), "b.example.com": ("198.51.100.9",)})
    assert egress(simulate([bare], [BY_NAME], known)).result is Result.ALLOWED
    elsewhere = Inventory(names={"b.example.com": ("198.51.100.7",)})
    assert egress(simulate([bare], [BY_NAME], elsewhere)).result is Result.DENIED
    wrong_port = edge(CART, outside("198.51.100.7"), "80/TCP", unnamed=1)
    assert egress(simulate([wrong_port], [BY_NAME], Inventory())).result is Result.DENIED


def test_what_cannot_be_asked_is_undecided_with_the_reason() -> None:
    undirected = edge(CART, REDIS, "TCP", status=Status.UNDIRECTED)
    masked = edge(Endpoint(Labels(), "shop", name="cart-1"), REDIS, "80/TCP")
    abroad = edge(pod("shop", "west", app="a"), pod("shop", "west", app="b"), "80/TCP", cluster="west")
    without_identity = edge(CART, outside("10.0.0.1"), "80/TCP", conflicting=2)
    for seen, words in ((undirected, "client"), (masked, "labels"), (without_identity, "identity"), (abroad, "west")):
        (outcome,) = simulate([seen], [cnp(ingress=[{}])], Inventory()).values()
        assert outcome.result is Result.UNDECIDED
        assert words in outcome.reason


def test_requests_that_the_proxy_would_refuse_are_named() -> None:
    seen = edge(CART, REDIS, "80/TCP")
    for method, path, verdict in (
        ("GET", "/a", Verdict.FORWARDED),
        ("PUT", "/a", Verdict.FORWARDED),
        ("DELETE", "/a", 2),
    ):
        seen.stats.http.add((method, path, "", str(int(verdict))))
    http = [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}]
    (outcome,) = simulate([seen], [cnp(ingress=[{"toPorts": http}])], Inventory()).values()
    assert outcome.result is Result.ALLOWED
    assert outcome.refused_requests == ("PUT /a",)


def test_a_host_is_a_remote_node_to_other_hosts() -> None:
    """Only the host's own agent reported it: to the pod's agent it is another node, which localhost does not cover."""
    policy = cnp(ingress=[{}])
    for sides, result in (([Side.SOURCE], Result.DENIED), ([Side.DESTINATION], Result.ALLOWED)):
        (outcome,) = simulate([edge(HOST, CART, "80/TCP", sides=sides)], [policy], Inventory()).values()
        assert outcome.ingress.result is result


def recorded(*cells: tuple[Side, EventKind, Verdict, int], status: Status) -> Edge:
    stats = EdgeStats()
    for number, (side, *rest) in enumerate(cells):
        stats.cell(ActivityKey(20_697, side, *rest)).add(START + number, 1)
    return Edge(EdgeKey("default", CART, pod("shop", app="x"), L4.parse("80/TCP")), stats, status)


PASS = (EventKind.TRACE, Verdict.FORWARDED, 0)
DROP = (EventKind.DROP, Verdict.DROPPED, int(DropReason.POLICY_DENIED))
DENY = (EventKind.DROP, Verdict.DROPPED, int(DropReason.POLICY_DENY))


@pytest.mark.parametrize(
    ("cells", "status", "results"),
    [
        ([(Side.SOURCE, *PASS)], Status.FORWARDED, ("allowed", "allowed")),
        ([(Side.SOURCE, *PASS)], Status.UNANSWERED, ("allowed", "allowed")),
        ([(Side.SOURCE, *DROP)], Status.DROPPED, ("denied", "allowed")),
        ([(Side.SOURCE, *PASS), (Side.DESTINATION, *DENY)], Status.DENIED, ("allowed", "denied")),
        (
            [(Side.SOURCE, *DROP), (Side.SOURCE, *PASS), (Side.DESTINATION, *DROP)],
            Status.DROPPED,
            ("allowed", "denied"),
        ),
        ([(Side.UNKNOWN, *DROP)], Status.DROPPED, ("denied", "denied")),
        ([(Side.SOURCE, EventKind.DROP, Verdict.DROPPED, 140)], Status.INFRASTRUCTURE, ("undecided", "undecided")),
        ([(Side.UNKNOWN, *PASS)], Status.UNDIRECTED, ("undecided", "undecided")),
    ],
)
def test_the_record_tells_per_side_what_was_decided(cells: Any, status: Status, results: tuple[str, str]) -> None:
    (outcome,) = observed([recorded(*cells, status=status)]).values()
    assert (outcome.egress.result, outcome.ingress.result) == results


def test_the_record_names_the_policy_that_denied() -> None:
    seen = recorded((Side.DESTINATION, *DENY), status=Status.DENIED)
    seen.stats.denied_by.add(("INGRESS", "CiliumNetworkPolicy", "shop", "no"))
    (outcome,) = observed([seen]).values()
    assert outcome.ingress.rules == ("CiliumNetworkPolicy shop/no",)
    assert "explicit deny" in outcome.ingress.reason


def test_a_pod_without_a_cluster_label_belongs_to_its_cluster() -> None:
    """Selectors are scoped to the local cluster; label filters may have kept that label, and the namespace's, out of the record."""
    bare = [Endpoint(Labels.of([f"k8s:app={app}"]), "shop", "default") for app in ("cart", "redis")]
    policy = cnp(subject={"app": "redis"}, ingress=[{"fromEndpoints": [{"matchLabels": {"app": "cart"}}]}])
    (outcome,) = simulate([edge(*bare, "80/TCP")], [policy], Inventory()).values()
    assert outcome.ingress.result is Result.ALLOWED
    assert outcome.ingress.rules == ("CiliumNetworkPolicy shop/p ingress[0]",)
    other = bare[0]._replace(cluster="west")
    (outcome,) = simulate([edge(other, bare[1], "80/TCP")], [policy], Inventory()).values()
    assert outcome.ingress.result is Result.DENIED
