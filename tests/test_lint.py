"""lint: every trap fires where it should, with its place, and stays silent on the harmless neighbour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from analyzer.inventories import from_manifests
from analyzer.lint import RULES, Finding, Severity, lint
from analyzer.manifests import Document, parse
from analyzer.model.inventory import Inventory
from tests.strategies import policies

Doc = dict[str, Any]
NAMESPACE = "k8s:io.kubernetes.pod.namespace"
DNS_PEER = {"matchLabels": {"k8s-app": "kube-dns", NAMESPACE: "kube-system"}}
DNS: Doc = {
    "toEndpoints": [DNS_PEER],
    "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}],
}
WEB = {"toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}
FQDN = {"toFQDNs": [{"matchName": "api.example.com"}], **WEB}
A: Doc = {"matchLabels": {"app": "a"}}


def cnp(name: str = "p", namespace: str = "shop", **spec: Any) -> Doc:
    meta = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": meta,
        "spec": {"endpointSelector": A, **spec},
    }


def ccnp(name: str = "c", **spec: Any) -> Doc:
    body = {"endpointSelector": {"matchLabels": {"app": "a", NAMESPACE: "shop"}}, **spec}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name},
        "spec": body,
    }


def knp(name: str = "k", **spec: Any) -> Doc:
    meta = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {"podSelector": A, **spec},
    }


def findings(
    documents: Sequence[Doc], inventory: Inventory | None = None, around: Sequence[Doc] = ()
) -> Sequence[Finding]:
    made = [Document(each, "x.yaml", index, 1) for index, each in enumerate(documents)]
    return lint(made, inventory, [Document(each) for each in around]).findings


def found(*documents: Doc, inventory: Inventory | None = None, around: Sequence[Doc] = ()) -> list[tuple[str, str]]:
    return [(each.rule, each.field) for each in findings(documents, inventory, around)]


NEEDLESS: Doc = {"fromEndpoints": [A]}
TRAPS: list[tuple[Doc, str, str]] = [
    (cnp(ingressDeny=[{"fromEntities": ["all"]}]), "deny-all", "spec.ingressDeny[0]"),
    (cnp(ingress=[NEEDLESS], ingressDeny=[{}, {"fromEntities": ["world", "cluster"]}]), "deny-all", "spec.ingressDeny[1]"),
    (cnp(egressDeny=[{"toEndpoints": [{}]}]), "deny-all", "spec.egressDeny[0]"),
    (cnp(egressDeny=[{"toEntities": ["all"], "toPorts": [{"ports": [{"port": "0"}]}]}]), "deny-all", "spec.egressDeny[0]"),
    (cnp(ingressDeny=[{"fromEntities": ["world"]}]), "deny-only", "spec.ingressDeny"),
    (cnp(egress=[DNS], ingressDeny=[{}]), "deny-only", "spec.ingressDeny"),
    (cnp(ingress=[NEEDLESS], enableDefaultDeny={"egress": True}), "default-deny-alone", "spec.enableDefaultDeny.egress"),
    (cnp(ingress=[NEEDLESS], enableDefaultDeny={"egress": False}), "default-deny-alone", "spec.enableDefaultDeny.egress"),
    (cnp(ingress=[{"fromEndpoints": []}]), "empty-list", "spec.ingress[0].fromEndpoints"),
    (cnp(ingress=[{"fromEntities": [], **WEB}]), "empty-list", "spec.ingress[0].fromEntities"),
    (cnp(egress=[{"toCIDR": []}, DNS]), "empty-list", "spec.egress[0].toCIDR"),
    (cnp(egress=[{"toFQDNs": [], **WEB}, DNS]), "empty-list", "spec.egress[0].toFQDNs"),
    (cnp(egress=[{"toServices": []}, DNS]), "empty-list", "spec.egress[0].toServices"),
    (cnp(ingress=[{"fromEndpoints": [A], "toPorts": []}]), "empty-list", "spec.ingress[0].toPorts"),
    (cnp(ingress=[{"fromEndpoints": [A], "toPorts": [{}]}]), "empty-list", "spec.ingress[0].toPorts[0].ports"),
    (cnp(ingress=[{"icmps": []}]), "empty-list", "spec.ingress[0].icmps"),
    (cnp(ingress=[{"icmps": [{"fields": []}]}]), "empty-list", "spec.ingress[0].icmps[0].fields"),
    (cnp(ingress=[{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": []}}]}]),
     "empty-list", "spec.ingress[0].toPorts[0].rules.http"),
    (cnp(ingress=[NEEDLESS], egress=[]), "empty-list", "spec.egress"),
    (knp(ingress=[{"from": []}]), "empty-list", "spec.ingress[0].from"),
    (knp(ingress=[{"from": [{"podSelector": {}}], "ports": []}]), "empty-list", "spec.ingress[0].ports"),
    (cnp(ingress=[{"icmps": [{"fields": [{"type": 8}, {"type": 0}]}]}]), "icmp-type-zero",
     "spec.ingress[0].icmps[0].fields[1].type"),
    (cnp(ingressDeny=[{"icmps": [{"fields": [{"type": "EchoReply"}]}]}], ingress=[{}]), "icmp-type-zero",
     "spec.ingressDeny[0].icmps[0].fields[0].type"),
    (cnp(ingress=[{"icmps": [{"fields": [{"type": 300}]}]}]), "icmp-type-range", "spec.ingress[0].icmps[0].fields[0].type"),
    (cnp(ingress=[{"toPorts": [{"ports": [{"port": "0120"}]}]}]), "port-octal", "spec.ingress[0].toPorts[0].ports[0].port"),
    (cnp(ingress=[{"toPorts": [{"ports": [{"port": "0x50"}]}]}]), "port-name", "spec.ingress[0].toPorts[0].ports[0].port"),
    (cnp(ingress=[{"toPorts": [{"ports": [{"port": "90", "endPort": 80}]}]}]), "port-range",
     "spec.ingress[0].toPorts[0].ports[0].endPort"),
    (ccnp(ingress=[NEEDLESS]), "no-namespace", "spec.ingress[0].fromEndpoints[0]"),
    (ccnp(endpointSelector=A, ingress=[{}]), "every-namespace", "spec.endpointSelector"),
    (ccnp(endpointSelector={}, ingress=[{}]), "selects-health", "spec.endpointSelector"),
    (ccnp(endpointSelector={"matchExpressions": [{"key": NAMESPACE, "operator": "NotIn", "values": ["kube-system"]}]},
          ingress=[{}]), "not-in-namespace", "spec.endpointSelector"),
    (cnp(egress=[{"toEndpoints": [{"matchLabels": {"k8s-app": "kube-dns"}}],
                  "toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}]}]}]),
     "no-namespace", "spec.egress[0].toEndpoints[0]"),
    (cnp(endpointSelector={"matchLabels": {NAMESPACE: "other"}}, ingress=[{}]), "foreign-namespace",
     f"spec.endpointSelector.matchLabels.{NAMESPACE}"),
    (cnp(endpointSelector={"matchLabels": {"io.kubernetes.pod.namespace": "other"}}, ingress=[{}]), "foreign-namespace",
     "spec.endpointSelector"),
    (cnp(ingress=[{"fromEndpoints": [{"matchLabels": {"k8s.app": "b"}}]}]), "label-source",
     "spec.ingress[0].fromEndpoints[0].matchLabels.k8s.app"),
    (cnp(egress=[FQDN]), "fqdn-without-dns", "spec.egress[0].toFQDNs"),
    (cnp(egress=[{"toEndpoints": [A]}]), "egress-without-dns", "spec.egress"),
    (cnp(egress=[WEB]), "egress-without-dns", "spec.egress"),
    (knp(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}]), "egress-without-dns", "spec.egress"),
    ({**ccnp(ingress=[{}]), "metadata": {"name": "c", "namespace": "shop"}}, "ignored-namespace", "metadata.namespace"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "rule", "field"), TRAPS, ids=lambda each: json.dumps(each)[-60:])
def test_a_trap_and_no_other_is_told(document: Doc, rule: str, field: str) -> None:
    (finding,) = findings([document])
    assert (finding.rule, finding.field) == (rule, field)
    assert (finding.severity, finding.refused_by) == (Severity.WARNING, "")
    assert finding.message
    assert finding.hint


def test_every_rule_has_its_sentence() -> None:
    told = {rule for _, rule, _ in TRAPS}
    assert told | {"cidr-inside", "refused-by-agent", "refused-by-schema", "replaced", "unknown-field"} == set(RULES)


HARMLESS: list[Doc] = [
    cnp(ingress=[NEEDLESS], enableDefaultDeny={"ingress": False, "egress": False}),
    cnp(ingress=[{}]),
    cnp(egress=[{}]),
    cnp(ingress=[NEEDLESS], ingressDeny=[{"fromEntities": ["world"]}]),
    cnp(ingressDeny=[{"fromEntities": ["world"]}], enableDefaultDeny={"ingress": False}),
    cnp(ingressDeny=[{"fromEntities": ["world"]}], enableDefaultDeny={"ingress": True}),
    cnp(ingress=[{}], ingressDeny=[{"fromEntities": ["all"], **WEB}]),
    cnp(ingress=[{"fromEndpoints": [{}]}], enableDefaultDeny={"ingress": False}),
    cnp(egress=[{"toFQDNs": [], "toEndpoints": [A]}, DNS]),
    cnp(ingress=[{"icmps": [{"fields": [{"type": 8}, {"type": 128, "family": "IPv6"}, {"type": "EchoReply", "family": "IPv6"}]}]}]),
    cnp(ingress=[{"toPorts": [{"ports": [{"port": "80", "endPort": 90}, {"port": "0"}]}]}]),
    ccnp(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "a", NAMESPACE: "x"}}, {}]}]),
    ccnp(ingress=[{}], ingressDeny=[NEEDLESS]),
    ccnp(ingress=[{"fromEndpoints": [{"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "a"}}]}]),
    ccnp(endpointSelector={"matchExpressions": [{"key": NAMESPACE, "operator": "NotIn", "values": ["a"]},
                                                {"key": NAMESPACE, "operator": "Exists"}]}, ingress=[{}]),
    ccnp(endpointSelector={"matchLabels": {"reserved:health": ""}}, ingress=[{"fromEntities": ["remote-node"]}]),
    cnp(endpointSelector={"matchLabels": {NAMESPACE: "shop"}}, ingress=[{}]),
    cnp(egress=[FQDN, DNS]),
    cnp(egress=[{"toEndpoints": [A]}, DNS]),
    cnp(egress=[{"toEndpoints": [A]}, {"toPorts": [{"ports": [{"port": "53"}]}]}]),
    cnp(egress=[{"toEndpoints": [A]}, {"toEntities": ["cluster"]}]),
    cnp(egress=[{"toEndpoints": [A]}], enableDefaultDeny={"egress": False}),
    cnp(egress=[{"toCIDR": ["192.0.2.0/24"]}]),
    cnp(egress=[{"icmps": [{"fields": [{"type": 8}]}], "toEntities": ["host"]}]),
    knp(policyTypes=["Ingress"]),
    knp(ingress=[]),
    knp(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}]),
    cnp(egress=[DNS], endpointSelector={"matchLabels": {"k8s-app": "kube-dns"}}, ingress=[{"fromEntities": ["cluster"]}]),
]  # fmt: skip


@pytest.mark.parametrize("document", HARMLESS, ids=lambda each: json.dumps(each["spec"])[-70:])
def test_what_is_harmless_is_silent(document: Doc) -> None:
    assert found(document) == []


def test_names_are_learned_by_a_rule_of_another_policy_that_covers_the_same_pods() -> None:
    asking = cnp(egress=[FQDN])
    assert found(asking, cnp("dns", endpointSelector={}, egress=[DNS])) == []
    every = {"matchExpressions": [{"key": NAMESPACE, "operator": "Exists"}]}
    assert found(asking, ccnp("dns", endpointSelector=every, egress=[DNS])) == []
    others = [*every["matchExpressions"], {"key": "app", "operator": "NotIn", "values": ["b"]}]
    assert found(asking, ccnp("dns", endpointSelector={"matchExpressions": others}, egress=[DNS])) == []
    own = [*every["matchExpressions"], {"key": "app", "operator": "NotIn", "values": ["a"]}]
    assert found(asking, ccnp("dns", endpointSelector={"matchExpressions": own}, egress=[DNS])) == [
        ("fqdn-without-dns", "spec.egress[0].toFQDNs")
    ]
    assert ("fqdn-without-dns", "spec.egress[0].toFQDNs") in found(
        asking, cnp("dns", "other", endpointSelector={}, egress=[DNS])
    )
    wider = cnp("dns", endpointSelector={"matchLabels": {"app": "a", "tier": "x"}}, egress=[DNS])
    assert ("fqdn-without-dns", "spec.egress[0].toFQDNs") in found(asking, wider)


def test_an_exception_for_a_label_that_nobody_asks_about_is_none() -> None:
    asking = cnp(egress=[FQDN])

    def dns(key: str, operator: str, *values: str) -> Doc:
        expression = {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
        return ccnp(
            "dns", endpointSelector={"matchLabels": {NAMESPACE: "shop"}, "matchExpressions": [expression]}, egress=[DNS]
        )

    assert found(asking, dns("dns-proxy", "NotIn", "off")) == []
    assert found(asking, dns("dns-proxy", "DoesNotExist")) == []
    for meant in (
        dns("app", "NotIn", "a"),
        dns("app", "DoesNotExist"),
        dns("dns-proxy", "In", "on"),
        dns("dns-proxy", "Exists"),
    ):
        assert found(asking, meant) == [("fqdn-without-dns", "spec.egress[0].toFQDNs")]


def test_a_template_is_told_as_one() -> None:
    template = cnp(
        endpointSelector={"matchLabels": {"app": "${APP}"}},
        ingress=[{"fromCIDR": ["${LAN}/16"]}, {"fromEntities": ["everyone"]}],
        egress=[{"toFQDNs": [{"matchName": "${HOST:=example.com}"}]}, {"toEndpoints": [{"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["b", "${APP}"]}]}]}],
    )  # fmt: skip
    first, *others = findings([template])
    assert first.message == "variables are not filled in: ${APP}, ${LAN}, ${HOST:=example.com}"
    assert (first.refused_by, first.field) == ("agent", "spec.endpointSelector.matchLabels.app")
    assert "render it first" in first.hint
    assert {each.field for each in others} == {"spec.ingress[1].fromEntities[0]"}
    assert {each.refused_by for each in others} == {"schema", "agent"}


def test_names_must_be_among_those_that_may_be_looked_up() -> None:
    def dns(**rule: str) -> Doc:
        return {"toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}], "rules": {"dns": [rule]}}]}

    assert found(cnp(egress=[FQDN, dns(matchPattern="*.example.com")])) == []
    assert found(cnp(egress=[FQDN, dns(matchName="API.example.com.")])) == []
    assert found(cnp(egress=[FQDN, dns(matchName="example.com")])) == [
        ("fqdn-without-dns", "spec.egress[0].toFQDNs[0]")
    ]
    pattern = {"toFQDNs": [{"matchPattern": "*.example.com"}]}
    assert found(cnp(egress=[pattern, dns(matchPattern="*.example.com")])) == []
    assert found(cnp(egress=[pattern, dns(matchPattern="*.other.com")])) == [
        ("fqdn-without-dns", "spec.egress[0].toFQDNs[0]")
    ]


def pod(name: str, ip: str, **labels: str) -> Doc:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels}, "status": {"podIP": ip}}


CLUSTER: list[Doc] = [
    pod("a-1", "10.0.0.5", app="a", tier="x"),
    pod("b-1", "10.0.0.6", app="b"),
    {"kind": "Service", "metadata": {"name": "s", "namespace": "shop"}, "spec": {"clusterIP": "172.20.0.9"}},
    {"kind": "Node", "status": {"addresses": [{"address": "10.9.0.1"}, {"address": "node-1"}]}},
    {"kind": "CiliumNode", "spec": {"addresses": [{"ip": "2001:db8::1"}]}},
]


@pytest.mark.parametrize(
    ("peers", "told"),
    [
        ({"toCIDR": ["10.0.0.0/8"]}, "10.0.0.5 (pod shop/a-1) and 2 more"),
        ({"toCIDR": ["10.0.0.6/32"]}, "10.0.0.6 (pod shop/b-1) in"),
        ({"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/16"]}]}, "10.9.0.1 (node) in"),
        ({"toCIDR": ["2001:db8::/32"]}, "2001:db8::1 (node) in"),
        ({"toCIDR": ["172.20.0.0/16"]}, "172.20.0.9 (service shop/s) in"),
        ({"toCIDR": ["0.0.0.0/0", "192.0.2.0/24", "2001:db9::/32"]}, None),
        ({"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/16", "10.9.0.1/32"]}, {"cidrGroupRef": "g"}]}, None),
    ],
    ids=str,
)  # fmt: skip
def test_prefixes_aimed_at_the_inside_of_the_cluster(peers: Doc, told: str | None) -> None:
    rules = findings([cnp(egress=[peers])], from_manifests(CLUSTER), CLUSTER)
    assert [each.rule for each in rules] == (["cidr-inside"] if told else [])
    assert told is None or told in rules[0].message
    assert found(cnp(egress=[peers])) == []


def test_prefixes_of_network_policies() -> None:
    policy = knp(
        ingress=[{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.5/32"]}}]}]
    )
    rules = findings([policy], from_manifests(CLUSTER), CLUSTER)
    assert [(each.rule, each.field) for each in rules] == [("cidr-inside", "spec.ingress[0].from[1].ipBlock.cidr")]
    assert "10.0.0.6" in rules[0].message


def test_known_pods_tell_whether_rules_on_dns_meet() -> None:
    wider = cnp("dns", endpointSelector={"matchLabels": {"tier": "x"}}, egress=[DNS])
    assert found(cnp(egress=[FQDN]), wider) != []
    assert found(cnp(egress=[FQDN]), wider, inventory=from_manifests(CLUSTER)) == []
    more = [*CLUSTER, pod("a-2", "10.0.0.7", app="a", tier="y")]
    assert found(cnp(egress=[FQDN]), wider, inventory=from_manifests(more)) != []


def test_one_object_twice() -> None:
    assert found(cnp(ingress=[{}]), cnp(ingress=[NEEDLESS]), cnp("q", ingress=[{}])) == [("replaced", "metadata.name")]
    twice = [Document(cnp(ingress=[{}]), path) for path in ("a/x.yaml", "b/x.yaml", "b/y.yaml")]
    assert [(each.rule, each.path) for each in lint(twice).findings] == [("replaced", "b/x.yaml")]


def test_refusals_name_who_refuses_and_the_next_step() -> None:
    bad = cnp(
        ingress=[{"fromEndpoint": [{}]}, {"toPorts": [{"ports": [{"port": 80}]}]}],
        egressDeny=[{"toFQDNs": [{"matchName": "x"}]}],
    )
    rules = findings([bad])
    port = "spec.ingress[1].toPorts[0].ports[0].port"
    assert [(each.severity, each.refused_by, each.field) for each in rules] == [
        (Severity.ERROR, "schema", "spec.ingress[0].fromEndpoint"),
        (Severity.ERROR, "schema", port),
        (Severity.ERROR, "schema", "spec.egressDeny[0].toFQDNs"),
        (Severity.ERROR, "agent", port),
    ]
    assert "quote it" in rules[1].hint
    assert "denies nothing" in rules[2].hint


def test_places_and_other_kinds() -> None:
    text = "\n---\n".join(
        json.dumps(each)
        for each in ({"kind": "Pod"}, cnp(egress=[FQDN]), {"x": 1}, cnp("q", ingress=[{"fromCIDR": []}]))
    )
    linted = lint(parse(text, "all.yaml"))
    assert [(each.path, each.document, each.line, each.policy) for each in linted.findings] == [
        ("all.yaml", 1, 3, "CiliumNetworkPolicy shop/p"), ("all.yaml", 3, 7, "CiliumNetworkPolicy shop/q"),
    ]  # fmt: skip
    assert linted.policies == 2
    assert linted.others == {"Pod": 1, "without a kind": 1}
    assert [each.rule for each in linted.without(["empty-list"]).findings] == ["fqdn-without-dns"]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies())
def test_any_policies_are_linted(documents: list[Doc]) -> None:
    """Nothing raises, and every place that is told exists or is told to be missing."""
    for each in findings(documents, from_manifests(CLUSTER), CLUSTER):
        assert each.message
        assert each.hint
        assert each.severity is (Severity.ERROR if each.refused_by else Severity.WARNING)
