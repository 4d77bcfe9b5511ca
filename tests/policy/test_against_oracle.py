"""The engine and the oracle, two readings of the same semantics that share no code, give the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions
from analyzer.policy import PolicySet, Traffic, parse
from tests.oracle.engine import decide
from tests.oracle.refused import refusal
from tests.oracle.world import World
from tests.policy.build import LETTERS, QUICK, Doc, compiled_in, traffic
from tests.strategies import documents, flows, policies, worlds

FLOWS = 12
"""Flows that are asked about each drawn cluster: drawing policies costs more than asking."""


def _answer(compiled: PolicySet, asked: Traffic) -> str:
    decision = compiled.decide(asked)
    outcomes = (decision.egress.outcome, decision.ingress.outcome, decision.outcome)
    letters = "".join(LETTERS[outcome] for outcome in outcomes)
    if "R" not in letters or (asked.http is None and asked.dns is None):
        return letters
    return letters + ("-" if False in (decision.egress.l7, decision.ingress.l7) else "+")


def _culprits(drawn: list[Doc], world: World, flow: Doc) -> list[Doc]:
    """The fewest documents about which both still disagree, found by leaving out one after the other."""
    for document in list(drawn):
        rest = [each for each in drawn if each is not document]
        if _answer(compiled_in(rest, world), traffic(flow, world)) != decide(rest, world, flow):
            drawn = rest
    return drawn


@QUICK
@given(st.data(), worlds(), policies())
def test_the_engine_decides_as_the_oracle(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    compiled = compiled_in(drawn, world)
    for _ in range(FLOWS):
        flow = data.draw(flows(world))
        answers = _answer(compiled, traffic(flow, world)), decide(drawn, world, flow)
        assert answers[0] == answers[1], (flow, _culprits(drawn, world, flow))


@QUICK
@given(documents())
def test_the_engine_refuses_as_the_oracle(document: Mapping[str, Any]) -> None:
    refused = refusal(document, AgentOptions())
    try:
        parse(document)
    except PolicyError:
        assert refused is not None
    else:
        assert refused is None


WEB = {"port": "80", "protocol": "TCP"}
REFUSED: list[tuple[str, Doc]] = [
    (
        "HTTP rules on a node's egress",
        {"nodeSelector": {}, "egress": [{"toPorts": [{"ports": [WEB], "rules": {"http": [{}]}}]}]},
    ),
    (
        "HTTP rules beside an empty list of DNS rules",
        {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [WEB], "rules": {"http": [{}], "dns": []}}]}]},
    ),
    (
        "an empty server name",
        {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [WEB], "serverNames": [""]}]}]},
    ),
    (
        "HTTP rules beside a listener",
        {
            "endpointSelector": {},
            "egress": [{"toPorts": [{"ports": [WEB], "listener": {"name": "l"}, "rules": {"http": [{}]}}]}],
        },
    ),
    ("a port of VRRP", {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [{**WEB, "protocol": "VRRP"}]}]}]}),
    ("a port of IGMP", {"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{**WEB, "protocol": "igmp"}]}]}]}),
    (
        "DNS rules on a node's ingress",
        {"nodeSelector": {}, "ingress": [{"toPorts": [{"ports": [WEB], "rules": {"dns": [{"matchPattern": "*"}]}}]}]},
    ),
    (
        "a hole that cannot be read",
        {"endpointSelector": {}, "ingress": [{"fromCIDRSet": [{"cidr": "192.0.2.0/24", "except": ["192.0.2.1"]}]}]},
    ),
    (
        "more than 40 ICMP types",
        {"endpointSelector": {}, "egress": [{"icmps": [{"fields": [{"type": kind} for kind in range(41)]}]}]},
    ),
]
ACCEPTED: list[tuple[str, Doc]] = [
    (
        "no port of VRRP",
        {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [{"port": "0", "protocol": "VRRP"}]}]}]},
    ),
    (
        "HTTP rules beside null",
        {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [WEB], "rules": {"http": [{}], "dns": None}}]}]},
    ),
    (
        "empty lists of both kinds of L7 rules",
        {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [WEB], "rules": {"http": [], "dns": []}}]}]},
    ),
    (
        "40 ICMP types",
        {"endpointSelector": {}, "egress": [{"icmps": [{"fields": [{"type": kind} for kind in range(40)]}] * 2}]},
    ),
    (
        "a hole that nobody reads beside a group",
        {"endpointSelector": {}, "ingress": [{"fromCIDRSet": [{"cidrGroupRef": "partners", "except": ["nonsense"]}]}]},
    ),
    (
        "server names on a node",
        {"nodeSelector": {}, "ingress": [{"toPorts": [{"ports": [WEB], "serverNames": ["a.test"]}]}]},
    ),
    (
        "DNS rules on a node's egress",
        {
            "nodeSelector": {},
            "egress": [{"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{"matchPattern": "*"}]}}]}],
        },
    ),
]


@pytest.mark.parametrize(
    ("spec", "refused"),
    [pytest.param(spec, True, id=name) for name, spec in REFUSED]
    + [pytest.param(spec, False, id=name) for name, spec in ACCEPTED],
)
def test_what_the_vectors_do_not_say_about_refusals(spec: Doc, refused: bool) -> None:
    """As in Cilium's `pkg/policy/api/rule_validation.go` (`Rule.Validate`)."""
    _both_say(spec, AgentOptions(), refused=refused)


def _both_say(spec: Doc, options: AgentOptions, *, refused: bool) -> None:
    document = {"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "p"}, "spec": spec}
    assert bool(refusal(document, options)) is refused
    try:
        parse({"apiVersion": "cilium.io/v2", **document}, options)
    except PolicyError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize(
    "port",
    [{}, {"protocol": "TCP"}, {"protocol": "UDP", "port": ""}, {"protocol": "GRE"}, {"protocol": "VRRP"}],
    ids=str,
)
@pytest.mark.parametrize("extended", [True, False])
def test_with_extended_protocols_a_port_may_be_left_out(port: Doc, extended: bool) -> None:
    spec = {"endpointSelector": {}, "egress": [{"toPorts": [{"ports": [port]}]}]}
    _both_say(spec, AgentOptions(extended_protocols=extended), refused=not extended)


@pytest.mark.parametrize("labels", [True, False])
def test_nodes_are_peers_with_node_labels_only(labels: bool) -> None:
    spec: Doc = {"endpointSelector": {}, "ingress": [{"fromNodes": [{}]}]}
    _both_say(spec, AgentOptions(node_selector_labels=labels), refused=not labels)
