"""Policy, Rule and Item: any dialect's policy after parsing, before it meets an inventory; Origin: where a decision came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from analyzer.model.l4 import Protocol
from analyzer.policy.selector import LabelSelector, PeerSelector

__all__ = [
    "DNS_KEY", "Action", "DnsRule", "HeaderRule", "HttpRule", "Item", "L7Rules", "Origin", "Policy", "PolicyRef", "PortSpec",
    "Rule", "Section",
]  # fmt: skip

DNS_KEY = "dns"


class Section(StrEnum):
    """The four lists of a rule."""

    INGRESS = "ingress"
    INGRESS_DENY = "ingressDeny"
    EGRESS = "egress"
    EGRESS_DENY = "egressDeny"

    @property
    def is_ingress(self) -> bool:
        return self in (Section.INGRESS, Section.INGRESS_DENY)

    @property
    def action(self) -> Action:
        return Action.DENY if self in (Section.INGRESS_DENY, Section.EGRESS_DENY) else Action.ALLOW


class Action(StrEnum):
    """What a rule does with what it matches."""

    ALLOW = "allow"
    DENY = "deny"


class PolicyRef(NamedTuple):
    """A policy object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}" if self.kind else where


class Origin(NamedTuple):
    """Where an entry came from: item `rule` of `section` in spec number `spec` of a policy. A synthesised entry has no `kind`,
    and its `name` says what it is."""

    kind: str
    namespace: str
    name: str
    spec: int = 0
    section: str = ""
    rule: int = 0

    @property
    def policy(self) -> PolicyRef:
        return PolicyRef(self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        if not self.kind:
            return self.name
        spec = f" specs[{self.spec - 1}]" if self.spec else ""
        return f"{self.policy}{spec} {self.section}[{self.rule}]"


class HeaderRule(NamedTuple):
    """A header that must be there, with `value` unless that is None."""

    name: str
    value: str | None = None


class HttpRule(NamedTuple):
    """All parts that are set must match; `method`, `path` and `host` are regular expressions over the whole text."""

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[HeaderRule, ...] = ()


class DnsRule(NamedTuple):
    """A name or a pattern of names that may be asked for."""

    name: str = ""
    pattern: str = ""


class L7Rules(NamedTuple):
    """What the proxy lets through; `other` marks rules whose outcome is not modelled (serverNames, TLS, listeners)."""

    http: tuple[HttpRule, ...] = ()
    dns: tuple[DnsRule, ...] = ()
    other: bool = False


class PortSpec(NamedTuple):
    """Ports or ICMP types of one rule. `protocols` are those meant (ANY is TCP, UDP and SCTP); (0, 65535) is every port.

    A named port has `name` and no numbers. For ICMP, `first` is the type, and the range 0..255 stands for all of them.
    """

    protocols: tuple[Protocol, ...]
    first: int = 0
    last: int = 65535
    name: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a section.

    `peers` is None when there is no constraint on them, empty when nothing is chosen. `ports` likewise: None is every protocol and
    port, empty is none. `l7` belongs to all ports of this item (an API item with several toPorts becomes several of these).
    `index` is its place in the section.
    """

    section: Section
    index: int
    peers: tuple[PeerSelector, ...] | None = None
    ports: tuple[PortSpec, ...] | None = None
    l7: L7Rules | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One spec: a subject, its items, and whether it asks for default deny per direction. `spec` is 0 for ``spec``, else 1 + the
    index in ``specs``. `host` rules have nodes as their subject."""

    spec: int
    subject: LabelSelector
    items: tuple[Item, ...]
    deny_ingress: bool
    deny_egress: bool
    host: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy object that the agent accepts."""

    ref: PolicyRef
    rules: tuple[Rule, ...]
