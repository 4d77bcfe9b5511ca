"""The oracle against the answers of Cilium's own policy engine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.model.l4 import L4, Protocol
from tests.oracle.engine import allowed, decide
from tests.oracle.refused import refusal
from tests.oracle.world import World

CASES = Path(__file__).resolve().parents[1] / "conformance"
STEP = 10
"""Every STEP-th random case: all of them take too long for each run."""


def _cases(name: str, step: int = 1) -> Iterator[dict[str, Any]]:
    with gzip.open(CASES / name, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % step == 0:
                yield json.loads(line)


def _check(case: dict[str, Any]) -> None:
    world = World.of_case(case)
    valid = [refusal(policy, world.options) is None for policy in case["policies"]]
    assert valid == [each["valid"] for each in case["expect"]["policies"]], case["id"]
    for flow, expected in zip(case["flows"], case["expect"]["flows"], strict=True):
        assert decide(case["policies"], world, flow) == expected, (case["id"], flow)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in _cases("cilium-named.jsonl.gz")])
def test_named_cases(case: dict[str, Any]) -> None:
    _check(case)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in _cases("cilium-random.jsonl.gz", STEP)])
def test_random_cases(case: dict[str, Any]) -> None:
    _check(case)


def test_allowed_between_loose_parties() -> None:
    policy = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "db"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                    "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
                }
            ],
            "egress": [{"toFQDNs": [{"matchPattern": "*.example.com"}]}],
        },
    }
    cluster = "k8s:io.cilium.k8s.policy.cluster=default"
    space = "k8s:io.kubernetes.pod.namespace=shop"
    web, db = (["k8s:app=web", space, cluster], "10.0.0.1", ()), (["k8s:app=db", space, cluster], "10.0.0.2", ())
    site = (["reserved:world"], "192.0.2.1", ("www.example.com",))
    assert allowed([policy], web, db, L4(Protocol.TCP, 5432))
    assert not allowed([policy], web, db, L4(Protocol.TCP, 5433))
    assert not allowed([policy], site, db, L4(Protocol.TCP, 5432))
    assert allowed([policy], db, site, L4(Protocol.TCP, 443))
    assert not allowed([policy], db, web, L4(Protocol.TCP, 443))


PODS = {
    "a": {"labels": ["k8s:app=a", "k8s:io.kubernetes.pod.namespace=ns1"], "ip": "10.0.0.1"},
    "b": {"labels": ["k8s:app=b", "k8s:io.kubernetes.pod.namespace=ns1"], "ip": "10.0.0.2"},
    "far": {
        "labels": ["k8s:app=a", "k8s:io.kubernetes.pod.namespace=ns1", "k8s:io.cilium.k8s.policy.cluster=other"],
        "ip": "10.9.0.1",
    },
}
PORT_80: list[dict[str, Any]] = [{"ports": [{"port": "80", "protocol": "TCP"}]}]
GET: list[dict[str, Any]] = [{**PORT_80[0], "rules": {"http": [{"method": "GET"}]}}]
BEYOND_THE_VECTORS: list[tuple[str, dict[str, Any], Any, Any, str]] = [
    ("a plain item without anything", {"ingress": [{"toPorts": []}]}, "a", "b", "ADD"),
    (
        "an empty list beside another kind",
        {"ingress": [{"fromEndpoints": [], "fromEntities": ["all"]}]},
        "a",
        "b",
        "ADD",
    ),
    ("selectors stay in the local cluster", {"ingress": [{"fromEndpoints": [{}]}]}, "far", "b", "ADD"),
    (
        "but for an explicit cluster",
        {"ingress": [{"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.policy.cluster": "other"}}]}]},
        *("far", "b", "AAA"),
    ),
    ("the cluster entity is the local one", {"ingress": [{"fromEntities": ["cluster"]}]}, "far", "b", "ADD"),
    ("all clusters of the mesh", {"ingress": [{"fromEntities": ["cluster-mesh"]}]}, "far", "b", "AAA"),
    ("the proxy lets the local host pass", {"ingress": [{"toPorts": GET}]}, "reserved:host", "b", "ARR+"),
    ("and others by its rules", {"ingress": [{"toPorts": GET}]}, "a", "b", "ARR-"),
    (
        "deny rules have no names",
        {"egressDeny": [{"toFQDNs": [{"matchName": "x.test"}]}], "enableDefaultDeny": {"egress": False}},
        *("b", {"fqdn": "x.test", "ip": "192.0.2.1"}, "AAA"),
    ),
    ("names never stand for pods", {"egress": [{"toFQDNs": [{"matchName": "pod.test"}]}]}, "b", "a", "DAD"),
    (
        "a range that ends beyond all ports",
        {"ingress": [{"toPorts": [{"ports": [{"port": "79", "endPort": 70000, "protocol": "TCP"}]}]}]},
        *("a", "b", "ADD"),
    ),
]


@pytest.mark.parametrize(
    ("spec", "source", "destination", "expected"), [pytest.param(*case[1:], id=case[0]) for case in BEYOND_THE_VECTORS]
)
def test_beyond_the_vectors(spec: dict[str, Any], source: Any, destination: Any, expected: str) -> None:
    policy = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "ns1"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "b"}}, **spec},
    }
    names = {"pod.test": ["10.0.0.1"]}
    flow = {"src": source, "dst": destination, "proto": "TCP", "port": 80}
    flow |= {"l7": {"method": "PUT", "path": "/"}} if "R" in expected else {}
    assert decide([policy], World.of_case({"endpoints": PODS, "fqdns": names, "flows": [flow]}), flow) == expected


def test_the_later_document_of_a_name_replaces_the_earlier() -> None:
    def document(peers: list[Any]) -> dict[str, Any]:
        meta = {"name": "p", "namespace": "ns1"}
        spec = {"endpointSelector": {}, "ingress": [{"fromEndpoints": peers}]}
        return {"kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}

    world = World.of_case({"endpoints": PODS})
    flow = {"src": "a", "dst": "b", "proto": "TCP", "port": 80}
    assert decide([document([{}]), document([])], world, flow) == "ADD"
    assert decide([document([]), document([{}])], world, flow) == "AAA"
