"""Levels of detail: what rules look like at each, and that coarser ones allow all that finer ones do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from analyzer.model.edge import Edge
from analyzer.model.l4 import L4
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.policy import Outcome, Peer, Traffic, compile_policies, parse
from analyzer.recommend import L7, LEVELS, Level, Options, Proposal, Purpose, Settings, at, level_of, recommend
from tests.recommend.build import CART, DNS, REDIS, REMOTE_NODE, edge, lookup, outside, pod
from tests.recommend.test_laws import L4S, OTHERS, PODS, edges

REPORT = pod("batch", app="report")


def proposal(seen: list[Edge], level: str, namespace: str = "") -> Proposal:
    chosen = at(Settings(), Level.parse(level))
    return recommend(seen, options=Options(namespaces={namespace: chosen}) if namespace else Options(chosen))


def section(made: Proposal, name: str, which: str) -> list[dict[str, Any]]:
    (found,) = [each["spec"][which] for each in made.documents() if each["metadata"]["name"] == name]
    return found  # type: ignore[no-any-return]


def test_levels_are_read_as_they_are_written() -> None:
    assert [str(level) for level in LEVELS] == [
        "namespace/any", "workload/any", "namespace/port", "workload/port", "namespace/l7", "workload/l7",
    ]  # fmt: skip
    assert [Level.parse(str(level)) for level in LEVELS] == list(LEVELS)
    for wrong in ("", "workload", "pod/port", "workload/http", "workload/port/l7"):
        with pytest.raises(ValueError, match="no level of detail"):
            Level.parse(wrong)
    for level in LEVELS:
        assert level_of(at(Settings(), level)) == level
    assert at(Settings(l7=frozenset({L7.DNS})), Level.parse("workload/l7")).l7 == {L7.DNS}


def test_peers_by_namespace_make_one_rule_of_all_its_workloads() -> None:
    seen = [edge(REPORT, REDIS, "6379/TCP"), edge(pod("batch", app="worker"), REDIS, "6379/TCP")]
    assert len(section(proposal(seen, "workload/port"), "redis", "ingress")) == 2
    assert section(proposal(seen, "namespace/port"), "redis", "ingress") == [
        {
            "fromEndpoints": [{"matchLabels": {f"k8s:{NAMESPACE_KEY}": "batch"}}],
            "toPorts": [{"ports": [{"port": "6379", "protocol": "TCP"}]}],
        }
    ]


def test_any_port_says_nothing_of_ports_and_lets_addresses_be_part_of_the_world() -> None:
    seen = [
        edge(CART, REDIS, "6379/TCP"),
        edge(CART, REDIS, "ICMP/8"),
        edge(CART, outside("198.51.100.7"), "443/TCP"),
        edge(CART, outside("unknown"), "80/TCP"),
        edge(CART, REMOTE_NODE, "9100/TCP"),
    ]
    assert section(proposal(seen, "namespace/any"), "cart", "egress") == [
        {"toEndpoints": [{"matchLabels": {f"k8s:{NAMESPACE_KEY}": "shop"}}]},
        {"toEntities": ["remote-node"]},
        {"toEntities": ["world"]},
    ]


def test_name_resolution_keeps_its_port_and_its_workload() -> None:
    named = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
    names, resolver = section(proposal([lookup(CART), named], "namespace/any"), "cart", "egress")
    assert names == {"toFQDNs": [{"matchName": "api.example.com"}]}
    assert resolver["toEndpoints"][0]["matchLabels"]["k8s-app"] == "kube-dns"
    assert resolver["toPorts"][0]["ports"]


def test_levels_per_namespace() -> None:
    seen = [edge(REPORT, REDIS, "6379/TCP")]
    made = proposal(seen, "namespace/any", "shop")
    assert "toPorts" not in section(made, "redis", "ingress")[0]
    assert section(made, "report", "egress")[0]["toPorts"]


@settings(max_examples=40, deadline=None)
@given(edges())
def test_what_a_finer_level_allows_a_coarser_one_allows_too(found: list[Edge]) -> None:
    """Peer and port detail each on its own: fewer words in a rule never keep out who was let in."""
    compiled = {
        level: compile_policies(map(parse, proposal(found, str(level)).documents()))
        for level in LEVELS
        if level.port != "l7"
    }
    for fine in compiled:
        for coarse in compiled:
            if fine == coarse or LEVELS.index(coarse) > LEVELS.index(fine):
                continue
            if coarse.peer != "namespace" and fine.peer == "namespace":
                continue
            for traffic in _questions():
                before, after = compiled[fine].decide(traffic), compiled[coarse].decide(traffic)
                for one, other in ((before.egress, after.egress), (before.ingress, after.ingress)):
                    assert one.outcome is Outcome.DENIED or other.outcome is not Outcome.DENIED, (fine, coarse, traffic)


def _questions() -> list[Traffic]:
    pods = [Peer(each.labels, namespace=each.namespace) for each in PODS if each.cluster == "default"]
    others = [Peer(each.labels, ip=each.address if each.address[:1].isdigit() else "") for each in OTHERS[:7]]
    l4s = [L4.parse(each) for each in L4S]
    return [
        Traffic(*ends, l4)
        for one in pods
        for other in [*pods, *others]
        for l4 in l4s
        for ends in ((one, other), (other, one))
    ]


@settings(max_examples=40, deadline=None)
@given(edges())
def test_at_every_level_each_traffic_rule_stands_for_itself(found: list[Edge]) -> None:
    for level in LEVELS:
        for policy in proposal(found, str(level)).policies:
            for rule in policy.rules:
                if rule.purpose is Purpose.TRAFFIC:
                    assert rule.evidence
                    others = [each for each in policy.section(rule.direction) if each is not rule]
                    for other in others:
                        ports = set(rule.ports) & set(other.ports) or not (rule.ports and other.ports)
                        assert other.purpose is not Purpose.TRAFFIC or not (
                            set(rule.peers) & set(other.peers) and ports
                        )


def test_the_resolver_is_reached_at_every_level() -> None:
    seen = [lookup(CART), edge(CART, REDIS, "6379/TCP")]
    for level in LEVELS:
        compiled = compile_policies(map(parse, proposal(seen, str(level)).documents()))
        asked = Traffic(
            Peer(CART.labels, namespace="shop"), Peer(DNS.labels, namespace="kube-system"), L4.parse("53/UDP")
        )
        assert compiled.decide(asked).outcome in (Outcome.ALLOWED, Outcome.REDIRECTED)
