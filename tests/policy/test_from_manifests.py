"""Peers that manifests explain: CIDR groups, Services, nodes and named ports, from the documents to the decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analyzer.inventories import from_manifests
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.policy import Peer
from tests.policy.build import Doc, cnp, compiled, letters, pod, ports, world

GROUP = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumCIDRGroup",
    "metadata": {"name": "partners", "labels": {"kind": "partner"}},
    "spec": {"externalCIDRs": ["192.0.2.0/24", "2001:db8::/32"]},
}
OTHER_GROUP = {"kind": "CiliumCIDRGroup", "metadata": {"name": "other"}, "spec": {"externalCIDRs": ["203.0.113.0/24"]}}


def service(name: str, namespace: str = "ns1", selector: Doc | None = None, **labels: str) -> Doc:
    spec: Doc = {"ports": [{"port": 80}], **({"selector": selector} if selector else {})}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def asked(policy: Doc, *documents: Doc, source: Peer, destination: Peer, **options: Any) -> str:
    known = from_manifests(documents)
    known = replace(known, options=replace(known.options, **options))
    return letters(compiled(policy, known=known), source, destination)


def to_group(**wanted: Any) -> Doc:
    return cnp("p", egress=[{"toCIDRSet": [wanted]}])


BY_LABEL = {"cidrGroupSelector": {"matchLabels": {"kind": "partner"}}}
NOT_BY_LABEL = {"cidrGroupSelector": {"matchExpressions": [{"key": "kind", "operator": "DoesNotExist"}]}}


@pytest.mark.parametrize(
    ("wanted", "ip", "expected"),
    [
        ({"cidrGroupRef": "partners"}, "192.0.2.7", "AAA"),
        ({"cidrGroupRef": "partners"}, "198.51.100.1", "DAD"),
        ({"cidrGroupRef": "partners", "except": ["192.0.2.0/28"]}, "192.0.2.7", "DAD"),
        ({"cidrGroupRef": "partners", "except": ["192.0.2.0/28", "nonsense"]}, "192.0.2.77", "AAA"),
        (BY_LABEL, "192.0.2.7", "AAA"),
        (BY_LABEL, "203.0.113.1", "DAD"),
        (NOT_BY_LABEL, "203.0.113.1", "AAA"),
        ({"cidrGroupRef": "missing"}, "192.0.2.7", "DAD"),
    ],
)
def test_cidr_groups(wanted: Doc, ip: str, expected: str) -> None:
    found = asked(to_group(**wanted), GROUP, OTHER_GROUP, source=pod("a"), destination=world(ip))
    assert found == expected


def test_without_any_group_nobody_knows() -> None:
    policy = to_group(cidrGroupRef="partners", **{"except": ["192.0.2.0/28"]})
    assert asked(policy, source=pod("a"), destination=world("192.0.2.77")) == "?A?"
    assert asked(policy, source=pod("a"), destination=world("192.0.2.7")) == "DAD", "a hole is one whatever is around"
    assert asked(policy, source=pod("a"), destination=pod("b")) == "DAD", "groups never hold pods"
    denying = cnp("p", egressDeny=[{"toCIDRSet": [BY_LABEL]}])
    assert asked(denying, source=pod("a"), destination=world()) == "DAD", "denied by the rule or by default"
    denying["spec"]["enableDefaultDeny"] = {"egress": False}
    assert asked(denying, source=pod("a"), destination=world()) == "?A?"


BY_NAME = {"k8sService": {"serviceName": "cart"}}


def to_service(*wanted: Doc) -> Doc:
    return cnp("p", egress=[{"toServices": list(wanted)}])


def test_a_service_stands_for_the_pods_it_selects_in_its_namespace() -> None:
    cart = service("cart", selector={"app": "cart"})
    for destination, expected in (
        (pod("cart"), "AAA"),
        (pod("web"), "DAD"),
        (pod("cart", "ns2"), "DAD"),
        (world(), "DAD"),
    ):
        assert asked(to_service(BY_NAME), cart, source=pod("a"), destination=destination) == expected


def test_services_by_namespace_and_by_label() -> None:
    services = [service("cart", "ns2", {"app": "cart"}, tier="back"), service("web", "ns1", {"app": "web"})]
    there = {"k8sService": {"serviceName": "cart", "namespace": "ns2"}}
    labelled: Doc = {"k8sServiceSelector": {"selector": {"matchLabels": {"tier": "back"}}}}
    here = {"k8sServiceSelector": {**labelled["k8sServiceSelector"], "namespace": "ns1"}}
    cart = pod("cart", "ns2")
    assert asked(to_service(BY_NAME), *services, source=pod("a"), destination=cart) == "?A?", "not in the own namespace"
    assert asked(to_service(there), *services, source=pod("a"), destination=cart) == "AAA"
    assert asked(to_service(labelled), *services, source=pod("a"), destination=cart) == "AAA"
    assert asked(to_service(labelled), *services, source=pod("a"), destination=pod("web")) == "DAD"
    assert asked(to_service(here), *services, source=pod("a"), destination=cart) == "?A?"


def test_a_service_without_a_selector_stands_for_addresses_nobody_knows() -> None:
    cart = service("cart")
    assert asked(to_service(BY_NAME), cart, source=pod("a"), destination=world()) == "?A?"
    assert asked(to_service(BY_NAME), cart, source=pod("a"), destination=pod("cart")) == "DAD"
    assert asked(to_service(BY_NAME), source=pod("a"), destination=pod("cart")) == "?A?", "nor an unknown Service"


NODE = Peer(Labels.of(["reserved:remote-node", "node:zone=one"]))


def test_nodes_by_their_labels() -> None:
    policy = cnp("p", egress=[{"toNodes": [{"matchLabels": {"zone": "one"}}]}])
    for destination, expected in (
        (NODE, "AAA"),
        (NODE._replace(labels=Labels.of(["reserved:remote-node", "node:zone=two"])), "DAD"),
        (NODE._replace(labels=Labels.of(["reserved:host", "node:zone=one"])), "DAD"),
        (NODE._replace(labels=Labels.of([*NODE.labels, "k8s:io.cilium.k8s.policy.cluster=far"])), "DAD"),
        (pod("b", "ns1", "k8s:zone=one"), "DAD"),
    ):
        known = from_manifests([])
        known = replace(known, options=replace(known.options, node_selector_labels=True))
        assert letters(compiled(policy, known=known), pod("a"), destination) == expected


def test_groups_of_a_cloud_are_undecided() -> None:
    policy = cnp("p", egress=[{"toGroups": [{"aws": {"securityGroupsIds": ["sg-1"]}}]}])
    assert asked(policy, source=pod("a"), destination=world()) == "?A?"
    assert (
        asked(cnp("p", egress=[{"toGroups": [], "toPorts": [ports("80/TCP")]}]), source=pod("a"), destination=world())
        == "AAA"
    )


def test_named_ports_of_pods_that_manifests_declare() -> None:
    container = {"ports": [{"name": "web", "containerPort": 80}]}
    b = {
        "kind": "Pod",
        "metadata": {"name": "b-1", "namespace": "ns1", "labels": {"app": "b"}},
        "spec": {"containers": [container]},
    }
    known = from_manifests([b])
    labels = known.endpoints[0].labels
    policy = cnp("p", app="b", ingress=[{"toPorts": [ports("WEB/TCP")]}])
    assert letters(compiled(policy, known=known), pod("a"), Peer(labels)) == "AAA"
    assert letters(compiled(policy, known=known), pod("a"), Peer(labels), L4(Protocol.TCP, 81)) == "ADD"
    assert letters(compiled(policy, known=Inventory()), pod("a"), Peer(labels)) == "A??"
