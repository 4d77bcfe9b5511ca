"""NetworkPolicies: they allow what the recommendation allows, whatever they cannot say is named, and nothing closes more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from analyzer.manifests import dump, parse
from analyzer.model.edge import Edge, Endpoint, Side
from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.model.labels import NAMESPACE_LABEL_PREFIX, Label, Labels
from analyzer.policy import parse as parse_policy
from analyzer.recommend import L7, Options, Settings, Topic, recommend
from analyzer.recommend.knp import Loss, LossKind, network_policies, network_policy, with_losses
from analyzer.simulate import Result, simulate
from tests.recommend.build import API_SERVER, CART, DNS, HOST, REDIS, REMOTE_NODE, edge, lookup, outside, pod, reserved
from tests.recommend.test_http import requests
from tests.recommend.test_laws import edges

METADATA_NAME = NAMESPACE_LABEL_PREFIX + "kubernetes.io/metadata.name"


def converted(*seen: Edge, options: Options | None = None) -> tuple[dict[str, dict[str, Any]], tuple[Loss, ...]]:
    documents, losses = network_policies(recommend(seen, options=options))
    return {each.data["metadata"]["name"]: each.data["spec"] for each in documents}, losses


def test_pods_ports_and_namespaces() -> None:
    batch = pod("batch", app="report")
    specs, losses = converted(
        edge(CART, REDIS, "6379/TCP"), edge(batch, REDIS, "6379/TCP"), edge(CART, REDIS, "7000/SCTP")
    )
    assert losses == ()
    port, other = {"protocol": "TCP", "port": 6379}, {"protocol": "SCTP", "port": 7000}
    assert specs["redis"] == {
        "podSelector": {"matchLabels": {"app": "redis"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "batch"}},
                        "podSelector": {"matchLabels": {"app": "report"}},
                    }
                ],
                "ports": [port],
            },
            {"from": [{"podSelector": {"matchLabels": {"app": "cart"}}}], "ports": [port, other]},
        ],
    }
    assert specs["cart"]["policyTypes"] == ["Egress"]


def test_world_and_addresses() -> None:
    specs, losses = converted(edge(outside("203.0.113.5"), CART, "80/TCP"), edge(CART, outside("unknown"), "443/TCP"))
    assert specs["cart"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "203.0.113.5/32"}}]
    assert specs["cart"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    assert losses == ()


@pytest.mark.parametrize("peer", [API_SERVER, REMOTE_NODE, reserved("ingress"), pod("shop", "west", app="far")])
def test_peers_without_a_name_become_any_peer_on_the_port_and_that_is_said(peer: Endpoint) -> None:
    specs, losses = converted(edge(CART, peer, "6443/TCP"))
    assert specs["cart"]["egress"] == [{"ports": [{"protocol": "TCP", "port": 6443}]}]
    losses = tuple(each for each in losses if each.where == "shop/cart")
    assert [each.kind for each in losses] == [LossKind.WIDER]
    assert "6443/TCP: any peer" in losses[0].text


def test_kubelets_need_no_rule() -> None:
    strict = Inventory(options=AgentOptions(allow_localhost="policy"))
    (document,), losses = network_policies(recommend([edge(HOST, CART, "8080/TCP", sides=[Side.DESTINATION])], strict))
    assert document.data["spec"]["ingress"] == []
    assert losses == ()


def test_icmp_is_not_allowed_and_named() -> None:
    specs, losses = converted(edge(CART, REDIS, "ICMP/8"), edge(CART, REDIS, "80/TCP"))
    assert len(specs["cart"]["egress"]) == 1
    assert {str(each) for each in losses} == {
        "NOT ALLOWED: egress: ICMP IPv4 type 8, which no NetworkPolicy knows",
        "NOT ALLOWED: ingress: ICMP IPv4 type 8, which no NetworkPolicy knows",
    }


def test_names_become_the_addresses_seen_and_layer_7_is_left_out() -> None:
    far = [edge(CART, outside(f"198.51.100.{n}"), "443/TCP", names=["api.example.com"]) for n in (7, 8)]
    specs, losses = converted(lookup(CART), *far)
    assert specs["cart"]["egress"][0]["to"] == [{"ipBlock": {"cidr": f"198.51.100.{n}/32"}} for n in (7, 8)]
    assert "api.example.com" in losses[0].text
    ports = [each["port"] for each in specs["cart"]["egress"][1]["ports"]]
    assert ports == [53, 53]
    on = Options(Settings(l7=frozenset({L7.HTTP})))
    specs, losses = converted(requests(("GET", "/a", 1)), options=on)  # type: ignore[arg-type]
    assert specs["cart"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert "HTTP are left out" in losses[0].text


def test_losses_are_in_the_file_and_in_the_report() -> None:
    made = recommend([edge(CART, API_SERVER, "6443/TCP")])
    (document,), losses = network_policies(made)
    assert document.path == made.manifests()[0].path
    assert "  WIDER: egress 6443/TCP: any peer, since kube-apiserver has no name" in document.header
    assert [note.where for note in with_losses(made, losses).notes if note.topic is Topic.LOST] == ["shop/cart"]


@pytest.mark.parametrize(
    "document",
    [
        {
            "kind": "CiliumClusterwideNetworkPolicy",
            "metadata": {"name": "x"},
            "spec": {"endpointSelector": {}, "ingress": [{}]},
        },
        {
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "x", "namespace": "shop"},
            "spec": {"endpointSelector": {}, "enableDefaultDeny": {"egress": False}, "egress": [{}]},
        },
        {
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "x", "namespace": "shop"},
            "spec": {
                "endpointSelector": {"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "a"}},
                "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}],
            },
        },
    ],
)
def test_what_has_no_counterpart_is_left_out_as_a_whole(document: dict[str, Any]) -> None:
    made, losses = network_policy(document)
    assert made is None
    assert [each.kind for each in losses] == [LossKind.LEFT_OUT]


def test_ranges_every_port_every_protocol_and_default_deny() -> None:
    document = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {
            "endpointSelector": {},
            "ingress": [{}],
            "egress": [
                {"toPorts": [{"ports": [{"port": "30000", "endPort": 30100, "protocol": "TCP"}, {"port": "http"}]}]},
                {"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "data"}}]},
            ],
        },
    }
    made, losses = network_policy(document)
    assert made is not None
    assert losses == ()
    assert made["spec"]["podSelector"] == {}
    assert made["spec"]["ingress"] == []
    assert made["spec"]["egress"] == [
        {
            "ports": [
                {"protocol": "TCP", "port": 30000, "endPort": 30100},
                *({"protocol": each, "port": "http"} for each in ("SCTP", "TCP", "UDP")),
            ]
        },
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}]},
    ]


def named(end: Endpoint) -> Endpoint:
    """The pod with the namespace label that every namespace has."""
    if not end.namespace:
        return end
    return end._replace(labels=Labels.of([*end.labels, Label("k8s", METADATA_NAME, end.namespace)]))


@settings(max_examples=80, deadline=None)
@given(edges())
def test_all_that_is_allowed_stays_allowed_but_for_what_is_named(found: list[Edge]) -> None:
    seen = [
        replace(each, key=each.key._replace(source=named(each.source), destination=named(each.destination)))
        for each in found
        if "west" not in (each.source.cluster, each.destination.cluster)
    ]
    made = recommend(seen)
    documents, losses = network_policies(made)
    text = dump(documents)
    assert [each.data for each in parse(text)] == [each.data for each in documents]
    blocked = {each.where for each in losses if each.kind is LossKind.BLOCKED and "ICMP" in each.text}
    inventory = Inventory(options=AgentOptions(ipv6=True))
    cilium = simulate(seen, [parse_policy(each) for each in made.documents()], inventory)
    kubernetes = simulate(seen, [parse_policy(each.data) for each in documents], inventory)
    for key, outcome in cilium.items():
        if outcome.result is Result.ALLOWED:
            assert kubernetes[key].result is Result.ALLOWED or (blocked and key.l4.protocol.is_icmp), key
    assert {(each.data["metadata"]["namespace"], each.data["metadata"]["name"]) for each in documents} == {
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in made.documents()
    }


def test_the_resolver_is_reached() -> None:
    cart, resolver = named(CART), named(DNS)
    documents, _ = network_policies(recommend([edge(cart, resolver, "53/UDP")]))
    compiled = [parse_policy(each.data) for each in documents]
    asked = edge(cart, resolver, "53/TCP")
    assert simulate([asked], compiled, Inventory())[asked.key].result is Result.ALLOWED
