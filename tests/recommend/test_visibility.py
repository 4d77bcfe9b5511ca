"""Policies that show what nobody could see: for whom, through which resolver, and that they deny and open nothing."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.manifests import dump, parse
from analyzer.model.edge import Endpoint
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.l4 import L4
from analyzer.policy import Outcome, Peer, Traffic, compile_policies
from analyzer.policy import parse as parse_policy
from analyzer.recommend import L7, Options, Proposal, Settings, Topic, recommend
from tests.recommend.build import CART, DNS, REDIS, edge, lookup, outside, pod
from tests.recommend.test_laws import validator

WEB = pod("shop", app="web")
HTTP = Options(Settings(l7=frozenset({L7.HTTP})))
NAMELESS = edge(CART, outside("198.51.100.7"), "443/TCP")


def shown(made: Proposal) -> list[dict[str, Any]]:
    return [each.data for each in made.visibility_manifests()]


def blind(made: Proposal) -> list[str]:
    return [note.where for note in made.notes if note.topic is Topic.BLIND]


def test_a_workload_with_nameless_peers_and_no_lookups_is_listed_with_the_policy_that_shows_names() -> None:
    made = recommend([NAMELESS, lookup(CART), edge(WEB, REDIS, "6379/TCP")])
    assert blind(made) == ["shop/cart"]
    (document,) = shown(made)
    validator().validate(document)
    assert document["metadata"]["name"] == "cart-visibility"
    assert document["spec"]["enableDefaultDeny"] == {"ingress": False, "egress": False}
    (rule,) = document["spec"]["egress"]
    assert rule["toEndpoints"][0]["matchLabels"]["k8s-app"] == "kube-dns"
    assert rule["toPorts"][0]["rules"] == {"dns": [{"matchPattern": "*"}]}
    (manifest,) = made.visibility_manifests()
    assert manifest.path == "visibility/shop/cart-visibility.yaml"
    assert [each.data for each in parse(dump([manifest]))] == [document]


def test_the_usual_resolver_where_none_was_seen() -> None:
    (document,) = shown(recommend([NAMELESS]))
    assert document["spec"]["egress"][0]["toEndpoints"] == [
        {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
    ]


@pytest.mark.parametrize(
    "seen",
    [
        [NAMELESS, edge(CART, DNS, "53/UDP", queries=["api.example.com"])],
        [edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"]), lookup(CART)],
        [edge(CART, outside("10.9.8.7"), "443/TCP"), lookup(CART)],
        [edge(CART, REDIS, "6379/TCP"), lookup(CART)],
        [edge(outside("198.51.100.7"), CART, "443/TCP"), lookup(CART)],
    ],
)
def test_nothing_to_show_where_names_were_seen_or_none_are_to_be_had(seen: list[Any]) -> None:
    made = recommend(seen)
    assert blind(made) == []
    assert shown(made) == []


def outcome(documents: list[dict[str, Any]], source: Endpoint, destination: Endpoint, l4: str) -> Outcome:
    compiled = compile_policies(map(parse_policy, documents))
    return compiled.decide(Traffic(Peer(source.labels), Peer(destination.labels), L4.parse(l4))).outcome


def test_alone_it_denies_nothing_and_beside_the_recommendation_it_opens_nothing() -> None:
    seen = [NAMELESS, lookup(CART), edge(WEB, CART, "8080/TCP")]
    made = recommend(seen, options=HTTP)
    alone, both = shown(made), [*shown(made), *made.documents()]
    for source, destination, l4 in ((CART, REDIS, "6379/TCP"), (REDIS, CART, "8080/TCP"), (CART, DNS, "9153/TCP")):
        assert outcome(alone, source, destination, l4) in (Outcome.ALLOWED, Outcome.REDIRECTED)
        assert outcome(both, source, destination, l4) is Outcome.DENIED
    assert outcome(both, WEB, CART, "8080/TCP") is Outcome.REDIRECTED
    assert outcome(both, CART, DNS, "53/UDP") is Outcome.REDIRECTED


def test_http_only_on_request_and_only_on_ports_that_speak_it() -> None:
    seen = [edge(WEB, CART, "8080/TCP"), edge(WEB, CART, "5432/TCP"), edge(WEB, CART, "7777/TCP")]
    assert shown(recommend(seen)) == []
    declared = InventoryEndpoint(
        "cart", "shop", CART.labels, (), {"http-admin": L4.parse("7777/TCP"), "https": L4.parse("5432/TCP")}
    )
    (document,) = shown(recommend(seen, Inventory((declared,)), HTTP))
    (rule,) = document["spec"]["ingress"]
    assert [each["port"] for each in rule["toPorts"][0]["ports"]] == ["7777", "8080"]
    assert rule["toPorts"][0]["rules"] == {"http": [{}]}
    assert rule["fromEndpoints"][0]["matchLabels"]["app"] == "web"
    validator().validate(document)


def test_where_lookups_are_to_be_narrowed_and_none_was_seen_they_are_made_visible() -> None:
    seen = [lookup(CART), edge(CART, REDIS, "6379/TCP")]
    assert shown(recommend(seen)) == []
    (document,) = shown(recommend(seen, options=Options(Settings(l7=frozenset({L7.DNS})))))
    assert document["spec"]["egress"][0]["toPorts"][0]["rules"] == {"dns": [{"matchPattern": "*"}]}
