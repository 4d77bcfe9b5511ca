"""Traffic, Decision and Outcome: the engine's question and its answer."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from analyzer.model.l4 import L4
from analyzer.policy.http import DnsQuery, HttpRequest
from analyzer.policy.model import Origin, PolicyRef
from analyzer.policy.selector import Peer

__all__ = ["Decision", "Outcome", "SideDecision", "Traffic"]


class Outcome(StrEnum):
    """What becomes of a packet. REDIRECTED is allowed through the L7 proxy, which may still refuse requests."""

    ALLOWED = "allowed"
    DENIED = "denied"
    REDIRECTED = "redirected"
    UNDECIDED = "undecided"


class Traffic(NamedTuple):
    """A new connection from `source` to `destination`, and optionally a request over it."""

    source: Peer
    destination: Peer
    l4: L4
    http: HttpRequest | None = None
    dns: DnsQuery | None = None


class SideDecision(NamedTuple):
    """One side's answer.

    `deciding` are the origins that decide it (a deny, an L7 rule, an allow, or a synthesised default), `allowing` every origin
    that allows, `selected_by` the policies that put this side under enforcement. `l7` tells what the proxy does with the
    request: None without one or when it is not modelled.
    """

    outcome: Outcome
    deciding: tuple[Origin, ...] = ()
    allowing: tuple[Origin, ...] = ()
    selected_by: tuple[PolicyRef, ...] = ()
    reason: str = ""
    l7: bool | None = None


class Decision(NamedTuple):
    """Both sides' answers. Both must allow."""

    egress: SideDecision
    ingress: SideDecision

    @property
    def outcome(self) -> Outcome:
        """DENIED if any side denies, else UNDECIDED if any is, else REDIRECTED if any is, else ALLOWED."""
        sides = (self.egress.outcome, self.ingress.outcome)
        for worst in (Outcome.DENIED, Outcome.UNDECIDED, Outcome.REDIRECTED):
            if worst in sides:
                return worst
        return Outcome.ALLOWED
