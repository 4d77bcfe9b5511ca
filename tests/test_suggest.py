"""Suggestions: what is suggested would allow the edge, by the engine and by the naive one; near misses are told in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.edge import Edge, Side
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.policy import Policy, parse
from analyzer.simulate import Result, simulate
from analyzer.suggest import Advice, Adviser
from tests.recommend.build import API_SERVER, CART, HOST, REDIS, edge, outside, pod, reserved
from tests.test_diff import edges, policies
from tests.test_simulate import cnp, ports

Doc = dict[str, Any]
WEB = pod("web", app="web")
PODS = [CART, REDIS, WEB, pod("batch", app="cart"), pod("shop", app="cart", tier="back")]
INVENTORY = Inventory(
    endpoints=tuple(InventoryEndpoint(f"pod-{n}", each.namespace, each.labels) for n, each in enumerate(PODS))
)


def advice(seen: Edge, *known: Policy, side: Side = Side.DESTINATION, inventory: Inventory = INVENTORY) -> Advice:
    return Adviser(known, inventory).advise(seen, side)


def applied(found: Advice, known: list[Policy], documents: dict[str, Doc]) -> list[Policy]:
    """The policies after the reader did as told."""
    snippet = found.snippet()
    if found.new:
        return [*known, parse(snippet)]
    assert found.policy is not None
    document = documents[found.policy.name]
    ((section, rules),) = snippet.items()
    spec = {**document["spec"], section: [*document["spec"].get(section, []), *rules]}
    return [parse({**document, "spec": spec}) if each.ref == found.policy else each for each in known]


DEFAULT_DENY = {
    "kind": "CiliumNetworkPolicy", "metadata": {"name": "deny", "namespace": "shop"},
    "spec": {"endpointSelector": {}, "ingress": [{}], "egress": [{}]},
}  # fmt: skip
OWN = {
    "kind": "CiliumNetworkPolicy", "metadata": {"name": "redis", "namespace": "shop"},
    "spec": {"endpointSelector": {"matchLabels": {"app": "redis"}}, "ingress": [{}], "egress": [{}]},
}  # fmt: skip
KUBERNETES = {
    "kind": "NetworkPolicy", "metadata": {"name": "knp", "namespace": "shop"},
    "spec": {"podSelector": {"matchLabels": {"app": "redis"}}, "policyTypes": ["Ingress", "Egress"]},
}  # fmt: skip
CLUSTERWIDE = {
    "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "all"},
    "spec": {"endpointSelector": {}, "ingress": [{}], "egress": [{}]},
}  # fmt: skip
SETS = [[OWN], [DEFAULT_DENY], [DEFAULT_DENY, OWN], [KUBERNETES], [CLUSTERWIDE], [KUBERNETES, CLUSTERWIDE]]
FARS = [
    CART, WEB, PODS[3], PODS[4], HOST, API_SERVER, reserved("ingress"), reserved("remote-node"),
    outside("198.51.100.7"), outside("203.0.113.0/24"), outside("2001:db8::1"), outside("unknown"),
]  # fmt: skip


@pytest.mark.parametrize("documents", SETS, ids=lambda each: "+".join(x["metadata"]["name"] for x in each))
@pytest.mark.parametrize("far", FARS, ids=lambda far: far.address or "-".join(x.value or x.key for x in far.labels[:1]))
@pytest.mark.parametrize("l4", ["6379/TCP", "53/UDP", "ICMP/8", "ICMP/0", "GRE"])
def test_what_is_suggested_allows_the_edge(documents: list[Doc], far: Any, l4: str) -> None:
    known = [parse(each) for each in documents]
    inventory = replace(INVENTORY, options=replace(INVENTORY.options, ipv6=True))
    for side, seen in ((Side.DESTINATION, edge(far, REDIS, l4)), (Side.SOURCE, edge(REDIS, far, l4))):
        before = simulate([seen], known, inventory)[seen.key]
        result = (before.egress if side is Side.SOURCE else before.ingress).result
        if result is Result.ALLOWED:
            assert far is HOST
            continue
        found = advice(seen, *known, side=side, inventory=inventory)
        assert found.rule is not None, found
        after = simulate([seen], applied(found, known, {x["metadata"]["name"]: x for x in documents}), inventory)
        outcome = after[seen.key]
        assert (outcome.egress if side is Side.SOURCE else outcome.ingress).result is Result.ALLOWED


def test_the_rule_goes_to_the_policy_of_this_workload_alone() -> None:
    both = [parse(DEFAULT_DENY), parse(OWN)]
    found = advice(edge(WEB, REDIS, "6379/TCP"), *both)
    assert found.place == "CiliumNetworkPolicy shop/redis, section ingress"
    labels = {"k8s:io.kubernetes.pod.namespace": "web", "app": "web"}
    assert found.snippet() == {
        "ingress": [{"fromEndpoints": [{"matchLabels": labels}], "toPorts": ports("6379/TCP")}],
    }


def test_a_policy_of_many_workloads_gets_a_companion_instead() -> None:
    found = advice(edge(CART, REDIS, "6379/TCP"), parse(DEFAULT_DENY))
    assert found.new
    snippet = found.snippet()
    assert snippet["metadata"] == {"name": "redis-ingress", "namespace": "shop"}
    assert snippet["spec"]["endpointSelector"] == {"matchLabels": {"app": "redis"}}
    assert list(snippet["spec"]) == ["endpointSelector", "ingress"]


def test_kubernetes_policies_get_rules_of_their_own_kind() -> None:
    found = advice(edge(CART, REDIS, "6379/TCP"), parse(KUBERNETES))
    peer = {"podSelector": {"matchLabels": {"app": "cart"}}}
    assert found.snippet() == {"ingress": [{"from": [peer], "ports": [{"port": 6379, "protocol": "TCP"}]}]}
    assert advice(edge(API_SERVER, REDIS, "6379/TCP"), parse(KUBERNETES)).new


def test_names_are_preferred_to_addresses_and_need_lookups() -> None:
    seen = edge(REDIS, outside("198.51.100.7"), "443/TCP", names=["b.example.com", "a.example.com"])
    found = advice(seen, parse(OWN), side=Side.SOURCE)
    assert found.rule is not None
    assert found.rule["toFQDNs"] == [{"matchName": "a.example.com"}]
    assert any("rules.dns" in remark for remark in found.remarks)


def test_nothing_helps_against_a_deny_rule() -> None:
    deny = cnp(subject={"app": "redis"}, ingressDeny=[{"fromEndpoints": [{}]}])
    found = advice(edge(CART, REDIS, "6379/TCP"), deny)
    assert found.rule is None
    assert "narrow or remove CiliumNetworkPolicy shop/p ingressDeny[0]" in found.obstacle


def test_near_misses_name_what_is_missing() -> None:
    known = cnp(
        subject={"app": "redis"},
        ingress=[
            {"fromEndpoints": [{"matchLabels": {"app": "cart"}}], "toPorts": ports("80/TCP", "443/TCP")},
            {"fromEndpoints": [{"matchLabels": {"app": "cart", "tier": "front"}}], "toPorts": ports("6379/TCP")},
            {"fromCIDR": ["198.51.100.0/24"], "toPorts": ports("1/UDP")},
        ],
    )
    words = [(miss.origin.rule, miss.words) for miss in advice(edge(CART, REDIS, "6379/TCP"), known).misses]
    assert words[0] == (0, "allows this peer, but only on 80/TCP, 443/TCP")
    assert words[1][0] == 1
    assert "asks for tier=front, and the peer has none" in words[1][1]
    assert len(words) == 2


def test_a_rule_about_a_misspelt_workload_is_found() -> None:
    known = cnp(subject={"app": "rediss"}, ingress=[{"fromEndpoints": [{}]}])
    (miss,) = Adviser([known], INVENTORY).misses(edge(CART, REDIS, "6379/TCP"), Side.DESTINATION)
    assert "is about app=rediss and namespace=shop" in miss.words


@settings(max_examples=60, deadline=None)
@given(edges(), policies(), st.sampled_from([Side.SOURCE, Side.DESTINATION]))
def test_advice_is_given_or_refused_with_a_reason(found: list[Edge], known: list[Policy], side: Side) -> None:
    adviser = Adviser(known, INVENTORY)
    for each in found:
        outcome = simulate([each], known, INVENTORY)[each.key]
        if (outcome.egress if side is Side.SOURCE else outcome.ingress).result is Result.DENIED:
            made = adviser.advise(each, side)
            assert (made.rule is None) == bool(made.obstacle)
            assert made == adviser.advise(each, side)
