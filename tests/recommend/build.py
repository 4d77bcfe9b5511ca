"""Edges by hand, and a deliberately simple reading of the documents that come out: what do they allow one pod?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from analyzer.model.edge import ActivityKey, Edge, EdgeKey, EdgeStats, Endpoint, Side, Status
from analyzer.model.flow import EventKind, Verdict, Workload
from analyzer.model.identity import WORLD, entities
from analyzer.model.l4 import ICMP_FAMILY, L4
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, Labels
from analyzer.model.perspective import policy_labels

START = 1_788_220_800_000_000_000  # 2026-09-01T00:00:00Z


def pod(namespace: str, cluster: str = "default", /, **labels: str) -> Endpoint:
    """A pod's end of an edge; ``__`` in a key is a slash, ``_`` a dash."""
    named = {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
    named |= {NAMESPACE_KEY: namespace, CLUSTER_KEY: cluster}
    return Endpoint(Labels.of(f"k8s:{key}={value}" for key, value in named.items()), namespace, cluster)


def reserved(*names: str, address: str = "") -> Endpoint:
    """A reserved identity."""
    return Endpoint(Labels.of(f"reserved:{name}" for name in names), address=address)


def outside(address: str) -> Endpoint:
    """An outside peer."""
    return reserved("world", address=address)


HOST, REMOTE_NODE = reserved("host"), reserved("remote-node")
API_SERVER = reserved("kube-apiserver", "remote-node")
DNS = pod("kube-system", k8s_app="kube-dns")
CART, REDIS = pod("shop", app="cart"), pod("shop", app="redis")


def edge(
    source: Endpoint,
    destination: Endpoint,
    l4: str,
    *,
    status: Status = Status.FORWARDED,
    sides: Sequence[Side] = (Side.SOURCE, Side.DESTINATION),
    names: Iterable[str] = (),
    queries: Iterable[str] = (),
    workloads: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    cluster: str = "default",
    **weights: int,
) -> Edge:
    """An edge with one answered event per side."""
    stats = EdgeStats()
    for side in sides:
        stats.cell(ActivityKey(20_697, side, EventKind.TRACE, Verdict.FORWARDED, 0)).add(START, 1)
    stats.answered = 1
    for name in names:
        stats.names.add(name, 1)
    for query in queries:
        stats.queries.add(query, 1)
    for name, weight in weights.items():
        setattr(stats, name, weight)
    ends = (tuple(Workload("Deployment", each) for each in end) for end in workloads)
    return Edge(EdgeKey(cluster, source, destination, L4.parse(l4)), stats, status, *ends)


def lookup(client: Endpoint, resolver: Endpoint = DNS) -> Edge:
    """A DNS query that was answered."""
    return edge(client, resolver, "53/UDP")


Documents = Sequence[Mapping[str, Any]]


def enforced(documents: Documents, subject: Endpoint, section: str) -> bool:
    """Whether any document has a section for `subject`."""
    return any(section in spec for spec in _selecting(documents, subject))


def allows(
    documents: Documents, subject: Endpoint, section: str, far: Endpoint, l4: L4, names: Iterable[str] = ()
) -> bool:
    """Whether `documents` let `subject` speak with `far`, judged on the subject's side alone."""
    specs = [spec for spec in _selecting(documents, subject) if section in spec]
    if not specs or (section == "ingress" and "host" in far.labels.reserved()):
        return True
    rules = [rule for spec in specs for rule in spec[section]]
    return any(_peer(rule, section, subject, far, set(names)) and _l4(rule, l4) for rule in rules)


def _selecting(documents: Documents, subject: Endpoint) -> list[Mapping[str, Any]]:
    return [
        document["spec"]
        for document in documents
        if document["metadata"]["namespace"] == subject.namespace
        and _selected(document["spec"]["endpointSelector"], subject)
    ]


def _selected(selector: Mapping[str, Any], end: Endpoint) -> bool:
    labels = policy_labels(end)
    have = {(label.key, label.value) for label in labels} | {(f"k8s:{x.key}", x.value) for x in labels}
    keys = {key for key, _ in have}
    assert all(each["operator"] == "DoesNotExist" for each in selector.get("matchExpressions", ()))
    return have.issuperset(selector["matchLabels"].items()) and not any(
        each["key"] in keys for each in selector.get("matchExpressions", ())
    )


def _peer(rule: Mapping[str, Any], section: str, subject: Endpoint, far: Endpoint, names: set[str]) -> bool:
    word = "from" if section == "ingress" else "to"
    if f"{word}Endpoints" in rule:
        for selector in rule[f"{word}Endpoints"]:
            cluster = selector["matchLabels"].get(f"k8s:{CLUSTER_KEY}", subject.cluster)
            if _selected(selector, far) and not far.labels.reserved() and far.cluster == cluster:
                return True
        return False
    if f"{word}Entities" in rule:
        known = entities(far.labels)
        return bool(known & set(rule[f"{word}Entities"])) or (
            "world" in rule[f"{word}Entities"] and bool(known & WORLD)
        )
    if "toFQDNs" in rule:
        return any(each["matchName"] in names for each in rule["toFQDNs"])
    if not entities(far.labels) & WORLD or far.address in ("", "unknown"):
        return False
    prefix = ip_network(far.address)
    networks = [ip_network(cidr) for cidr in rule[f"{word}CIDR"]]
    return any(prefix.version == each.version and prefix.subnet_of(each) for each in networks)  # type: ignore[arg-type]


def _l4(rule: Mapping[str, Any], l4: L4) -> bool:
    if l4.protocol.is_icmp:
        fields = [field for each in rule.get("icmps", ()) for field in each["fields"]]
        return {"family": ICMP_FAMILY[l4.protocol], "type": l4.port} in fields
    ports = [port for each in rule.get("toPorts", ()) for port in each["ports"]]
    return any(
        int(port["port"]) <= l4.port <= port.get("endPort", int(port["port"])) and port["protocol"] == str(l4.protocol)
        for port in ports
    )
