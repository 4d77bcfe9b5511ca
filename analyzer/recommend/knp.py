"""Kubernetes NetworkPolicies from recommended policies: what they can express, and by name what they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from analyzer.manifests import Document
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX
from analyzer.recommend.draft import Note, PolicyDraft, RuleDraft, Topic
from analyzer.recommend.evidence import marked, summary
from analyzer.recommend.proposal import Proposal
from analyzer.recommend.render import policy

__all__ = ["Loss", "LossKind", "network_policies", "network_policy", "with_losses"]

_WORLD = ("0.0.0.0/0", "::/0")
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_EVERY_NAME = {"dns": [{"matchPattern": "*"}]}
_KNOWN_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
_ALWAYS_FROM = frozenset({Entity.HOST.value})
"""Sources that need no rule: kubelets reach the pods of their node in any case."""


class LossKind(StrEnum):
    """What became of something that a NetworkPolicy cannot say."""

    WIDER = "wider"
    BLOCKED = "not allowed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, order=True)
class Loss:
    """What was lost. `where` is ``namespace/policy``."""

    where: str
    kind: LossKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value.upper()}: {self.text}"


Peers = list[dict[str, Any]] | None
"""NetworkPolicy peers; None for any peer."""


def network_policies(proposal: Proposal) -> tuple[tuple[Document, ...], tuple[Loss, ...]]:
    """All policies of a proposal as NetworkPolicy documents under the same paths, and everything that this loses."""
    documents: list[Document] = []
    losses: list[Loss] = []
    for draft in proposal.policies:
        made, lost = network_policy(policy(draft), draft)
        losses.extend(lost)
        if made is not None:
            header = marked([*summary(draft), *map(str, lost)])
            documents.append(Document(made, draft.path, header=header))
    return tuple(documents), tuple(losses)


def with_losses(proposal: Proposal, losses: Iterable[Loss]) -> Proposal:
    """The proposal with a note on everything that was lost."""
    notes = (Note(Topic.LOST, loss.where, str(loss)) for loss in losses)
    return replace(proposal, notes=tuple(sorted({*proposal.notes, *notes})))


def network_policy(
    document: Mapping[str, Any], draft: PolicyDraft | None = None
) -> tuple[dict[str, Any] | None, tuple[Loss, ...]]:
    """A CiliumNetworkPolicy of ours as a NetworkPolicy, or None if it has no counterpart; and what was lost.

    Whatever peer has no counterpart (nodes, the API server, other clusters) becomes any peer on the same ports: too wide is
    said and can be read, too narrow is an outage. Only ICMP, which no NetworkPolicy knows, is not allowed. DNS names become
    the addresses that the evidence in `draft` shows.
    """
    meta, spec = document["metadata"], document.get("spec") or {}
    conversion = _Conversion(f"{meta.get('namespace', '')}/{meta['name']}", meta.get("namespace", ""))
    if document["kind"] != "CiliumNetworkPolicy" or False in spec.get("enableDefaultDeny", {}).values():
        conversion.lose(LossKind.LEFT_OUT, f"{document['kind']} {meta['name']}: no NetworkPolicy can say it")
        return None, tuple(conversion.losses)
    subject = conversion.pods(spec.get("endpointSelector") or {})
    if subject is None:
        conversion.lose(LossKind.LEFT_OUT, f"{meta['name']}: its pods are not selected by their own labels")
        return None, tuple(conversion.losses)
    made: dict[str, Any] = {"podSelector": subject, "policyTypes": []}
    for direction, section, word in ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to")):
        if section not in spec:
            continue
        made["policyTypes"].append(section.capitalize())
        drafts = draft.section(direction) if draft else ()
        origins: Sequence[RuleDraft | None] = (
            drafts if len(drafts) == len(spec[section]) else [None] * len(spec[section])
        )
        rules = zip(spec[section], origins, strict=True)
        made[section] = [each for rule, origin in rules for each in conversion.rule(rule, section, word, origin)]
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": dict(meta), "spec": made}
    return body, tuple(dict.fromkeys(conversion.losses))


class _Conversion:
    """One policy on its way, with its losses."""

    def __init__(self, where: str, namespace: str) -> None:
        self.losses: list[Loss] = []
        self._where, self._namespace = where, namespace

    def lose(self, kind: LossKind, text: str) -> None:
        self.losses.append(Loss(self._where, kind, text))

    def rule(
        self, rule: Mapping[str, Any], section: str, word: str, origin: RuleDraft | None
    ) -> Iterator[dict[str, Any]]:
        """The NetworkPolicy's counterpart of one rule; none if nothing of it is left."""
        if not rule:
            return
        ports, told = self._ports(rule, section)
        if ports == []:
            return
        for field, convert in self._PEERS.items():
            if word + field in rule:
                peers = convert(self, rule[word + field], f"{section} {told}", origin)
                break
        else:
            peers = None
        if peers == []:
            return
        made: dict[str, Any] = {} if peers is None else {word: peers}
        if ports is not None:
            made["ports"] = ports
        yield made

    def _ports(self, rule: Mapping[str, Any], section: str) -> tuple[list[dict[str, Any]] | None, str]:
        """Ports, None for all of them, and how to speak of them."""
        if "icmps" in rule:
            types = [f"{each['family']} type {each['type']}" for icmp in rule["icmps"] for each in icmp["fields"]]
            self.lose(LossKind.BLOCKED, f"{section}: ICMP {', '.join(types)}, which no NetworkPolicy knows")
            return [], ""
        if "toPorts" not in rule:
            return None, "all ports"
        found: list[dict[str, Any]] = []
        for item in rule["toPorts"]:
            if item.get("rules", _EVERY_NAME) != _EVERY_NAME:
                kinds = ", ".join(sorted(item["rules"])).upper()
                listed = ", ".join(f"{port['port']}/{port.get('protocol', 'ANY')}" for port in item["ports"])
                self.lose(
                    LossKind.WIDER,
                    f"{section} {listed}: rules on {kinds} are left out, everything may pass on the port",
                )
            found.extend(each for port in item.get("ports", []) for each in _port(port))
        return found, ", ".join(map(_in_words, found))

    def pods(self, selector: Mapping[str, Any]) -> dict[str, Any] | None:
        """A selector without namespace; None if it asks for what only Cilium knows."""
        chosen, others = self._selector(selector, lambda key: "" if _is_plain(key) else None)
        return None if others is None else chosen

    def _selector(
        self, selector: Mapping[str, Any], place: Callable[[str], str | None]
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The selector's own part, and the namespaces' part (`place` gives the key there, ``""`` for one's own, None for
        what has no counterpart; then the second is None)."""
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for key, value in selector.get("matchLabels", {}).items():
            where = place(_bare(key))
            if where is None:
                return {}, None
            parts[bool(where)].setdefault("matchLabels", {})[where or _bare(key)] = value
        for each in selector.get("matchExpressions", ()):
            where = place(_bare(each["key"]))
            if where is None:
                return {}, None
            changed = {**each, "key": where or _bare(each["key"])}
            parts[bool(where)].setdefault("matchExpressions", []).append(changed)
        return parts

    def _endpoints(self, selectors: Sequence[Mapping[str, Any]], told: str, origin: RuleDraft | None) -> Peers:
        found: list[dict[str, Any]] = []
        for selector in selectors:
            pods, namespaces = self._selector(selector, _namespace_key)
            if namespaces is None:
                self.lose(
                    LossKind.WIDER, f"{told}: any peer, since pods of other clusters or service accounts have no name"
                )
                return None
            if namespaces == {"matchLabels": {_NAMESPACE_NAME: self._namespace}} or not namespaces:
                found.append({"podSelector": pods})
            else:
                found.append({"namespaceSelector": namespaces, **({"podSelector": pods} if pods else {})})
        return found

    def _entities(self, entities: Sequence[str], told: str, origin: RuleDraft | None) -> Peers:
        found: list[dict[str, Any]] = []
        for entity in entities:
            if entity == Entity.WORLD:
                found.extend({"ipBlock": {"cidr": cidr}} for cidr in _WORLD)
            elif not (entity in _ALWAYS_FROM and told.startswith("ingress")):
                self.lose(LossKind.WIDER, f"{told}: any peer, since {entity} has no name")
                return None
        return found

    def _cidrs(self, cidrs: Sequence[str], told: str, origin: RuleDraft | None) -> Peers:
        return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]

    def _names(self, names: Sequence[Mapping[str, str]], told: str, origin: RuleDraft | None) -> Peers:
        listed = ", ".join(next(iter(each.values())) for each in names)
        cidrs = sorted(
            {cidr for edge in (origin.evidence if origin else ()) for cidr in _cidr(edge.destination.address)}
        )
        if not cidrs:
            self.lose(LossKind.BLOCKED, f"{told}: {listed}, whose addresses are not known")
        else:
            self.lose(LossKind.BLOCKED, f"{told}: {listed}, but for the addresses seen; names have none that stay")
        return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]

    _PEERS: Mapping[str, Callable[..., Peers]] = {
        "Endpoints": _endpoints,
        "Entities": _entities,
        "CIDR": _cidrs,
        "FQDNs": _names,
    }


def _cidr(address: str) -> Iterator[str]:
    try:
        yield str(ip_network(address))
    except ValueError:
        return


def _bare(key: str) -> str:
    """A key without Cilium's source."""
    return key.removeprefix("k8s:").removeprefix("any:")


def _is_plain(key: str) -> bool:
    return not key.startswith(("io.cilium.", "io.kubernetes.", "reserved:"))


def _namespace_key(key: str) -> str | None:
    if key == NAMESPACE_KEY:
        return _NAMESPACE_NAME
    if key.startswith(NAMESPACE_LABEL_PREFIX):
        return key.removeprefix(NAMESPACE_LABEL_PREFIX)
    return "" if _is_plain(key) else None


def _in_words(port: Mapping[str, Any]) -> str:
    last = f"-{port['endPort']}" if "endPort" in port else ""
    return f"{port.get('port', 'all ports')}{last}/{port['protocol']}"


def _port(port: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A port of a toPorts list; numbers become numbers, port 0 every port, no protocol all three."""
    protocol = port.get("protocol", "ANY")
    number = str(port["port"])
    for each in sorted(_KNOWN_PROTOCOLS) if protocol == "ANY" else [protocol]:
        made: dict[str, Any] = {"protocol": each}
        if number != "0":
            made["port"] = int(number) if number.isdigit() else number
            if port.get("endPort"):
                made["endPort"] = port["endPort"]
        yield made
