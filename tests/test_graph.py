"""The service graph: services instead of pods, one edge per layer 4, safe text in every format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from analyzer.aggregate import aggregate
from analyzer.graph import MANY_ADDRESSES, Service, service_graph, to_dot, to_graphml, to_json, to_mermaid
from analyzer.model.flow import Detail
from analyzer.settle import settle
from tests.flows import API_SERVER, SYN, WORLD, drop, pod, remote, tcp

CART, REDIS, OTHER = pod("cart"), pod("redis"), pod("redis", "batch")
FLOWS = [
    tcp(pod("cart", number=1), remote(REDIS), 6379),
    tcp(remote(CART), REDIS, 6379, node="node-2"),
    tcp(CART, OTHER, 6379),
    tcp(CART, API_SERVER, 6443),
    drop(OTHER, CART, 8080),
]


def test_services_fold_pods_and_keep_namespaces_apart() -> None:
    made = service_graph(settle(aggregate(FLOWS)))
    assert {str(service) for service in made} == {"shop/cart", "shop/redis", "batch/redis", "kube-apiserver"}
    cart, redis = Service("default", "shop", "cart", "workload"), Service("default", "shop", "redis", "workload")
    assert made.edges[cart, redis, "6379/TCP"]["weight"] == 2
    batch = Service("default", "batch", "redis", "workload")
    assert made.edges[batch, cart, "8080/TCP"]["accepted"] is False
    assert made.edges[batch, cart, "8080/TCP"]["statuses"] == ["dropped"]


def test_named_outside_peers_are_names_and_crowds_are_world() -> None:
    named = tcp(CART, WORLD, 443, destination_ip="198.51.100.7", detail=Detail(destination_names=("api.example.com",)))
    crowd = [tcp(WORLD, CART, 8080, source_ip=f"203.0.113.{n}") for n in range(MANY_ADDRESSES + 1)]
    made = service_graph(settle(aggregate([named, *crowd])))
    assert {str(service) for service in made} == {"shop/cart", "api.example.com", "world"}
    few = service_graph(settle(aggregate(crowd[:2])))
    assert {str(service) for service in few} == {"shop/cart", "203.0.113.0", "203.0.113.1"}


def test_every_format_is_well_formed_and_stable_with_hostile_names() -> None:
    evil = pod('a"]; -->|<script>\x1b[31m\n', "shop")
    made = service_graph(settle(aggregate([*FLOWS, tcp(evil, CART, 80, tcp_flags=SYN)])))
    again = service_graph(settle(aggregate([tcp(evil, CART, 80, tcp_flags=SYN), *reversed(FLOWS)])))
    for render in (to_json, to_dot, to_graphml, to_mermaid):
        assert render(made) == render(again)
        assert "\x1b" not in render(made)
    body = json.loads(to_json(made))
    assert body["schema"] == "hubble-analyzer/graph/v1"
    assert len(body["edges"]) == 5
    assert len(ET.fromstring(to_graphml(made)).findall(".//{*}edge")) == 5
    assert to_mermaid(made).count("\n") == 1 + len(made) + 5
    assert "<script>" not in to_mermaid(made)
