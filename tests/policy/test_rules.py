"""Single rules of the semantics that no vector of Cilium's engine tells apart, by the number they have in docs/semantics.md."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions, Inventory, ServiceInfo
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.policy import HttpRequest, Peer, Traffic, parse
from analyzer.policy.selector import CidrSelector, FqdnSelector, matches
from tests.policy.build import LETTERS, Doc, cnp, compiled, letters, pod, ports, world

A, B = pod("a"), pod("b")
FAR = pod("a", "ns1", "k8s:io.cilium.k8s.policy.cluster=far")
INIT = Peer(Labels.of(["reserved:init"]))
NS = "io.kubernetes.pod.namespace"


def only_ingress(**subject: Any) -> Doc:
    policy = cnp("p", ingress=[{}])
    policy["spec"]["endpointSelector"] = subject
    return policy


@pytest.mark.parametrize(
    ("subject", "selected"),
    [
        ({"matchLabels": {f"k8s:{NS}": "ns2"}}, True),
        ({"matchLabels": {NS: "ns2"}}, False),
        ({"matchLabels": {f"any:{NS}": "ns2"}}, False),
        ({"matchExpressions": [{"key": f"k8s:{NS}", "operator": "In", "values": ["ns2"]}]}, False),
        ({"matchExpressions": [{"key": f"k8s:{NS}", "operator": "In", "values": ["ns1", "ns2"]}]}, True),
    ],
)
def test_17_the_subjects_namespace(subject: Doc, selected: bool) -> None:
    assert letters(only_ingress(**subject), world(), A) == ("ADD" if selected else "AAA")
    assert letters(only_ingress(**subject), world(), pod("a", "ns2")) == "AAA"


def test_20_a_subject_that_names_init_lifts_the_namespace_of_its_peers() -> None:
    def policy(**subject: Any) -> Doc:
        made = cnp("p", "", ingress=[{"fromEndpoints": [{}]}])
        made["spec"]["endpointSelector"] = subject
        return made

    nobody_s = Peer(Labels.of(["k8s:io.cilium.k8s.policy.cluster=default", "k8s:role=x"]))
    named = policy(matchExpressions=[{"key": "reserved:init", "operator": "DoesNotExist"}])
    assert letters(named, nobody_s, B) == "AAA"
    assert letters(policy(), nobody_s, B) == "ADD"


def test_28_an_empty_list_of_services_is_none() -> None:
    policy = cnp("p", egress=[{"toServices": [], "toPorts": [ports("80/TCP")]}])
    assert letters(policy, A, world()) == "AAA"
    assert letters(cnp("p", egress=[{"toServices": []}]), A, world()) == "DAD"


@pytest.mark.parametrize(
    ("entity", "expected"),
    [("cluster", "ADD"), ("cluster-mesh", "AAA"), ("all", "AAA"), ("world", "ADD"), ("none", "ADD")],
)
def test_59_pods_of_other_clusters(entity: str, expected: str) -> None:
    assert letters(cnp("p", ingress=[{"fromEntities": [entity]}]), FAR, B) == expected


def test_32_without_ipv6_its_prefixes_match_nothing() -> None:
    six = world("2001:db8::7")
    policy = cnp("p", egress=[{"toCIDR": ["::/0"]}])
    assert letters(policy, A, six) == "DAD"
    dual = six._replace(labels=Labels.of(["reserved:world-ipv6"]))
    assert letters(policy, A, dual, options=AgentOptions(ipv6=True)) == "AAA"
    assert letters(policy, A, world(), options=AgentOptions(ipv6=True)) == "DAD"


@pytest.mark.parametrize("end", [70_000, 79, 0, -1])
def test_37_an_end_that_makes_no_range(end: int) -> None:
    policy = cnp("p", ingress=[{"toPorts": [{"ports": [{"port": "80", "endPort": end, "protocol": "TCP"}]}]}])
    assert letters(policy, A, B, L4(Protocol.TCP, 80)) == "AAA"
    assert letters(policy, A, B, L4(Protocol.TCP, 81)) == "ADD"


def test_37_an_end_is_part_of_the_range() -> None:
    policy = cnp("p", ingress=[{"toPorts": [{"ports": [{"port": "80", "endPort": 82, "protocol": "TCP"}]}]}])
    for port, expected in ((79, "ADD"), (80, "AAA"), (81, "AAA"), (82, "AAA"), (83, "ADD")):
        assert letters(policy, A, B, L4(Protocol.TCP, port)) == expected


def test_44_deny_items_know_no_l7_rules() -> None:
    dns = {"rules": {"dns": [{"matchPattern": "*"}]}}
    assert letters(cnp("p", ingressDeny=[{"toPorts": [ports("53/TCP", **dns)]}]), A, B, L4(Protocol.TCP, 53)) == "ADD"


def test_44_deny_items_know_no_names() -> None:
    """What is left of the item denies nothing: a wrong name in it is no reason to refuse."""
    policy = cnp("p", egressDeny=[{"toFQDNs": [{"matchName": "api.test"}]}], enableDefaultDeny={"egress": False})
    assert letters(policy, A, world("192.0.2.7", "api.test")) == "AAA"
    with_ports = cnp("p", egressDeny=[{"toFQDNs": [{"matchName": "*"}], "toPorts": [ports("80/TCP")]}])
    assert letters(with_ports, A, world("192.0.2.7")) == "DAD"


def test_53_names_never_stand_for_pods() -> None:
    policy = cnp("p", egress=[{"toFQDNs": [{"matchName": "b.test"}]}])
    assert letters(policy, A, B._replace(names=("b.test",))) == "DAD"
    assert letters(policy, A, world("192.0.2.7", "b.test")) == "AAA"


def test_46_an_empty_list_of_http_rules_is_none() -> None:
    assert letters(cnp("p", ingress=[{"toPorts": [ports("80/TCP", rules={"http": []})]}]), A, B) == "AAA"
    assert letters(cnp("p", ingress=[{"toPorts": [ports("80/UDP", rules={})]}]), A, B, L4(Protocol.UDP, 80)) == "AAA"


def test_31_prefixes_never_match_pods() -> None:
    policy = cnp("p", egress=[{"toCIDR": ["10.0.0.0/8"]}], ingress=[{"fromCIDR": ["0.0.0.0/0"]}])
    assert letters(policy, A, B) == "DDD"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (cnp("p", ingress=[{"fromEndpoints": [{}]}]), "?"),
        (cnp("p", ingressDeny=[{"fromEntities": ["world"]}]), "?"),
        (cnp("p", ingress=[{"toPorts": [ports("80/TCP")]}]), "A"),
        (cnp("p", ingress=[{"toPorts": [ports("80/TCP")]}], ingressDeny=[{"fromEntities": ["world"]}]), "?"),
        (cnp("p", ingressDeny=[{"toPorts": [ports("80/TCP")]}], ingress=[{"fromEndpoints": [{}]}]), "D"),
        (cnp("p", egress=[{"toEndpoints": [{}]}]), "A"),
    ],
    ids=[
        "an allow",
        "a deny",
        "an allow for everybody",
        "beside a deny",
        "a deny for everybody",
        "the other direction",
    ],
)
def test_an_end_without_labels_is_undecided_where_rules_tell_peers_apart(policy: Doc, expected: str) -> None:
    found = letters(policy, Peer(Labels(), "10.9.9.9"), B)
    assert found[1] == expected
    assert found[0] == "?", "nor is it known whether it is under policy itself"
    asked = Traffic(Peer(Labels(), "10.9.9.9"), B, L4(Protocol.TCP, 80), HttpRequest("GET", "/"))
    assert LETTERS[compiled(policy).decide(asked).ingress.outcome] == expected, "nor does a request change that"


def unsure(*sections: tuple[str, Doc]) -> str:
    """The ingress of a pod whose named port nobody declared."""
    made: dict[str, Any] = {}
    for section, item in sections:
        made.setdefault(section, []).append(item)
    return letters(cnp("p", **made), A, B)[1]


NAMED: Doc = {"toPorts": [ports("web/TCP")]}
OPEN: Doc = {"toPorts": [ports("80/TCP")]}
FILTERED: Doc = {"toPorts": [ports("web/TCP", rules={"http": [{"method": "GET"}]})]}


def test_undecided_only_where_it_matters() -> None:
    assert unsure(("ingress", NAMED)) == "?"
    assert unsure(("ingress", NAMED), ("ingress", OPEN)) == "A", "allowed anyway"
    assert unsure(("ingress", NAMED), ("ingressDeny", OPEN)) == "D", "denied anyway"
    assert unsure(("ingress", OPEN), ("ingressDeny", NAMED)) == "?"
    assert unsure(("ingress", OPEN), ("ingress", FILTERED)) == "?", "allowed, but perhaps through the proxy"
    assert letters(cnp("p", ingress=[NAMED]), A, B, L4(Protocol.UDP, 80)) == "ADD", "another protocol in any case"
    declared = B._replace(named_ports={})
    assert letters(cnp("p", ingress=[NAMED]), A, declared) == "ADD", "known to declare none"


def test_48_a_request_whose_expression_may_take_too_long_is_not_decided() -> None:
    policy = cnp("p", ingress=[{"toPorts": [ports("80/TCP", rules={"http": [{"path": "(a+)+b"}]})]}])
    asked = Traffic(A, B, L4(Protocol.TCP, 80), HttpRequest("GET", "/"))
    assert compiled(policy).decide(asked).ingress.l7 is None


@pytest.mark.parametrize("pattern", ["(?=x)", r"(a)\1", "a++", "(?P=x)", "(?<!x)"])
def test_70_expressions_that_only_python_knows_are_refused(pattern: str) -> None:
    with pytest.raises(PolicyError):
        parse(cnp("p", ingress=[{"toPorts": [ports("80/TCP", rules={"http": [{"path": pattern}]})]}]))


def test_14_30_an_initialising_endpoint_is_closed() -> None:
    assert letters(cnp("p", "", ingress=[{"fromEntities": ["all"]}]), INIT, B) == "DAD"
    assert letters(cnp("p", "", ingress=[{"fromEntities": ["all"]}]), A, INIT) == "AAA"
    assert letters(cnp("p", ingress=[{}]), A, INIT) == "ADD"


def test_61_a_service_in_a_deny_rule() -> None:
    services = (ServiceInfo("b", "ns1", selector={"app": "b"}),)
    policy = cnp(
        "p", egressDeny=[{"toServices": [{"k8sService": {"serviceName": "b"}}]}], enableDefaultDeny={"egress": False}
    )
    assert letters(compiled(policy, known=Inventory(services=services)), A, B) == "DAD"
    assert letters(compiled(policy, known=Inventory(services=services)), A, pod("c")) == "AAA"
    assert letters(compiled(policy), A, pod("c")) == "?A?"


def test_31_53_selectors_of_addresses_and_names_know_by_themselves_what_is_outside() -> None:
    """The engine asks them about outside peers only; others ask them about everybody."""
    prefix, name = CidrSelector(IPv4Network("10.0.0.0/8")), FqdnSelector("b.test")
    for peer, chosen in ((B._replace(names=("b.test",)), False), (world("10.0.0.9", "b.test"), True)):
        assert matches(prefix, peer, Inventory()) is chosen
        assert matches(name, peer, Inventory()) is chosen
