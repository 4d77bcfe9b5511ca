"""Draft: what the passes hand on to each other - subjects, claims, rules, and everything that made no rule, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.policy import Policy
from analyzer.recommend.system import SYSTEM_NAMESPACES, is_system

__all__ = [
    "ANY_PORT",
    "L7",
    "CidrPeer",
    "Claim",
    "Draft",
    "EndpointPeer",
    "EntityPeer",
    "HttpMatch",
    "NamePeer",
    "Note",
    "Options",
    "Peer",
    "PeerDetail",
    "PolicyDraft",
    "Purpose",
    "Reason",
    "Refusal",
    "RuleDraft",
    "Selection",
    "Settings",
    "Span",
    "Subject",
    "SubjectKey",
    "Topic",
]


class L7(StrEnum):
    """What rules may say about layer 7, where it is asked for."""

    HTTP = "http"
    DNS = "dns"


class PeerDetail(StrEnum):
    """What rules call pods: all of a namespace, or those of one workload."""

    NAMESPACE = "namespace"
    WORKLOAD = "workload"


ANY_PORT = L4(Protocol.ANY)
"""Stands in a claim for every protocol and port, ICMP included."""


class Span(NamedTuple):
    """Ports `port` to `last`, both included, as one entry of a rule; it never carries layer 7."""

    protocol: Protocol
    port: int
    last: int

    def holds(self, l4: L4) -> bool:
        """Whether `l4` is one of these ports."""
        return l4.protocol is self.protocol and self.port <= l4.port <= self.last

    def __str__(self) -> str:
        return f"{self.port}-{self.last}/{self.protocol}"


class SubjectKey(NamedTuple):
    """A workload: what a policy can be about. `name` is unique in its namespace."""

    cluster: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What may differ between namespaces. `directions` are the sections that may be written; `names` allows toFQDNs; `l7` is
    what rules are narrowed to beyond ports, where the proxy saw it; `peers` is what rules call pods, and with `any_port` they
    say nothing of ports."""

    directions: frozenset[Direction] = frozenset({Direction.INGRESS, Direction.EGRESS})
    names: bool = True
    l7: frozenset[L7] = frozenset()
    peers: PeerDetail = PeerDetail.WORKLOAD
    any_port: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How to recommend. `namespaces` overrides `default` by namespace; `only`, if not empty, are the namespaces to write
    policies for (all edges still count as evidence and for telling workloads apart). From `zone_names` names of one zone on, a
    workload's rule has a pattern instead (0: never); more than `max_cidrs` addresses on one port are aggregated. From
    `range_ports` ports of one peer on, evidence can make them a range (0: never). With `named_ports`, rules say the names that
    pods declare. What `existing` policies allow is not proposed again. The `system` namespaces get no policies. With `gateways`,
    no other workload may be reached from the internet."""

    default: Settings = Settings()
    namespaces: Mapping[str, Settings] = field(default_factory=lambda: MappingProxyType({}))
    only: frozenset[str] = frozenset()
    zone_names: int = 5
    max_cidrs: int = 32
    range_ports: int = 8
    named_ports: bool = False
    existing: tuple[Policy, ...] = ()
    system: frozenset[str] = SYSTEM_NAMESPACES
    gateways: frozenset[SubjectKey] | None = None

    def settings(self, namespace: str) -> Settings:
        """What holds in `namespace`."""
        if (self.only and namespace not in self.only) or is_system(namespace, self.system):
            return Settings(directions=frozenset())
        return self.namespaces.get(namespace, self.default)


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector without its namespace: all of `labels` (key, value) are there, and none of the keys `absent` is."""

    labels: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload with all identities it was seen with, and the selection that matches these and no other known identity.

    `workloads` are the names Hubble or labels gave; several when labels cannot tell them apart. `obstacle` says why it
    cannot be selected at all; then it makes no rule, neither as subject nor as peer.
    """

    key: SubjectKey
    identities: tuple[Endpoint, ...]
    workloads: tuple[str, ...]
    selection: Selection = Selection()
    obstacle: str = ""


class EndpointPeer(NamedTuple):
    """Pods of one workload, or all of a namespace (then `subject` has no name). `cluster` is empty for the rule's own cluster."""

    subject: SubjectKey
    selection: Selection
    cluster: str = ""


class EntityPeer(NamedTuple):
    """A reserved identity, by the name rules have for it."""

    entity: Entity


class NamePeer(NamedTuple):
    """A DNS name outside the cluster."""

    name: str


class CidrPeer(NamedTuple):
    """A prefix outside the cluster."""

    cidr: str


Peer = EndpointPeer | EntityPeer | NamePeer | CidrPeer


class Purpose(StrEnum):
    """What a rule is for."""

    TRAFFIC = "traffic"
    DNS = "dns"
    """Name resolution, written for every workload that gets an egress section."""
    DNS_NAMES = "dns-names"
    """Name resolution through the DNS proxy, which toFQDNs learns its addresses from."""


class Claim(NamedTuple):
    """One edge, or several, seen from one of its ends: what `subject` has to be allowed. `fallback` is the peer by address when
    `peer` is a name."""

    subject: SubjectKey
    direction: Direction
    peer: Peer
    l4: L4
    edges: tuple[Edge, ...]
    purpose: Purpose = Purpose.TRAFFIC
    fallback: Peer | None = None


class HttpMatch(NamedTuple):
    """Requests as regular expressions over the whole text; an empty one is no constraint."""

    method: str
    path: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """One rule of one policy: `peers` are of one kind; `ports` hold either ports, single ones and ranges, or ICMP types, and
    without any of them the rule is for every protocol and port. `evidence` are the edges that caused it, in canonical order;
    none for name resolution that was not seen used. `http` are the only requests that may pass, `lookups` the only DNS names or
    patterns that may be asked for; empty is no such constraint."""

    subject: SubjectKey
    direction: Direction
    peers: tuple[Peer, ...]
    ports: tuple[L4 | Span, ...]
    evidence: tuple[Edge, ...]
    purpose: Purpose = Purpose.TRAFFIC
    http: tuple[HttpMatch, ...] = ()
    lookups: tuple[str, ...] = ()
    names: tuple[tuple[L4, str], ...] = ()
    """What to write instead of the numbers of these ports."""


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """One CiliumNetworkPolicy: `name` and `path` are made of a safe alphabet, `path` is relative."""

    subject: Subject
    name: str
    path: str
    rules: tuple[RuleDraft, ...]
    refused: int = 0
    """How many accepted edges of this workload no rule allows."""
    complete: frozenset[Direction] = frozenset()
    """Directions in which existing policies allow all that was seen."""
    unasked: frozenset[Direction] = frozenset()
    """Directions that no rules were asked for in."""

    def section(self, direction: Direction) -> tuple[RuleDraft, ...]:
        """The rules of one direction; empty when the direction is left alone."""
        return tuple(rule for rule in self.rules if rule.direction is direction)


class Reason(StrEnum):
    """Why an edge, or one end of it, makes no rule."""

    DROPPED = "it was dropped: no rule allowed it, and it was not allowed later"
    DENIED = "an explicit deny rule dropped it: an allow rule cannot help"
    INFRASTRUCTURE = "it was dropped by the network, not by a policy"
    UNANSWERED = "nobody answered: a scan, or a server that is down"
    UNDIRECTED = "nobody can tell which side is the client"
    UNCERTAIN_PORT = "its records are aggregated, so that the port may not be its own"
    EVERY_PORT = "it has no port, and port 0 in a policy means all ports"
    EVERY_ICMP_TYPE = "ICMP type 0 in a policy means all types"
    PROTOCOL = "policies know TCP, UDP, SCTP and ICMP only"
    NO_SUBJECT = "neither side is a pod that a policy can select"
    NO_IDENTITY = "the labels of one side are missing from the record"
    STARTING = "a pod that is still starting has no identity of its own yet (reserved:init)"
    UNKNOWN_RESERVED = "one side has a reserved identity that policies have no name for"
    INSIDE_ADDRESS = "an address inside the cluster was seen without its identity; address rules never match such peers"
    BAD_ADDRESS = "the outside peer's address is no IP address"
    CLUSTER_ALIEN = "the workload's own cluster was not observed"
    UNSELECTABLE = "no stable labels select the workload"
    CLOSED = "existing policies deny it at an end that no policy was asked for"
    REQUESTS_REFUSED = "the L7 proxy refused all requests"
    DIRECT_INTERNET = "it comes from the internet directly and not through a gateway"


class Refusal(NamedTuple):
    """An edge without a rule. `direction` tells which side lacks it; None means both."""

    edge: Edge
    reason: Reason
    direction: Direction | None = None
    detail: str = ""


class Topic(StrEnum):
    """What a note is about."""

    UNSEEN_DIRECTION = "direction left alone"
    JOINED = "workloads that share all labels"
    UNSELECTABLE = "cannot be selected"
    NO_RESOLVER = "no resolver was seen"
    WIDE = "wider than a name or an address"
    MANY_CLIENTS = "many outside clients"
    BEHIND_NODES = "clients may be behind nodes"
    LABEL_FILTER = "labels incomplete"
    LAYER7 = "layer 7"
    ZONE = "names of one zone"
    CIDRS = "addresses without names"
    RANGE = "port range"
    PRIVATE = "private addresses"
    INGRESS = "clients come through an ingress"
    NODES = "nodes as peers"
    BLIND = "names or requests nobody saw"
    LOST = "lost in NetworkPolicy"
    SYSTEM = "system namespace"
    EXISTING = "allowed already"


class Note(NamedTuple):
    """Something the reader of a proposal has to know. `where` is ``namespace/workload``, a namespace, or empty."""

    topic: Topic
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """The state between passes. Each pass returns a new one and leaves the old one as it was.

    `edges` are those still to be turned into claims; `homes` finds the subject of a pod by (cluster, endpoint).
    """

    edges: tuple[Edge, ...]
    inventory: Inventory
    options: Options
    subjects: Mapping[SubjectKey, Subject] = field(default_factory=lambda: MappingProxyType({}))
    homes: Mapping[tuple[str, Endpoint], SubjectKey] = field(default_factory=lambda: MappingProxyType({}))
    claims: tuple[Claim, ...] = ()
    covered: tuple[Claim, ...] = ()
    """Claims that existing policies allow already."""
    ranges: Mapping[tuple[SubjectKey, Direction, Peer], tuple[Span, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The ranges that stand for single ports, sorted; none overlaps another."""
    rules: tuple[RuleDraft, ...] = ()
    policies: tuple[PolicyDraft, ...] = ()
    visibility: tuple[PolicyDraft, ...] = ()
    refused: tuple[Refusal, ...] = ()
    always_allowed: tuple[Edge, ...] = ()
    notes: tuple[Note, ...] = ()
    complete: frozenset[tuple[SubjectKey, Direction]] = frozenset()
    """Directions of workloads in which existing policies allow all that was seen."""
