"""Verifying: recommendations are sound and minimal by the engine; what is neither is caught; calibration counts verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings

from analyzer.inventories import from_edges, merged
from analyzer.model.edge import Edge, Status
from analyzer.model.inventory import AgentOptions
from analyzer.recommend import recommend
from analyzer.verify import check, check_proposal
from tests.recommend.build import CART, DNS, REDIS, edge, lookup, outside, pod
from tests.recommend.test_laws import INVENTORY, edges
from tests.test_simulate import ports

Doc = dict[str, Any]


@settings(max_examples=80, deadline=None)
@given(edges())
def test_recommendations_are_sound(found: list[Edge]) -> None:
    known = merged(from_edges(found), replace(INVENTORY, options=AgentOptions(ipv6=True)))
    made = check_proposal(recommend(found, INVENTORY), found, known)
    assert made.unsound == ()
    assert made.undecided == ()


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
    refused = frozenset({(SEEN[0].key, "ingress")})
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
