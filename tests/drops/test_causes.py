"""A scenario per cause: policies and flows in, the right first cause out."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.drops.cause import CauseKind
from analyzer.drops.explain import causes
from analyzer.model.flow import Detail, DnsRecord, EventKind, Flow, FlowEndpoint, HttpRecord, PolicyRef, Verdict
from analyzer.model.inventory import Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import CLUSTER_KEY, Label, Labels
from tests.drops.build import cnp, scenes
from tests.flows import API_SERVER, REMOTE_NODE, START, SYN_ACK, WORLD, drop, pod, tcp, udp

WEB, CART, DNS = pod("web"), pod("cart", number=7), pod("coredns", "kube-system", k8s_app="kube-dns")
FAR = {"destination_ip": "203.0.113.9"}
NEAR = {"source_ip": "10.0.1.5", "destination_ip": "10.0.2.7"}
EGRESS = {"direction": 2}
OPEN = "[{ports: [{port: '8080', protocol: TCP}]}]"


def out(destination: FlowEndpoint, port: int, **changes: Any) -> Flow:
    return drop(WEB, destination, port, **{**EGRESS, **changes})


def into(source: FlowEndpoint, port: int = 8080, **changes: Any) -> Flow:
    return drop(source, CART, port, **changes)


def ping(source: FlowEndpoint) -> Flow:
    return into(source, 8, protocol=Protocol.ICMP, client_port=0, tcp_flags=0)


def request(path: str) -> Flow:
    detail = Detail(http=HttpRecord("POST", path), l7_type=1)
    return tcp(WEB, CART, 8080, kind=EventKind.L7, verdict=Verdict.DROPPED, direction=1, detail=detail)


def query(name: str) -> Flow:
    detail = Detail(dns=DnsRecord(name), l7_type=1)
    return udp(WEB, DNS, 53, kind=EventKind.L7, verdict=Verdict.DROPPED, direction=2, detail=detail)


def answer(name: str, address: str, time: int) -> Flow:
    detail = Detail(dns=DnsRecord(name, (address,)), l7_type=2)
    return udp(WEB, DNS, 53, reply=True, kind=EventKind.L7, direction=2, detail=detail, time=time)


def cart(rule: str) -> str:
    return cnp("cart", "cart", f"ingress: [{rule}]")


def web(rule: str) -> str:
    return cnp("web", "web", f"egress: [{rule}]")


PORTS = f"toPorts: {OPEN}"
FROM_WEB = "fromEndpoints: [{matchLabels: {app: web}}]"
LOOKUPS = (
    "{toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': kube-system, k8s-app: kube-dns}}], "
    "toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchPattern: '*.example'}]}}]}"
)
BY_NAME = "{toFQDNs: [{matchName: api.example}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}"
BY_PATTERN = "{toFQDNs: [{matchPattern: '*.example'}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}"
TO_8080 = "toPorts: [{ports: [{port: '8080', protocol: TCP}]}]"
SERVICES = Inventory(
    services=(ServiceInfo("cart", "shop", selector={"app": "cart"}, ports=((L4(Protocol.TCP, 80), "8080"),)),)
)
NAMED = Inventory(endpoints=(InventoryEndpoint("cart", "shop", CART.labels, (), {"web": L4(Protocol.TCP, 8081)}),))
FREE = FlowEndpoint(Labels.of(["reserved:init"]), identity=5)
ELSEWHERE = WEB._replace(
    cluster="west",
    labels=Labels.of([each for each in WEB.labels if each.key != CLUSTER_KEY] + [Label("k8s", CLUSTER_KEY, "west")]),
)
LATE = WORLD._replace(pod="web-1", namespace="shop")

# What the scenario is about: policies, flows, what else is known, the first cause, and words that have to be in it.
SCENARIOS: dict[str, tuple[str, list[Flow], Inventory | None, CauseKind, str]] = {
    "no rule": (cart("{}"), [into(WEB)], None, CauseKind.NO_RULE, "shop/cart selects shop/cart for ingress"),
    "other port": (
        cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}"), [into(WEB)], None, CauseKind.PORT,
        "only on 80/TCP, not on 8080/TCP",
    ),
    "protocol": (
        cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: '8080', protocol: UDP}}]}}]}}"), [into(WEB)], None,
        CauseKind.PROTOCOL, "with UDP, not TCP",
    ),
    "ping": (cart(f"{{{FROM_WEB}, {PORTS}}}"), [ping(WEB)], None, CauseKind.PROTOCOL, "never cover ICMP/8"),
    "service port": (
        cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}"), [into(WEB)], SERVICES,
        CauseKind.SERVICE_PORT, "names 80/TCP, the port of Service shop/cart; policies see the pod's own port, 8080/TCP",
    ),
    "service port at egress": (
        web("{toEndpoints: [{matchLabels: {app: cart}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}"),
        [out(CART, 8080)], SERVICES, CauseKind.SERVICE_PORT, "the port of Service shop/cart",
    ),
    "named port": (
        cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: web, protocol: TCP}}]}}]}}"), [into(WEB)], NAMED,
        CauseKind.NAMED_PORT, "which the pod declares as 8081/TCP, not 8080/TCP",
    ),
    "other namespace": (
        cart(f"{{{FROM_WEB}, {PORTS}}}"), [into(pod("web", "batch"))], None, CauseKind.NAMESPACE,
        "with namespace=shop; the peer is in batch",
    ),
    "other namespace, named": (
        cart("{fromEndpoints: [{matchLabels: {app: web, 'k8s:io.kubernetes.pod.namespace': prod}}]}"), [into(WEB)], None,
        CauseKind.NAMESPACE, "with namespace=prod; the peer is in shop",
    ),
    "other cluster": (
        cart(f"{{{FROM_WEB}, {PORTS}}}"), [into(ELSEWHERE)], None, CauseKind.CLUSTER, "about pods of default; the peer is in west",
    ),
    "masked": (
        cart(f"{{{FROM_WEB}, {PORTS}}}"), [into(FlowEndpoint(namespace="shop", pod="web-1"))], None, CauseKind.UNDECIDED,
        "the labels of one side are unknown",
    ),
    "label differs": (
        cart("{fromEndpoints: [{matchLabels: {app: web, tier: front}}]}"), [into(pod("web", tier="back"))], None,
        CauseKind.LABEL, "the peer has tier=back",
    ),
    "label misspelt": (
        cart("{fromEndpoints: [{matchLabels: {app: webb}}]}"), [into(WEB)], None, CauseKind.LABEL, "the peer has app=web",
    ),
    "label under another key": (
        cart("{fromEndpoints: [{matchLabels: {app.kubernetes.io/name: web}}]}"), [into(WEB)], None, CauseKind.LABEL,
        "the peer has no app.kubernetes.io/name, but k8s:app=web",
    ),
    "host is not remote-node": (
        cart(f"{{fromEntities: [host], {PORTS}}}"), [into(REMOTE_NODE)], None, CauseKind.ENTITY,
        "about the entity host; the peer is remote-node",
    ),
    "remote-node is not kube-apiserver": (
        web("{toEntities: [host]}"), [out(API_SERVER, 6443)], None, CauseKind.ENTITY, "the peer is kube-apiserver",
    ),
    "world is not ingress": (
        cart("{fromEntities: [world]}"), [into(FlowEndpoint(Labels.of(["reserved:ingress"])))], None, CauseKind.ENTITY,
        "the peer is ingress",
    ),
    "CIDR for a pod": (
        web("{toCIDR: [10.0.0.0/8]}"), [out(CART, 8080, **NEAR)], None, CauseKind.CIDR_INSIDE,
        "10.0.2.7 is a pod, shop/cart: a CIDR never matches what is inside the cluster",
    ),
    "CIDR for the API server": (
        web("{toCIDR: [172.16.0.0/12]}"), [out(API_SERVER, 6443, destination_ip="172.18.0.4")], None, CauseKind.CIDR_INSIDE,
        "172.18.0.4 is the entity kube-apiserver",
    ),
    "excepted": (
        web("{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.8/29]}]}"), [out(WORLD, 443, **FAR)], None,
        CauseKind.CIDR_EXCEPT, "excepts 203.0.113.8/29, which 203.0.113.9 is in",
    ),
    "beside the CIDR": (
        web("{toCIDR: [203.0.112.0/24]}"), [out(WORLD, 443, **FAR)], None, CauseKind.CIDR_OTHER,
        "covers 203.0.112.0/24, which 203.0.113.9 is not in",
    ),
    "name without lookups": (
        web(BY_NAME), [out(WORLD, 443, **FAR)], None, CauseKind.FQDN_WITHOUT_DNS, "no DNS rule (rules.dns)",
    ),
    "address never looked up": (
        web(f"{LOOKUPS}, {BY_NAME}"), [out(WORLD, 443, **FAR)], None, CauseKind.FQDN_BEFORE_DNS,
        "203.0.113.9 was not among the answers",
    ),
    "called before it was looked up": (
        web(f"{LOOKUPS}, {BY_NAME}"),
        [
            out(WORLD, 443, **FAR, detail=Detail(destination_names=("api.example",))),
            answer("api.example", "203.0.113.9", START + 5),
        ], None, CauseKind.FQDN_BEFORE_DNS, "was called before its name api.example was looked up",
    ),
    "other name": (
        web(f"{LOOKUPS}, {BY_PATTERN}"), [out(WORLD, 443, **FAR, detail=Detail(destination_names=("a.b.example",)))], None,
        CauseKind.FQDN_PATTERN, "looked up as a.b.example",
    ),
    "DNS denied": (
        web("{toEndpoints: [{matchLabels: {app: cart}}]}"), [out(DNS, 53, protocol=Protocol.UDP, tcp_flags=0)], None,
        CauseKind.DNS_DENIED, "lookups of shop/web at kube-system/coredns are denied",
    ),
    "DNS name refused": (
        web(LOOKUPS), [query("api.other")], None, CauseKind.DNS_NAME, "no L7 rule lets api.other pass",
    ),
    "request refused": (
        cart(f"{{{FROM_WEB}, {PORTS[:-2]}, rules: {{http: [{{method: GET, path: /a}}]}}}}]}}"),
        [request("/a")], None, CauseKind.L7_RULE, "no L7 rule lets POST /a pass",
    ),
    "explicit deny": (
        cart(f"{{}}]\ningressDeny: [{{{FROM_WEB}}}"), [into(WEB, drop_reason=181, sub_type=181)], None,
        CauseKind.EXPLICIT_DENY, "CiliumNetworkPolicy shop/cart ingressDeny[0] denies it",
    ),
    "only one side": (
        web("{}") + "---\n" + cart(f"{{{FROM_WEB}, {PORTS}}}"), [out(CART, 8080)], None, CauseKind.ONE_SIDE,
        "ingress of shop/cart is open for it",
    ),
    "rule for another workload": (
        cnp("misspelt", "webb", f"egress: [{{toEndpoints: [{{matchLabels: {{app: cart}}}}], {PORTS}}}]")
        + "---\n" + web("{}"), [out(CART, 8080)], None, CauseKind.SUBJECT, "but is about app=webb",
    ),
    "reply without connection": (
        web("{}"), [drop(CART, WEB, 40_000, client_port=8080, tcp_flags=SYN_ACK)], None, CauseKind.REPLY,
        "answers of shop/cart to shop/web belong to no connection",
    ),
    "source translated": (
        cart(f"{{fromEntities: [world], {PORTS}}}"), [into(REMOTE_NODE)], None, CauseKind.SNAT, "the address of a node",
    ),
    "late identity": (cart(f"{{{FROM_WEB}}}"), [into(LATE)], None, CauseKind.LATE_IDENTITY, "its identity was not known yet"),
    "init": (cart(f"{{{FROM_WEB}}}"), [into(FREE)], None, CauseKind.TRANSIENT, "reserved:init"),
    "authentication": (cart("{}"), [into(WEB, drop_reason=189)], None, CauseKind.AUTHENTICATION, "mutual authentication"),
    "source range": (cart("{}"), [into(WORLD, drop_reason=177)], None, CauseKind.SOURCE_RANGE, "loadBalancerSourceRanges"),
    "network": (cart("{}"), [into(WEB, drop_reason=155)], None, CauseKind.NETWORK, "the table of connections is full"),
    "policies changed": (
        cart(f"{{{FROM_WEB}}}"), [into(WEB)], None, CauseKind.CHANGED, "the policies given would let it pass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_first_cause(name: str) -> None:
    text, flows, inventory, kind, words = SCENARIOS[name]
    found = causes(scenes(text, flows, inventory)[0])
    assert found, "a drop by a policy has a cause"
    listed = [(str(each.kind), each.words) for each in found]
    assert found[0].kind is kind, listed
    assert words in found[0].words, listed


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_ever_called_allowed_beside_a_drop(name: str) -> None:
    text, flows, inventory, _, _ = SCENARIOS[name]
    for cause in causes(scenes(text, flows, inventory)[0]):
        assert "allowed by" not in " ".join((cause.words, *cause.evidence)).lower()


def test_every_kind_of_cause_has_a_scenario() -> None:
    shown = {kind for *_, kind, _ in SCENARIOS.values()}
    assert set(CauseKind) - shown == {CauseKind.NOT_ASKED}


def test_without_policies_the_record_alone_is_told() -> None:
    by = PolicyRef("CiliumNetworkPolicy", "shop", "no-web")
    (scene,) = scenes(None, [into(WEB)])
    assert [each.kind for each in causes(scene)] == [CauseKind.NOT_ASKED]
    (scene,) = scenes(None, [into(WEB, drop_reason=181, detail=Detail(ingress_denied_by=(by,)))])
    (cause,) = causes(scene)
    assert cause.kind is CauseKind.EXPLICIT_DENY
    assert "CiliumNetworkPolicy shop/no-web denies it" in cause.words
