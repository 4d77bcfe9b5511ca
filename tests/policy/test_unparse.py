"""parse . unparse is the identity on every policy that parses; what comes out reads well and is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions
from analyzer.policy import parse
from analyzer.policy.unparse import unparse
from tests.conformance.case import read_cases
from tests.strategies import documents

VECTORS = Path(__file__).parents[1] / "conformance"
OPTIONS = st.sampled_from(
    [
        AgentOptions(),
        AgentOptions(any_cluster=True),
        AgentOptions(cluster_name="other", ipv6=True),
        AgentOptions(node_selector_labels=True),
    ]
)


def again(document: dict[str, Any], options: AgentOptions = AgentOptions()) -> dict[str, Any]:
    """The document after a round trip that changed nothing."""
    policy = parse(document, options)
    found = unparse(policy, options)
    assert parse(found, options) == policy
    return found


def cnp(**spec: Any) -> dict[str, Any]:
    meta = {"name": "p", "namespace": "ns1"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), OPTIONS)
def test_parse_reads_back_what_unparse_wrote(document: dict[str, Any], options: AgentOptions) -> None:
    try:
        policy = parse(document, options)
    except PolicyError:
        assume(False)
    assert parse(unparse(policy, options), options) == policy


@pytest.mark.parametrize("name", ["cilium-named", "cilium-random"])
def test_every_document_of_the_vectors(name: str) -> None:
    count = 0
    for case in read_cases(VECTORS / f"{name}.jsonl.gz"):
        options = case.options
        for document, expected in zip(case.body["policies"], case.body["expect"]["policies"], strict=True):
            if expected["valid"]:
                again(document, options)
                count += 1
    assert count > 150


@pytest.mark.parametrize(
    "spec",
    [
        {"endpointSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "b"}}]}]},
        {"endpointSelector": {}, "egress": [{"toCIDR": ["192.0.2.0/24"]}], "enableDefaultDeny": {"egress": False}},
        {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "a.test"}, {"matchPattern": "*.b.test"}]}]},
        {"endpointSelector": {}, "ingress": [{}], "egressDeny": [{"toEntities": ["world"]}]},
        {"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP", "endPort": 90}]}]}]},
        {
            "endpointSelector": {},
            "egress": [{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidrGroupRef": "g"}]}],
        },
        {
            "endpointSelector": {},
            "egress": [
                {
                    "toPorts": [
                        {
                            "ports": [{"port": "80", "protocol": "TCP"}],
                            "rules": {"http": [{"method": "GET", "path": "/a", "headers": ["x: 1", "y"]}]},
                        },
                        {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}},
                    ]
                }
            ],
        },
        {"endpointSelector": {}, "egress": [{"toServices": [{"k8sService": {"serviceName": "s", "namespace": "ns2"}}]}]},
        {
            "endpointSelector": {},
            "egress": [{"toServices": [{"k8sServiceSelector": {"selector": {"matchLabels": {"a": "b"}}, "namespace": "x"}}]}],
        },
        {"endpointSelector": {}, "egress": [{"toGroups": [{}]}]},
    ],
    ids=lambda spec: str(spec)[:60],
)  # fmt: skip
def test_plain_documents_come_back_as_they_were(spec: dict[str, Any]) -> None:
    assert again(cnp(**spec)) == cnp(**spec)


def test_specs_keep_their_places() -> None:
    spec = {"endpointSelector": {}, "ingress": [{}]}
    meta = {"name": "p"}
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": meta,
        "specs": [spec, spec],
    }
    assert again(document) == document
    assert again({**document, "spec": spec}) == {**document, "spec": spec}


def test_a_namespace_key_that_would_be_overwritten_stays_an_expression() -> None:
    key = "k8s:io.kubernetes.pod.namespace"
    subject = {"matchExpressions": [{"key": key, "operator": "In", "values": ["ns2"]}]}
    assert again(cnp(endpointSelector=subject, ingress=[{}]))["spec"]["endpointSelector"] == subject


def test_what_is_not_modelled_is_marked() -> None:
    item = {"toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}], "serverNames": ["a.test"]}]}
    found = again(cnp(endpointSelector={}, egress=[item]))
    assert found["spec"]["egress"][0]["toPorts"][0]["terminatingTLS"] == {"secret": {"name": "not-modelled"}}


def test_headers_that_no_text_can_say() -> None:
    rules = {"http": [{"headers": ["X: "], "headerMatches": [{"name": "a b", "value": "1"}, {"name": "c:"}]}]}
    found = again(
        cnp(
            endpointSelector={}, ingress=[{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": rules}]}]
        )
    )
    assert found["spec"]["ingress"][0]["toPorts"][0]["rules"]["http"] == [
        {"headers": ["x: "], "headerMatches": [{"name": "a b", "value": "1"}, {"name": "c:"}]}
    ]


def test_many_icmp_fields_are_spread_over_rules_that_the_schema_takes() -> None:
    fields = [{"family": "IPv4", "type": number} for number in range(1, 42)]
    found = again(cnp(endpointSelector={}, ingress=[{"icmps": [{"fields": fields[:20]}, {"fields": fields[20:]}]}]))
    assert [len(each["fields"]) for each in found["spec"]["ingress"][0]["icmps"]] == [40, 1]


@pytest.mark.parametrize(
    "spec",
    [
        {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
        {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 80}, {"protocol": "UDP", "port": "dns"}]}]},
        {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]},
        {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {"namespaceSelector": {}},
                        {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchLabels": {"app": "x"}}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [{"port": 8000, "endPort": 8080}],
                }
            ],
        },
    ],
    ids=lambda spec: str(spec)[:60],
)  # fmt: skip
def test_kubernetes_policies_come_back_as_they_were(spec: dict[str, Any]) -> None:
    meta = {"name": "p", "namespace": "ns1"}
    document = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
    assert again(document) == document


def test_kubernetes_policies_with_parts_that_choose_nothing() -> None:
    meta = {"name": "p", "namespace": "ns1"}
    ingress = [{"from": [{"ipBlock": {"cidr": "nonsense"}}], "ports": [{"port": "_"}, {"port": "dns", "endPort": 99}]}]
    spec = {"podSelector": {}, "policyTypes": ["Other"], "ingress": ingress, "egress": [{"ports": [{"port": "_"}]}]}
    again({"kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    again({"kind": "NetworkPolicy", "metadata": meta, "spec": {"policyTypes": ["Other"]}})
