"""One conformance case: its cluster as an inventory, its policies parsed or refused, its flows as the engine's questions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import PolicyError
from analyzer.model.identity import reserved
from analyzer.model.inventory import AgentOptions, CidrGroup, Inventory, InventoryEndpoint
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, Labels
from analyzer.policy import (
    DnsQuery,
    HttpRequest,
    Outcome,
    Peer,
    Policy,
    PolicySet,
    SideDecision,
    Traffic,
    compile_policies,
    parse,
)

__all__ = ["Answer", "Case", "Questions", "answers", "questions", "read_cases"]

_LETTERS = {Outcome.ALLOWED: "A", Outcome.DENIED: "D", Outcome.REDIRECTED: "R", Outcome.UNDECIDED: "?"}
_OPTIONS = {
    "allowLocalhost": "allow_localhost",
    "policyEnforcement": "enforcement",
    "ipv6": "ipv6",
    "hostFirewall": "host_firewall",
    "nodeSelectorLabels": "node_selector_labels",
    "extendedProtocols": "extended_protocols",
    "anyCluster": "any_cluster",
    "clusterName": "cluster_name",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A case as it stands in the file."""

    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def options(self) -> AgentOptions:
        """The agent's settings in this case."""
        return _World(self.body).inventory.options


@dataclass(frozen=True, slots=True)
class Answer:
    """One comparison: what was asked, Cilium's letter and ours. `kind` is valid, egress, ingress, final or l7."""

    case: str
    kind: str
    what: str
    expected: str
    ours: str


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a file of JSON lines, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if line.strip():
                yield Case(json.loads(line))


@dataclass(frozen=True, slots=True)
class Questions:
    """A case without its answers: what to compile, and what to ask."""

    policies: tuple[Policy, ...]
    inventory: Inventory
    flows: tuple[Traffic, ...]

    def compiled(self) -> PolicySet:
        """Its policies, compiled afresh."""
        return compile_policies(self.policies, self.inventory)


def questions(case: Case) -> Questions:
    """What the case asks, for measuring."""
    world, policies = _World(case.body), list[Policy]()
    for document in case.body["policies"]:
        with suppress(PolicyError):
            policies.append(parse(document, world.inventory.options))
    return Questions(tuple(policies), world.inventory, tuple(map(world.traffic, case.body["flows"])))


def answers(case: Case) -> Iterator[Answer]:
    """Everything the case says, compared."""
    body = case.body
    world = _World(body)
    policies: list[Policy] = []
    for number, (document, expected) in enumerate(zip(body["policies"], body["expect"]["policies"], strict=True)):
        try:
            policies.append(parse(document, world.inventory.options))
            ours = "True"
        except PolicyError:
            ours = "False"
        yield Answer(case.id, "valid", f"policy {number}", str(expected["valid"]), ours)
    compiled = compile_policies(policies, world.inventory)
    for flow, expected in zip(body["flows"], body["expect"]["flows"], strict=True):
        traffic = world.traffic(flow)
        decision = compiled.decide(traffic)
        what = json.dumps(flow)
        yield Answer(case.id, "egress", what, expected[0], _LETTERS[decision.egress.outcome])
        yield Answer(case.id, "ingress", what, expected[1], _LETTERS[decision.ingress.outcome])
        yield Answer(case.id, "final", what, expected[2], _LETTERS[decision.outcome])
        if len(expected) > 3:
            yield Answer(case.id, "l7", what, expected[3], _passed(decision.egress, decision.ingress))


def _passed(*sides: SideDecision) -> str:
    found = [side.l7 for side in sides if side.outcome is Outcome.REDIRECTED]
    return "-" if False in found else "?" if None in found else "+"


class _World:
    """The cluster of a case."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        options = dict(body.get("options", {}))
        nodes = "nodes" in options.pop("cidrMatchMode", [])
        settings = AgentOptions(cidr_match_nodes=nodes, **{_OPTIONS[key]: value for key, value in options.items()})
        self.namespaces = body.get("namespaces", {})
        self.peers = {name: self._endpoint(each, settings) for name, each in body.get("endpoints", {}).items()}
        self.by_ip = {peer.ip: peer for peer in self.peers.values() if peer.ip}
        names: dict[str, set[str]] = {name: set(ips) for name, ips in body.get("fqdns", {}).items()}
        for flow in body["flows"]:
            for end in (flow["src"], flow["dst"]):
                if isinstance(end, dict) and "fqdn" in end and "ip" in end:
                    names.setdefault(end["fqdn"], set()).add(end["ip"])
        self.inventory = Inventory(
            endpoints=tuple(
                InventoryEndpoint(name, "", peer.labels, (peer.ip,), peer.named_ports)
                for name, peer in self.peers.items()
            ),
            namespaces=self.namespaces,
            cidr_groups=tuple(
                CidrGroup(name, tuple(group["cidrs"]), group.get("labels", {}))
                for name, group in body.get("cidrGroups", {}).items()
            ),
            names={name: tuple(sorted(ips)) for name, ips in names.items()},
            host_labels=Labels.of(_k8s(each) for each in body.get("hostLabels", [])),
            options=settings,
        )

    def _endpoint(self, body: Mapping[str, Any], options: AgentOptions) -> Peer:
        labels = [_k8s(each) for each in body["labels"]]
        if not any(label.source == "reserved" for label in labels):
            if not any(label.key == CLUSTER_KEY for label in labels):
                labels.append(Label("k8s", CLUSTER_KEY, options.cluster_name))
            namespace = next((label.value for label in labels if label.key == NAMESPACE_KEY), "")
            for key, value in self.namespaces.get(namespace, {}).items():
                labels.append(Label("k8s", NAMESPACE_LABEL_PREFIX + key, value))
        ports = {
            name.lower(): L4(Protocol.parse(port["proto"]), port["port"])
            for name, port in body.get("namedPorts", {}).items()
        }
        return Peer(Labels.of(labels), body.get("ip", ""), named_ports=ports)

    def _peer(self, end: Any) -> Peer:
        if isinstance(end, str):
            if end in self.peers:
                return self.peers[end]
            named = reserved(end.removeprefix("reserved:"))
            return Peer(Labels.of([*named, *self.inventory.host_labels]) if end == "reserved:host" else named)
        ip = end.get("cidr") or end.get("ip") or self.inventory.names[end["fqdn"]][0]
        if ip in self.by_ip:
            return self.by_ip[ip]
        labels = [_k8s(each) for each in end.get("labels", [])]
        if not any(label.source == "reserved" and label.key == "remote-node" for label in labels):
            world = f"world-ipv{6 if ':' in ip else 4}" if self.inventory.options.ipv6 else "world"
            labels.append(Label("reserved", world))
        return Peer(Labels.of(labels), ip)

    def traffic(self, flow: Mapping[str, Any]) -> Traffic:
        protocol = Protocol.parse(flow["proto"])
        port = flow.get("icmpType", 0) if protocol.is_icmp else flow.get("port", 0)
        l7 = flow.get("l7") or {}
        http = None
        if l7 and "dns" not in l7:
            headers = tuple((l7.get("headers") or {}).items())
            http = HttpRequest(l7.get("method", ""), l7.get("path", ""), l7.get("host", ""), headers)
        dns = DnsQuery(l7["dns"]) if "dns" in l7 else None
        return Traffic(self._peer(flow["src"]), self._peer(flow["dst"]), L4(protocol, port), http, dns)


def _k8s(text: str) -> Label:
    label = Label.parse(text)
    return label if label.source else label._replace(source="k8s")
