"""The engine and the oracle, two readings of the same semantics that share no code, give the same answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import L4, Protocol
from analyzer.policy import (
    DnsQuery,
    HttpRequest,
    Outcome,
    Peer,
    PolicySet,
    Traffic,
    compile_policies,
    parse,
)
from tests.oracle.engine import decide
from tests.oracle.refused import refusal
from tests.oracle.world import World
from tests.strategies import documents, flows, inventory, policies, worlds

Doc = dict[str, Any]
FLOWS = 12
"""Flows that are asked about each drawn cluster: drawing policies costs more than asking."""
LETTERS = {Outcome.ALLOWED: "A", Outcome.DENIED: "D", Outcome.REDIRECTED: "R", Outcome.UNDECIDED: "U"}
QUICK = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Without shrinking, which takes minutes on whole clusters: `_culprits` leaves out documents instead."""


def _compiled(drawn: Sequence[Doc], world: World) -> PolicySet:
    accepted = []
    for document in drawn:
        try:
            accepted.append(parse(document, world.options))
        except PolicyError:
            continue
    return compile_policies(accepted, inventory(world))


def _traffic(flow: Doc, world: World) -> Traffic:
    ends = []
    for who in (flow["src"], flow["dst"]):
        party = world.party(who)
        ends.append(Peer(party.labels, party.ip, party.names, party.labels.namespace))
    protocol, request = Protocol.parse(flow["proto"]), flow.get("l7")
    l4 = L4(protocol, flow["icmpType"] if protocol.is_icmp else flow["port"])
    if not request:
        return Traffic(ends[0], ends[1], l4)
    if "dns" in request:
        return Traffic(ends[0], ends[1], l4, dns=DnsQuery(request["dns"]))
    headers = tuple((request.get("headers") or {}).items())
    http = HttpRequest(request["method"], request["path"], request.get("host", ""), headers)
    return Traffic(ends[0], ends[1], l4, http=http)


def _answer(compiled: PolicySet, traffic: Traffic) -> str:
    decision = compiled.decide(traffic)
    outcomes = (decision.egress.outcome, decision.ingress.outcome, decision.outcome)
    letters = "".join(LETTERS[outcome] for outcome in outcomes)
    if "R" not in letters or (traffic.http is None and traffic.dns is None):
        return letters
    return letters + ("-" if False in (decision.egress.l7, decision.ingress.l7) else "+")


def _culprits(drawn: list[Doc], world: World, flow: Doc) -> list[Doc]:
    """The fewest documents about which both still disagree, found by leaving out one after the other."""
    for document in list(drawn):
        rest = [each for each in drawn if each is not document]
        if _answer(_compiled(rest, world), _traffic(flow, world)) != decide(rest, world, flow):
            drawn = rest
    return drawn


@QUICK
@given(st.data(), worlds(), policies())
def test_the_engine_decides_as_the_oracle(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    compiled = _compiled(drawn, world)
    for _ in range(FLOWS):
        flow = data.draw(flows(world))
        answers = _answer(compiled, _traffic(flow, world)), decide(drawn, world, flow)
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
    (
        "more than 40 ICMP types",
        {"endpointSelector": {}, "egress": [{"icmps": [{"fields": [{"type": kind} for kind in range(41)]}]}]},
    ),
]
ACCEPTED: list[tuple[str, Doc]] = [
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
OPEN = {name for name, _ in REFUSED} | {"server names on a node"}
"""What the engine does not check yet, or checks too strictly."""


def _open(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(strict=True, reason="the engine differs here")] if name in OPEN else []


@pytest.mark.parametrize(
    ("spec", "refused"),
    [pytest.param(spec, True, id=name, marks=_open(name)) for name, spec in REFUSED]
    + [pytest.param(spec, False, id=name, marks=_open(name)) for name, spec in ACCEPTED],
)
def test_what_the_vectors_do_not_say_about_refusals(spec: Doc, refused: bool) -> None:
    """As in Cilium's `pkg/policy/api/rule_validation.go` (`Rule.Validate`)."""
    document = {"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "p"}, "spec": spec}
    assert bool(refusal(document, AgentOptions())) is refused
    try:
        parse({"apiVersion": "cilium.io/v2", **document})
    except PolicyError:
        assert refused
    else:
        assert not refused
