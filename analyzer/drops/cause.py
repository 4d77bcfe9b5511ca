"""Cause: one explanation of a drop with its evidence; the kinds of causes in the order in which they are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from analyzer.drops.scene import Scene
from analyzer.policy import Origin

__all__ = ["Cause", "CauseKind", "Family"]


class CauseKind(StrEnum):
    """Why something was dropped. The order is that of belief: what stands first explains a drop alone, and the closer a rule comes
    to letting the traffic pass, the earlier it stands."""

    # What no allow rule can change.
    NETWORK = "network"
    """The reason is not a policy's."""
    TRANSIENT = "transient"
    EXPLICIT_DENY = "explicit deny"
    AUTHENTICATION = "authentication"
    SOURCE_RANGE = "source range"
    REPLY = "reply without connection"
    LATE_IDENTITY = "identity not known yet"
    # The proxy.
    L7_RULE = "request not allowed"
    DNS_NAME = "name not allowed"
    # DNS itself, without which nothing else works.
    DNS_DENIED = "DNS denied"
    # Names, whose rules work only with lookups.
    FQDN_BEFORE_DNS = "FQDN rule before DNS"
    FQDN_WITHOUT_DNS = "FQDN rule without DNS"
    FQDN_PATTERN = "FQDN rule for another name"
    # Rules that almost let it pass.
    SERVICE_PORT = "service port"
    NAMED_PORT = "named port"
    PROTOCOL = "protocol"
    CIDR_INSIDE = "CIDR for a peer inside"
    SNAT = "source translated"
    ENTITY = "other entity"
    PORT = "other port"
    NAMESPACE = "other namespace"
    CLUSTER = "other cluster"
    LABEL = "label differs"
    CIDR_EXCEPT = "excepted from a CIDR"
    CIDR_OTHER = "outside of the CIDR"
    SUBJECT = "rule for another workload"
    # What is left.
    ONE_SIDE = "only one side allowed"
    NO_RULE = "no rule"
    CHANGED = "policies or labels changed"
    UNDECIDED = "undecided"
    NOT_ASKED = "policies not given"


@dataclass(frozen=True, slots=True)
class Cause:
    """`words` is a sentence without its full stop; `evidence` are more of them. `rule` is the rule that it is about. `distance`
    ranks causes of the same kind: how much is missing."""

    kind: CauseKind
    words: str
    evidence: tuple[str, ...] = ()
    rule: Origin | None = None
    distance: int = 0


Family = Callable[[Scene], Iterator[Cause]]
"""Some related causes, as far as they explain a scene."""
