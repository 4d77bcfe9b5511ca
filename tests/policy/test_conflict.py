"""HTTP and DNS rules that meet: for one peer on one TCP port the agent cannot compute the policy, else it can."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policy.build import Doc, cnp, letters, pod, ports, world

HTTP, DNS = {"http": [{"method": "GET"}]}, {"dns": [{"matchPattern": "*"}]}
B = {"toEndpoints": [{"matchLabels": {"app": "b"}}]}
C = {"toEndpoints": [{"matchLabels": {"app": "c"}}]}


def _policy(one: Doc, other: Doc, **more: Any) -> Doc:
    return cnp("p", egress=[one, other], **more)


def _http(port: str, **peers: Any) -> Doc:
    return {**peers, "toPorts": [ports(port, rules=HTTP)]}


def _dns(port: str, **peers: Any) -> Doc:
    return {**peers, "toPorts": [ports(port, rules=DNS)]}


@pytest.mark.parametrize(
    "policy",
    [
        _policy(_http("53/TCP", **B), _dns("53/TCP", **B)),
        _policy(_http("53/TCP", **B), _dns("53/ANY", **B)),
        _policy(_http("53/TCP"), _dns("53/TCP")),
        _policy(_http("53/TCP"), _dns("53/TCP", toEntities=["all"])),
        _policy(_http("web/TCP"), _dns("web/TCP")),
        _policy(_http("53/TCP", **B), _dns("53/TCP", **B), enableDefaultDeny={"egress": False}),
    ],
    ids=["a peer", "ANY", "any peer", "the entity for any peer", "a named port", "without default deny"],
)
def test_undecided_both_ways_for_one_peer_on_one_port(policy: Doc) -> None:
    assert letters(policy, pod("a"), world()) == "?A?"
    assert letters(policy, world(), pod("a")) == "A??"


@pytest.mark.parametrize(
    "policy",
    [
        _policy(_http("53/TCP", **B), _dns("53/UDP", **B)),
        _policy(_http("53/TCP", **B), _dns("53/TCP", **C)),
        _policy(_http("53/TCP"), _dns("53/TCP", **B)),
        _policy(_http("80/TCP", **B), _dns("53/TCP", **B)),
    ],
    ids=["another protocol", "another peer", "a peer among all", "another port"],
)
def test_decided_for_different_peers_or_ports(policy: Doc) -> None:
    assert letters(policy, pod("a"), world("192.0.2.1")) in {"DAD", "RAR"}
    assert letters(policy, world(), pod("a")) == "AAA"


def test_the_other_pods_are_decided() -> None:
    policy = _policy(_http("53/TCP"), _dns("53/TCP"))
    policy["spec"]["endpointSelector"] = {"matchLabels": {"app": "b"}}
    assert letters(policy, pod("a"), world()) == "AAA"
    assert letters(policy, pod("a"), pod("b")) == "A??"
