"""Inventories: what edges tell, what manifests tell, and both together."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.aggregate import aggregate
from analyzer.inventories import from_edges, from_manifests, merged
from analyzer.model.flow import Detail
from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.settle import settle
from tests.flows import HOST, WORLD, pod, tcp

NAMESPACE = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "blue"}}}


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "web", "containerPort": 8080},
        {"containerPort": 1},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]
    template = {
        "metadata": {"labels": {"app": name, "pod-template-hash": "abc", "controller-revision-hash": "d"}},
        "spec": {"serviceAccountName": "robot", "containers": [{"ports": ports}], **spec},
    }
    inner = {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    return {"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": inner}


def running(name: str, ip: str, **spec: Any) -> dict[str, Any]:
    made = workload("Deployment", name, **spec)["spec"]["template"]
    meta = {"name": f"{name}-1", "namespace": "shop", "labels": made["metadata"]["labels"],
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-abc"}]}  # fmt: skip
    return {"kind": "Pod", "metadata": meta, "spec": made["spec"], "status": {"podIP": ip, "podIPs": [{"ip": ip}]}}


def test_edges_tell_identities_namespace_labels_names_and_generated_port_names() -> None:
    labels = Labels.of(
        [
            *pod("cart").labels,
            "k8s:io.cilium.k8s.namespace.labels.team=blue",
            "gen:io.cilium.k8s.named-ports=web.TCP.8080_x",
        ]
    )
    cart = pod("cart")._replace(labels=labels)
    detail = Detail(destination_names=("api.example.com",))
    flows = [
        tcp(cart, WORLD, 443, destination_ip="198.51.100.7", detail=detail),
        tcp(HOST, cart, 8080),
        tcp(cart, pod("redis"), 6379),
    ]
    found = from_edges(settle(aggregate(flows)))
    assert [(each.namespace, each.name, each.workload) for each in found.endpoints] == [
        ("shop", "cart", "Deployment/cart"),
        ("shop", "redis", "Deployment/redis"),
    ]
    assert found.endpoints[0].named_ports == {"web": L4(Protocol.TCP, 8080)}
    assert found.endpoints[1].named_ports is None, "undeclared is unknown, not empty"
    assert found.namespaces == {"shop": {"team": "blue"}}
    assert found.names == {"api.example.com": ("198.51.100.7",)}


def test_manifests_make_the_labels_that_cilium_makes() -> None:
    found = from_manifests(
        [NAMESPACE, running("cart", "10.0.0.9"), workload("Deployment", "cart"), workload("CronJob", "report")]
    )
    cart, report = found.endpoints
    assert cart.labels.strings() == (
        "k8s:app=cart",
        "k8s:io.cilium.k8s.namespace.labels.team=blue",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=robot",
        "k8s:io.kubernetes.pod.namespace=shop",
    )
    assert (cart.ips, cart.workload) == (("10.0.0.9",), "ReplicaSet/cart-abc"), (
        "the pod that runs, not its Deployment again"
    )
    assert report.workload == "CronJob/report"
    assert cart.named_ports == {"web": L4(Protocol.TCP, 8080), "dns": L4(Protocol.UDP, 53)}


def test_host_network_pods_are_no_endpoints() -> None:
    pods = [running("cart", "10.0.0.9", hostNetwork=True), workload("DaemonSet", "agent", hostNetwork=True)]
    assert from_manifests(pods).endpoints == ()


def test_services_and_cidr_groups() -> None:
    service = {
        "kind": "Service",
        "metadata": {"name": "redis", "namespace": "shop", "labels": {"a": "b"}},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "redis"}, "ports": [{"port": 80, "targetPort": "web"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
    }
    group = {
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "partners"},
        "spec": {"externalCIDRs": ["198.51.100.0/24"]},
    }
    found = from_manifests([service, group, {"kind": "Secret"}, {}])
    assert found.services[0].ports == ((L4(Protocol.TCP, 80), "web"),)
    assert (found.services[0].cluster_ips, found.services[0].external_ips) == (("10.96.0.9",), ("203.0.113.5",))
    assert found.cidr_groups[0].cidrs == ("198.51.100.0/24",)


def test_fields_of_the_wrong_type_are_passed_over() -> None:
    odd: list[dict[str, Any]] = [
        {"kind": "Pod", "metadata": [], "spec": "x", "status": 3},
        {"kind": "Pod", "metadata": {"labels": {"a": 1, "b": "c"}}, "spec": {"containers": [None, {"ports": [7]}]}},
        {"kind": "Service", "spec": {"ports": [{"port": "http"}], "clusterIP": "None"}},
        {"kind": "Deployment", "spec": {"template": None}},
    ]
    found = from_manifests(odd)
    assert len(found.endpoints) == 2
    assert found.services[0].cluster_ips == ()


def test_declared_wins_over_seen() -> None:
    seen = from_edges(settle(aggregate([tcp(pod("cart"), pod("redis"), 6379)])))
    declared = from_manifests([NAMESPACE, running("cart", "10.0.0.9")])
    both = merged(seen, declared)
    assert {each.name for each in both.endpoints} == {"cart", "cart-1", "redis"}
    assert both.namespaces["shop"] == {"team": "blue"}
    assert merged(seen, seen) == seen


def test_dns_answers_name_the_addresses_that_edges_have() -> None:
    edges = settle(aggregate([tcp(pod("web"), WORLD, 443, destination_ip="198.51.100.7")]))
    resolved = {"api.example.com": ("198.51.100.7", "198.51.100.8"), "b.example.com": ("198.51.100.9",)}
    assert from_edges(edges).names == {}
    assert from_edges(edges, resolved).names == {"api.example.com": ("198.51.100.7",)}


def test_pods_seen_with_fewer_labels_have_the_ports_that_their_manifests_declare() -> None:
    declared = from_manifests([running("web", "10.0.0.1"), workload("Deployment", "api")])
    bare = settle(aggregate([tcp(pod("web"), pod("db"), 80)]))
    ports = {
        each.labels.get("app"): each.named_ports
        for each in merged(from_edges(bare), declared).endpoints
        if not each.ips
    }
    assert ports["web"] == {"web": L4(Protocol.TCP, 8080), "dns": L4(Protocol.UDP, 53)}
    assert ports["db"] is None


def test_the_agents_settings_come_from_its_config_map() -> None:
    data = {
        "allow-localhost": "policy",
        "enable-extended-ip-protocols": "true",
        "enable-host-firewall": "true",
        "enable-ipv6": "true",
        "enable-node-selector-labels": "true",
        "enable-policy": "always",
        "policy-cidr-match-mode": "nodes",
        "policy-default-local-cluster": "false",
    }
    config = {"kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": data}
    assert from_manifests([config], "one").options == AgentOptions(
        allow_localhost="policy",
        enforcement="always",
        ipv6=True,
        host_firewall=True,
        node_selector_labels=True,
        cidr_match_nodes=True,
        extended_protocols=True,
        any_cluster=True,
        cluster_name="one",
    )
    plain = {
        "allow-localhost": "auto",
        "enable-policy": "default",
        "enable-ipv6": "false",
        "policy-cidr-match-mode": "",
    }
    for data in (plain, {}):
        assert from_manifests([{**config, "data": data}], "one").options == AgentOptions(cluster_name="one")
    other = {"kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"enable-policy": "never"}}
    assert from_manifests([other], "one").options == AgentOptions(cluster_name="one")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_finished_has_no_address_any_more(phase: str) -> None:
    """It still shows the one that it had, which another pod may have by now."""
    finished = running("job", "10.0.0.7")
    finished["status"]["phase"] = phase
    inventory = from_manifests([finished, running("web", "10.0.0.7")])
    assert {endpoint.name: endpoint.ips for endpoint in inventory.endpoints} == {"job-1": (), "web-1": ("10.0.0.7",)}
