"""Hypothesis strategies: small clusters, policy documents of every kind and flows, rich in the cases that are easy to get wrong.

All of them draw from one small vocabulary, so that selectors hit, ports meet and addresses fall into prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from analyzer.model.inventory import AgentOptions, CidrGroup, Inventory, InventoryEndpoint
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from tests.oracle.world import World
from tests.refused_items import REFUSED_ITEMS, REFUSED_SPECS

__all__ = ["documents", "flows", "inventory", "policies", "selectors", "worlds"]

Doc = dict[str, Any]

APPS, TIERS = ["a", "b", "c"], ["front", "back", ""]
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    "ns1": {"kubernetes.io/metadata.name": "ns1", "team": "blue", "env": "prod"},
    "ns2": {"kubernetes.io/metadata.name": "ns2", "team": "red"},
    "ns3": {"kubernetes.io/metadata.name": "ns3"},
}
SPACES = ["ns1", "ns1", "ns1", "ns2", "ns2", "ns3"]
NAMESPACE, CLUSTER = "io.kubernetes.pod.namespace", "io.cilium.k8s.policy.cluster"
TEAM, ENV = "io.cilium.k8s.namespace.labels.team", "io.cilium.k8s.namespace.labels.env"
KEYS: Mapping[str, list[str]] = {
    "app": APPS,
    "k8s:app": APPS,
    "any:app": APPS,
    "container:app": APPS,
    "k8s.app": APPS,
    "tier": TIERS,
    "k8s:tier": TIERS,
    NAMESPACE: [*NAMESPACES, "ns9"],
    f"k8s:{NAMESPACE}": [*NAMESPACES, "ns9"],
    f"any:{NAMESPACE}": [*NAMESPACES],
    TEAM: ["blue", "red"],
    f"k8s:{TEAM}": ["blue", "red"],
    f"any:{ENV}": ["prod"],
    "k8s:io.cilium.k8s.policy.serviceaccount": ["default", "robot"],
    CLUSTER: ["default", "other"],
    f"k8s:{CLUSTER}": ["default", "other"],
    "reserved:host": [""],
    "reserved:remote-node": [""],
    "reserved:init": [""],
    "reserved:world": [""],
    "health": [""],
}
PLAIN_KEYS: Mapping[str, list[str]] = {"app": APPS, "tier": TIERS}
SPACE_KEYS: Mapping[str, list[str]] = {"team": ["blue", "red"], "env": ["prod"]}
ENTITIES = [
    *("all", "world", "world-ipv4", "world-ipv6", "cluster", "cluster-mesh", "host", "remote-node", "kube-apiserver"),
    *("health", "init", "ingress", "unmanaged", "none"),
]
RESERVED = ["host", "remote-node", "kube-apiserver", "health", "init", "ingress", "unmanaged"]
CIDRS = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "192.0.2.0/24",
    "192.0.2.99/24",
    "192.0.2.128/25",
    "192.0.2.7/32",
    "198.51.100.0/24",
]
CIDRS6 = ["::/0", "2001:db8::/32", "2001:db8:1::/48"]
GROUP_BY_LABEL = {"cidrGroupSelector": {"matchExpressions": [{"key": "kind", "operator": "In", "values": ["partner"]}]}}
EXCEPT = ["192.0.2.128/25", "192.0.2.7/32", "192.0.2.0/24", "10.0.1.0/24"]
ADDRESSES, ADDRESSES6 = ["192.0.2.7", "192.0.2.200", "198.51.100.1", "203.0.113.5"], ["2001:db8::7", "2001:db8:1::9"]
NAMES = ["example.com", "api.example.com", "a.b.example.com", "subexample.com", "www.cilium.test"]
PATTERNS = ["*", "*.example.com", "**.example.com", "*example.com", "API.*.com", "www.*.*", "sub*.com"]
NAMED_PORTS: Mapping[str, list[L4]] = {
    "web": [L4(Protocol.TCP, 80), L4(Protocol.TCP, 8080)],
    "metrics": [L4(Protocol.TCP, 9090), L4(Protocol.TCP, 8080)],
    "dns": [L4(Protocol.UDP, 53)],
}
PORTS = [80, 80, 8080, 8080, 443, 53, 53, 8085, 9090]
ICMP_TYPES = [0, 3, 8, 128, "EchoRequest", "EchoReply", "DestinationUnreachable"]
HTTP_RULES = [
    {},
    {"method": "GET"},
    {"path": "/a/.*"},
    {"method": "GET|POST", "path": "/a"},
    {"method": "GE"},
    {"headers": ["X-Key: 1"]},
    {"headers": ["x-key"]},
    {"host": "api[.]example[.]com"},
]
REQUESTS = [
    {"method": "GET", "path": "/a"},
    {"method": "POST", "path": "/a/b"},
    {"method": "DELETE", "path": "/", "host": "api.example.com"},
    {"method": "GET", "path": "/b", "headers": {"X-Key": "1"}},
    {"method": "GET", "path": "/b", "headers": {"x-key": "2"}},
]


def _seldom(usual: st.SearchStrategy[Any], *odd: Any) -> st.SearchStrategy[Any]:
    """Mostly `usual`, at times one of the odd values, which shrink away."""
    return st.integers(0, 9).flatmap(lambda roll: st.sampled_from(odd) if roll == 9 else usual)


def _some(values: list[Any], *, most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique_by=str)


@st.composite
def selectors(draw: st.DrawFn, keys: Mapping[str, list[str]] = KEYS, *, most: int = 2) -> Doc:
    """A label selector; an empty one at times, with requirements that contradict each other at times."""
    found: Doc = {}
    for key in draw(st.lists(st.sampled_from(list(keys)), max_size=most, unique=True)):
        if draw(st.booleans()):
            found.setdefault("matchLabels", {})[key] = draw(st.sampled_from(keys[key]))
            continue
        operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
        wanted: Doc = {"key": key, "operator": operator}
        if operator.endswith("In"):
            wanted["values"] = draw(_some(keys[key]))
        found.setdefault("matchExpressions", []).append(wanted)
    return found


@st.composite
def _port(draw: st.DrawFn, *, l7: bool = False) -> Doc:
    if l7:
        found: Doc = {"port": draw(st.sampled_from(["80", "8080", "web", "443"])), "protocol": "TCP"}
        if found["port"] == "8080" and draw(st.booleans()):
            found["endPort"] = 8090
        return found
    if draw(st.integers(0, 9)) == 9:
        return {"port": "0", "protocol": draw(st.sampled_from(["GRE", "VRRP"]))}
    found = {
        "port": draw(st.sampled_from(["80", "443", "8080", "9090", "53", "0", "0120", "web", "WEB", "metrics", "dns"]))
    }
    protocol = draw(st.sampled_from([None, "TCP", "TCP", "UDP", "SCTP", "ANY", "tcp", ""]))
    if protocol is not None:
        found["protocol"] = protocol
    if draw(st.integers(0, 3)) == 3:
        found["endPort"] = draw(st.sampled_from([0, 79, 443, 8090, 9090, 65535]))
    return found


@st.composite
def _to_ports(draw: st.DrawFn, *, egress: bool, l7: bool) -> Doc:
    kind = draw(st.sampled_from(["", "", "http", "http", "dns"])) if l7 else ""
    if kind == "http":
        http = draw(_seldom(_some(HTTP_RULES), []))
        return {"ports": draw(st.lists(_port(l7=True), min_size=1, max_size=2)), "rules": {"http": http}}
    if kind == "dns" and egress:
        names = draw(st.lists(_names(), min_size=1, max_size=2))
        return {"ports": [{"port": "53", "protocol": draw(st.sampled_from(["UDP", "ANY"]))}], "rules": {"dns": names}}
    found: Doc = {"ports": draw(st.lists(_port(), min_size=1, max_size=3))}
    return draw(_seldom(st.just(found), {**found, "serverNames": ["api.example.com"]})) if l7 else found


def _names() -> st.SearchStrategy[Doc]:
    exact = st.sampled_from([*NAMES, "Example.COM", "nowhere.test"]).map(lambda name: {"matchName": name})
    return st.one_of(exact, st.sampled_from(PATTERNS).map(lambda pattern: {"matchPattern": pattern}))


@st.composite
def _cidr_set(draw: st.DrawFn) -> Doc:
    if draw(st.integers(0, 5)) == 5:
        return draw(st.sampled_from([{"cidrGroupRef": "partners"}, {"cidrGroupRef": "unknown"}, GROUP_BY_LABEL]))
    cidr = draw(st.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "10.0.0.0/8", "::/0"]))
    found: Doc = {"cidr": cidr}
    inside = {"0.0.0.0/0": EXCEPT, "192.0.2.0/24": EXCEPT[:3], "10.0.0.0/8": EXCEPT[3:], "::/0": CIDRS6[1:]}[cidr]
    if draw(st.booleans()):
        found["except"] = draw(_some(inside))
    return found


def _peers(word: str, *, deny: bool) -> st.SearchStrategy[Doc]:
    """At most one kind of peers, as the agent wants it; `[]` and null stand for a list at times."""
    kinds: list[tuple[str, st.SearchStrategy[list[Any]]]] = [
        ("Endpoints", st.lists(selectors(), min_size=1, max_size=2)),
        ("Endpoints", st.lists(selectors(), min_size=1, max_size=2)),
        ("Entities", _some(ENTITIES)),
        ("CIDR", _some([*CIDRS, *CIDRS6])),
        ("CIDRSet", st.lists(_cidr_set(), min_size=1, max_size=2)),
        ("Nodes", _some([{}, {"matchLabels": {"role": "worker"}}, {"matchLabels": {"node:role": "worker"}}])),
    ]
    if word == "to" and not deny:
        kinds.append(("FQDNs", st.lists(_names(), min_size=1, max_size=2)))
    one = st.sampled_from(kinds).flatmap(
        lambda kind: _seldom(kind[1], [], None).map(lambda found: {word + kind[0]: found})
    )
    return _seldom(st.one_of(one, one, one, st.just({})), {f"{word}Endpoints": [], f"{word}Entities": ["world"]})


@st.composite
def _item(draw: st.DrawFn, word: str, *, deny: bool, l7: bool) -> Doc | None:
    layer4 = draw(st.sampled_from(["none", "ports", "ports", "ports", "icmp"]))
    found: Doc = dict(draw(_peers(word, deny=deny))) if layer4 == "none" or draw(st.booleans()) else {}
    if layer4 == "ports":
        lists = st.lists(_to_ports(egress=word == "to", l7=l7 and not deny), min_size=1, max_size=2)
        found["toPorts"] = draw(_seldom(lists, [], None, [{}], [{"ports": []}]))
    if layer4 == "icmp":
        types = st.sampled_from([{"type": kind} for kind in ICMP_TYPES if kind != 128])
        fields = st.one_of(types, st.sampled_from([{"type": 128, "family": "IPv6"}, {"type": 8, "family": "IPv4"}]))
        found["icmps"] = draw(
            _seldom(st.lists(fields, min_size=1, max_size=2).map(lambda x: [{"fields": x}]), [], [{}])
        )
    return found or draw(_seldom(st.just(found), None))


@st.composite
def _spec(draw: st.DrawFn, *, namespaced: bool) -> Doc:
    found: Doc = {"endpointSelector": draw(st.one_of(st.just({}), selectors(PLAIN_KEYS, most=1), selectors(most=2)))}
    node = not namespaced and draw(st.integers(0, 7)) == 7
    if node:
        found = {"nodeSelector": draw(st.sampled_from([{}, {"matchLabels": {"role": "worker"}}]))}
    names = ["ingress", "egress", "ingress", "egress", "ingressDeny", "egressDeny"]
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        word, deny = "from" if name.startswith("in") else "to", name.endswith("Deny")
        items = st.lists(_item(word, deny=deny, l7=not node), min_size=1, max_size=2)
        found[name] = draw(_seldom(items, [{}], [], None))
    if draw(st.integers(0, 2)) == 2:
        switches = st.dictionaries(st.sampled_from(["ingress", "egress"]), st.booleans(), max_size=2)
        found["enableDefaultDeny"] = draw(_seldom(switches, None))
    return found


@st.composite
def _cilium(draw: st.DrawFn) -> Doc:
    namespaced = draw(st.booleans())
    meta: Doc = {"name": draw(st.sampled_from(["p", "q", "r", "s"]))}
    if namespaced:
        meta["namespace"] = draw(st.sampled_from(SPACES))
    found: Doc = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if namespaced else "CiliumClusterwideNetworkPolicy",
        "metadata": meta,
    }
    shape = draw(st.sampled_from(["spec", "spec", "spec", "specs", "both"]))
    if shape != "specs":
        found["spec"] = draw(_spec(namespaced=namespaced))
    if shape != "spec":
        found["specs"] = draw(st.lists(_spec(namespaced=namespaced), min_size=1, max_size=2))
    return found


@st.composite
def _kubernetes(draw: st.DrawFn) -> Doc:
    selector, spaces = selectors(PLAIN_KEYS, most=1), selectors(SPACE_KEYS, most=1)
    block = st.sampled_from([{"cidr": "0.0.0.0/0"}, {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}])
    peer = st.one_of(
        st.fixed_dictionaries({"podSelector": selector}),
        st.fixed_dictionaries({"namespaceSelector": spaces}),
        st.fixed_dictionaries({"namespaceSelector": spaces, "podSelector": selector}),
        st.fixed_dictionaries({"ipBlock": block}),
    )
    port = st.sampled_from(
        [
            {},
            {"port": 80},
            {"port": "web"},
            {"port": 53, "protocol": "UDP"},
            {"port": 8080, "endPort": 8090},
            {"protocol": "SCTP"},
        ]
    )
    spec: Doc = {"podSelector": draw(selector)}
    for section, word in (("ingress", "from"), ("egress", "to")):
        item = st.fixed_dictionaries(
            {}, optional={word: st.lists(peer, max_size=2), "ports": st.lists(port, max_size=2)}
        )
        if draw(st.booleans()):
            spec[section] = draw(st.lists(item, max_size=2))
    if draw(st.booleans()):
        spec["policyTypes"] = draw(_some(["Ingress", "Egress"]))
    meta = {"name": draw(st.sampled_from(["p", "q"])), "namespace": draw(st.sampled_from(SPACES))}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


@st.composite
def _refused(draw: st.DrawFn) -> Doc:
    """A document that is refused, in one of its specs only at times."""
    item = st.sampled_from(REFUSED_ITEMS).map(lambda each: {"endpointSelector": {}, "ingress": [each]})
    bad = draw(st.one_of(item, st.sampled_from(REFUSED_SPECS)))
    meta = {"name": draw(st.sampled_from(["p", "bad"])), "namespace": draw(st.sampled_from(SPACES))}
    found: Doc = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": bad}
    if draw(st.booleans()):
        found |= {"spec": draw(_spec(namespaced=True)), "specs": [bad]}
    return found


def documents() -> st.SearchStrategy[Doc]:
    """One policy document of any kind; now and then one that the agent refuses."""
    kinds = [_cilium(), _cilium(), _cilium(), _cilium(), _kubernetes(), _refused()]
    return st.integers(0, len(kinds) - 1).flatmap(lambda roll: kinds[roll])


def policies(most: int = 5) -> st.SearchStrategy[list[Doc]]:
    """A set of documents. Names repeat, so that one document replaces another at times."""
    return st.integers(1, most).flatmap(lambda size: st.lists(documents(), min_size=size, max_size=size))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Two to five pods that differ in their labels, names that were resolved, and agent options."""
    identity = st.tuples(st.sampled_from(SPACES), st.sampled_from(APPS), st.sampled_from([None, *TIERS]))
    pods = draw(st.lists(identity, min_size=2, max_size=5, unique=True))
    endpoints = {f"pod{number}": draw(_pod(number, *pod)) for number, pod in enumerate(pods)}
    addresses = [*ADDRESSES, endpoints["pod0"]["ip"]]
    fqdns = draw(st.dictionaries(st.sampled_from(NAMES), _some(addresses).map(tuple), max_size=3))
    options = AgentOptions(
        allow_localhost=draw(_seldom(st.just("always"), "policy")),
        enforcement=draw(_seldom(st.just("default"), "always", "never")),
        ipv6=draw(_seldom(st.just(False), True)),
        host_firewall=draw(_seldom(st.just(False), True)),
        cidr_match_nodes=draw(_seldom(st.just(False), True)),
        any_cluster=draw(_seldom(st.just(False), True)),
        node_selector_labels=True,
    )
    groups = {"partners": {"cidrs": ["198.51.100.0/24", "192.0.2.7/32"], "labels": {"kind": "partner"}}}
    return World(options, endpoints, NAMESPACES, ("k8s:role=worker",), fqdns, groups)


@st.composite
def _pod(draw: st.DrawFn, number: int, namespace: str, app: str, tier: str | None) -> Doc:
    cluster, account = draw(_seldom(st.just("default"), "other")), draw(st.sampled_from(["default", "robot"]))
    source = draw(_seldom(st.just("k8s"), "container"))  # one of them: Cilium keeps one label for each key
    labels = [f"{source}:app={app}", f"k8s:{NAMESPACE}={namespace}", f"k8s:{CLUSTER}={cluster}"]
    labels += [f"k8s:tier={tier}"] if tier is not None else []
    labels += [f"k8s:io.cilium.k8s.policy.serviceaccount={account}"]
    ports = {name: draw(st.sampled_from(many)) for name, many in NAMED_PORTS.items() if draw(st.booleans())}
    named = {name: {"port": port.port, "proto": str(port.protocol)} for name, port in ports.items()}
    return {"labels": labels, "ip": f"10.0.{number % 2}.{number + 1}", "namedPorts": named}


@st.composite
def flows(draw: st.DrawFn, world: World) -> Doc:
    """One flow between pods, reserved identities, addresses and resolved names."""
    outside: list[Any] = [{"cidr": ip} for ip in [*ADDRESSES, *(ADDRESSES6 if world.dual else [])]]
    outside += ["reserved:world-ipv4", "reserved:world-ipv6"] if world.dual else ["reserved:world"]
    outside += [{"fqdn": name, "ip": ips[0]} for name, ips in world.fqdns.items()]
    outside += [{"cidr": "203.0.113.1", "labels": ["reserved:kube-apiserver"]}]
    outside += [{"cidr": "172.18.0.3", "labels": ["reserved:remote-node"]}]
    outside += [{"cidr": "172.18.0.4", "labels": ["reserved:remote-node", "node:role=worker"]}]
    peers = st.one_of(st.sampled_from([f"reserved:{name}" for name in RESERVED]), st.sampled_from(outside))
    ends = [draw(st.sampled_from([*world.endpoints])), draw(st.one_of(st.sampled_from([*world.endpoints]), peers))]
    if draw(st.booleans()):
        ends.reverse()
    found: Doc = {"src": ends[0], "dst": ends[1], "proto": "TCP", "port": draw(st.sampled_from(PORTS))}
    found["proto"] = draw(st.sampled_from([*["TCP"] * 5, "UDP", "UDP", "SCTP", "ICMP", "ICMPv6", "GRE", "VRRP"]))
    if found["proto"].startswith("ICMP"):
        found |= {"port": 0, "icmpType": draw(st.sampled_from([0, 3, 8, 128]))}
    elif found["proto"] in ("GRE", "VRRP"):
        found["port"] = 0
    elif found["port"] == 53:
        found |= draw(_seldom(st.sampled_from(NAMES).map(lambda name: {"l7": {"dns": name}}), {}))
    elif found["proto"] == "TCP":
        found |= draw(_seldom(st.sampled_from(REQUESTS).map(lambda request: {"l7": request}), {}))
    return found


def inventory(world: World) -> Inventory:
    """The same cluster as the analyzer is told of it."""
    endpoints = []
    for name, found in world.endpoints.items():
        party = world.endpoint(found)
        ports = {port: L4(Protocol.parse(proto), number) for port, (number, proto) in party.ports.items()}
        endpoints.append(InventoryEndpoint(name, party.labels.namespace, party.labels, (party.ip,), ports))
    groups = (CidrGroup(name, tuple(x["cidrs"]), x.get("labels") or {}) for name, x in world.cidr_groups.items())
    return Inventory(
        tuple(endpoints), world.namespaces, (), tuple(groups), world.fqdns, Labels.of(world.host_labels), world.options
    )
