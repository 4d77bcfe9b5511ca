"""Verifying: recommendations are sound and minimal by the engine; what is neither is caught, and what is half-open is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inventories import from_edges, merged
from analyzer.model.edge import Edge, Status
from analyzer.model.flow import Direction
from analyzer.model.inventory import AgentOptions, Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4
from analyzer.policy import Origin, parse
from analyzer.recommend import LEVELS, Level, Options, Settings, at, recommend
from analyzer.simulate import Result
from analyzer.verify import check, check_proposal
from tests.recommend.build import CART, DNS, REDIS, edge, lookup, outside, pod
from tests.recommend.test_laws import INVENTORY, edges
from tests.recommend.test_shapes import OPTIONS, rich
from tests.test_simulate import ports

Doc = dict[str, Any]


@settings(max_examples=80, deadline=None)
@given(edges())
def test_recommendations_are_sound(found: list[Edge]) -> None:
    known = merged(from_edges(found), replace(INVENTORY, options=AgentOptions(ipv6=True)))
    made = check_proposal(recommend(found, INVENTORY), found, known)
    assert made.unsound == ()
    assert made.undecided == ()


@settings(max_examples=120, deadline=None)
@given(rich(), OPTIONS, st.sampled_from(LEVELS), st.none() | rich(), st.sampled_from(LEVELS))
def test_recommendations_are_minimal_at_every_level_also_beside_existing_policies(
    found: list[Edge], options: Options, level: Level, before: list[Edge] | None, other: Level
) -> None:
    if before is not None:
        # Existing policies are those of one cluster.
        found, before = ([each for each in some if _is_here(each)] for some in (found, before))
    known = merged(from_edges(found), INVENTORY)
    known = replace(known, options=replace(known.options, ipv6=True))
    existing = recommend(before or (), known, Options(at(Settings(), other))).documents()
    options = replace(
        options, default=at(options.default, level), existing=tuple(parse(each, known.options) for each in existing)
    )
    made = check_proposal(recommend(found, known, options), found, known, options.existing)
    assert (made.unsound, made.invalid, made.idle, made.beside) == ((), (), (), ())


def _is_here(each: Edge) -> bool:
    return {each.cluster, each.source.cluster, each.destination.cluster} <= {"default", ""}


def test_recommendations_are_minimal() -> None:
    seen = [
        edge(CART, REDIS, "6379/TCP"), edge(REDIS, CART, "80/TCP"), lookup(CART), lookup(REDIS),
        edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"]),
        edge(CART, outside("203.0.113.9"), "443/TCP", unnamed=1), edge(pod("web", app="web"), CART, "80/TCP"),
    ]  # fmt: skip
    made = check_proposal(recommend(seen), seen, from_edges(seen))
    assert (made.sound, made.minimal, made.edges) == (True, True, len(seen))


def document(name: str, app: str, **sections: Any) -> Doc:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, **sections},
    }  # fmt: skip


FROM_CART = {"fromEndpoints": [{"matchLabels": {"app": "cart"}}], "toPorts": ports("6379/TCP")}
TO_REDIS = {"toEndpoints": [{"matchLabels": {"app": "redis"}}], "toPorts": ports("6379/TCP")}
LOOKUP = {
    "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}],
    "toPorts": ports("53/UDP"),
}
SEEN = [edge(CART, REDIS, "6379/TCP"), edge(CART, REDIS, "22/TCP", status=Status.UNANSWERED)]


def test_what_a_proposal_forgets_is_unsound_with_the_side_and_the_reason() -> None:
    wrong = document("redis", "redis", ingress=[{**FROM_CART, "toPorts": ports("6380/TCP")}])
    made = check(SEEN, [wrong], INVENTORY)
    (unsound,) = made.unsound
    assert (unsound.edge.key, unsound.direction) == (SEEN[0].key, "ingress")
    assert "default deny" in unsound.outcome.reason
    refused = {(SEEN[0].key, "ingress"): "asked for"}
    assert check(SEEN, [wrong], INVENTORY, refused).sound


def test_rules_that_nothing_needs_are_idle_and_name_resolution_never_is() -> None:
    twice = document("redis", "redis", ingress=[FROM_CART, {"fromEntities": ["cluster"]}], egress=[LOOKUP])
    made = check(SEEN, [twice], INVENTORY)
    assert made.sound
    assert [origin.rule for origin in made.idle] == [0, 1]
    once = document("redis", "redis", ingress=[FROM_CART, {**FROM_CART, "toPorts": ports("1/TCP")}], egress=[LOOKUP])
    assert [str(origin) for origin in check(SEEN, [once], INVENTORY).idle] == [
        "CiliumNetworkPolicy shop/redis ingress[1]"
    ]


def test_a_request_that_the_proxy_would_refuse_is_unsound() -> None:
    seen = edge(CART, REDIS, "80/TCP")
    seen.stats.http.add(("PUT", "/a", "", "1"))
    only_get = [{**ports("80/TCP")[0], "rules": {"http": [{"method": "GET"}]}}]
    (unsound,) = check([seen], [document("redis", "redis", ingress=[{"toPorts": only_get}])], INVENTORY).unsound
    assert unsound.requests == ("PUT /a",)


def test_each_cluster_is_judged_by_its_own_policies() -> None:
    west = pod("shop", "west", app="redis")
    seen = [
        edge(CART, REDIS, "6379/TCP"),
        edge(pod("shop", "west", app="cart"), west, "6379/TCP", cluster="west"),
    ]
    made = check_proposal(recommend(seen), seen, from_edges(seen))
    assert (made.sound, made.minimal) == (True, True)


def test_resolvers_are_known_without_being_told() -> None:
    seen = [lookup(CART), edge(CART, DNS, "9153/TCP")]
    own = document("cart", "cart", egress=[LOOKUP, {**LOOKUP, "toPorts": ports("9153/TCP")}])
    assert check(seen, [own], INVENTORY).idle == ()
    assert check(seen[1:], [own], INVENTORY).idle == ()


def test_a_document_that_would_be_refused_fails_the_check_and_is_named() -> None:
    bad = document("redis", "redis", ingress=[{**FROM_CART, "toPorts": ports("70000/TCP")}])
    made = check([], [bad], INVENTORY)
    assert not made.passed
    assert {name for name, _ in made.invalid} == {f"{bad['metadata']['namespace']}/redis"}
    assert made.sound


def test_an_address_without_a_name_needs_its_own_rule_though_other_traffic_had_one() -> None:
    far = outside("198.51.100.7")
    seen = [lookup(CART), edge(CART, far, "443/TCP", names=["api.example.com"]), edge(CART, far, "80/TCP")]
    named = {"toFQDNs": [{"matchName": "api.example.com"}]}
    by_address = {"toCIDR": ["198.51.100.7/32"], "toPorts": ports("80/TCP")}
    made = check(seen, [document("cart", "cart", egress=[named, by_address, LOOKUP])], from_edges(seen))
    assert (made.sound, made.idle) == (True, ())


def test_each_name_of_an_address_needs_its_rule() -> None:
    seen = [
        lookup(CART), edge(CART, outside("198.51.100.7"), "443/TCP", names=["a.example.com", "b.example.com"]),
        edge(CART, outside("198.51.100.8"), "80/TCP", names=["b.example.com"]),
    ]  # fmt: skip
    made = check_proposal(recommend(seen), seen, from_edges(seen))
    assert (made.sound, made.minimal) == (True, True)


def test_a_rule_on_addresses_does_not_stand_in_for_one_on_a_name() -> None:
    named = [edge(CART, outside(f"198.51.{n}.7"), "443/TCP", names=["api.example.com"]) for n in (1, 2)]
    bare = [edge(CART, outside(f"198.51.{n}.8"), "443/TCP") for n in (1, 2, 3)]
    seen = [lookup(CART), *named, *bare]
    proposal = recommend(seen, None, Options(max_cidrs=1))
    assert "198.51.0.0/22" in str(proposal.documents())
    made = check_proposal(proposal, seen, from_edges(seen))
    assert (made.sound, made.minimal) == (True, True)
    twice = document(
        "cart", "cart", egress=[{"toFQDNs": [{"matchName": "api.example.com"}]}, {"toEntities": ["world"]}]
    )
    assert len(check(named, [twice], from_edges(named)).idle) == 2


def test_rules_that_existing_policies_make_superfluous_are_told_apart() -> None:
    mine = document("redis", "redis", ingress=[FROM_CART])
    theirs = parse(document("theirs", "redis", ingress=[FROM_CART]))
    made = check(SEEN, [mine], INVENTORY, existing=[theirs])
    assert (made.idle, [str(each) for each in made.beside]) == ((), ["CiliumNetworkPolicy shop/redis ingress[0]"])
    assert not made.minimal
    opening = parse({**document("theirs", "redis"), "spec": {
        "endpointSelector": {}, "enableDefaultDeny": {"ingress": False, "egress": False}, "ingress": [FROM_CART],
    }})  # fmt: skip
    assert check(SEEN, [mine], INVENTORY, existing=[opening]).minimal


def test_what_is_for_the_platform_makes_no_other_rule_idle() -> None:
    wide = {"toEndpoints": [{}], "toPorts": ports("53/UDP")}
    seen = [edge(CART, REDIS, "53/UDP")]
    own = document("cart", "cart", egress=[{**TO_REDIS, "toPorts": ports("53/UDP")}, wide])
    first = Origin("CiliumNetworkPolicy", "shop", "cart", 0, "egress", 1)
    assert check(seen, [own], INVENTORY, platform=frozenset({first})).minimal
    assert len(check(seen, [own], INVENTORY, platform=frozenset()).idle) == 2


# Half-open connections.

FROM_NOBODY = {**FROM_CART, "toPorts": ports("1/TCP")}
OPEN = document("cart", "cart", egress=[TO_REDIS])
CLOSED = document("redis", "redis", ingress=[FROM_NOBODY])


def test_an_edge_that_one_end_alone_lets_pass_is_half_open() -> None:
    refused = {(SEEN[0].key, "ingress"): "asked for"}
    made = check(SEEN, [OPEN, CLOSED], INVENTORY, refused)
    (half,) = made.half_open
    assert made.sound
    assert (half.edge.key, half.direction, half.sure, half.why) == (SEEN[0].key, "egress", True, "asked for")
    assert half.open.rules == ("CiliumNetworkPolicy shop/cart egress[0]",)
    assert half.closed.selected_by == ("CiliumNetworkPolicy shop/redis",)
    (half,) = check(SEEN, [CLOSED], INVENTORY).half_open
    assert (half.direction, half.why) == ("egress", "")
    assert check(SEEN, [OPEN, document("redis", "redis", ingress=[FROM_CART])], INVENTORY).half_open == ()
    assert check(SEEN, [document("cart", "cart", egress=[LOOKUP]), CLOSED], INVENTORY).half_open == ()


def test_existing_policies_close_ends_too() -> None:
    assert len(check(SEEN, [OPEN], INVENTORY, existing=[parse(CLOSED)]).half_open) == 1
    assert check(SEEN, [OPEN], INVENTORY).half_open == ()


def test_outside_peers_have_no_half() -> None:
    seen = [edge(outside("198.51.100.7"), REDIS, "6379/TCP")]
    made = check(seen, [CLOSED], INVENTORY)
    assert (made.sound, made.half_open) == (False, ())


def test_what_the_engine_cannot_tell_is_told_apart() -> None:
    named = document("redis", "redis", ingress=[{**FROM_CART, "toPorts": ports("redis/TCP")}])
    made = check(SEEN, [OPEN, named], Inventory())
    (half,) = made.half_open
    assert (half.sure, half.open.result, half.closed.result) == (False, Result.ALLOWED, Result.UNDECIDED)


def test_the_ends_of_a_connection_between_clusters_are_put_together() -> None:
    there = pod("shop", "west", app="redis")
    seen = [edge(CART, there, "6379/TCP"), edge(there, pod("shop", "west", app="web"), "80/TCP", cluster="west")]
    proposal = recommend(seen)
    assert check_proposal(proposal, seen, from_edges(seen)).half_open == ()
    without = [
        replace(each, rules=tuple(rule for rule in each.rules if rule.direction is Direction.EGRESS))
        for each in proposal.policies
    ]
    closing = parse(document("close", "redis", ingress=[FROM_NOBODY]))
    made = check_proposal(replace(proposal, policies=tuple(without)), seen, from_edges(seen), [closing])
    assert [(each.edge.key, each.direction) for each in made.half_open] == [(seen[0].key, "egress")]


def test_what_a_proposal_refuses_at_one_end_is_half_open_with_its_reason() -> None:
    seen = [edge(CART, DNS, "9153/TCP"), lookup(CART)]
    closing = parse({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "dns", "namespace": "kube-system"},
        "spec": {"endpointSelector": {}, "ingress": [{"toPorts": ports("53/UDP")}]},
    })  # fmt: skip
    proposal = recommend(seen, None, Options(existing=(closing,)))
    made = check_proposal(proposal, seen, from_edges(seen), (closing,))
    (half,) = made.half_open
    assert made.passed
    assert (half.edge.key, half.direction) == (seen[0].key, "egress")
    assert "kube-system/kube-dns is left alone" in half.why


# Where all endpoints are under enforcement.


def test_it_looks_as_closely_where_all_endpoints_are_under_enforcement() -> None:
    always = Inventory(options=AgentOptions(enforcement="always"))
    wrong = document("redis", "redis", ingress=[FROM_NOBODY])
    assert [each.direction for each in check(SEEN, [wrong], always).unsound] == ["ingress"]
    assert check(SEEN, [OPEN, document("redis", "redis", ingress=[FROM_CART])], always).sound


# Services.


def test_rules_for_the_backends_of_a_service_are_asked_about_the_backends() -> None:
    service = ServiceInfo(
        "redis", "shop", selector={"app": "redis"}, cluster_ips=("10.96.0.1",), ports=((L4.parse("80/TCP"), "6379"),)
    )
    known = Inventory((InventoryEndpoint("redis-1", "shop", REDIS.labels, ips=("10.0.0.7",)),), services=(service,))
    seen = [edge(CART, outside("10.96.0.1"), "80/TCP"), edge(REDIS, CART, "80/TCP")]
    proposal = recommend(seen, known)
    assert any(rule.evidence == (seen[0],) for each in proposal.policies for rule in each.rules)
    made = check_proposal(proposal, seen, merged(from_edges(seen), known))
    assert (made.sound, made.idle) == (True, ())
