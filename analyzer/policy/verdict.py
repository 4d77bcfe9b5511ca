"""The verdict: what a side decides once it is known which of its entries cover the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzer.policy.decision import Outcome, SideDecision
from analyzer.policy.http import DnsQuery, HttpRequest, passes
from analyzer.policy.model import Action, L7Rules
from analyzer.policy.resolve import OPEN, PolicyEntry, SubjectRules

__all__ = ["Hit", "verdict"]

_NOT_KNOWN = "a rule's peers or named port cannot be resolved with what is known: {}"


class Hit(NamedTuple):
    """An entry that covers the traffic; `sure` is False where that cannot be known."""

    entry: PolicyEntry
    sure: bool


def verdict(hits: Sequence[Hit], rules: SubjectRules, http: HttpRequest | None, dns: DnsQuery | None) -> SideDecision:
    """Deny beats everything that is sure; of what allows, L7 rules redirect; a default decides only alone."""
    denies = [hit for hit in hits if hit.entry.action is Action.DENY and not hit.entry.default]
    allows = [hit for hit in hits if hit.entry.action is Action.ALLOW and not hit.entry.default]
    allowing = tuple(dict.fromkeys(hit.entry.origin for hit in allows if hit.sure))
    by = rules.enforced_by
    certain = tuple(dict.fromkeys(hit.entry.origin for hit in denies if hit.sure))
    if certain:
        return SideDecision(Outcome.DENIED, certain, allowing, by, f"denied by {certain[0]}")
    default = rules.entries[-1]
    unsure = [hit for hit in (*denies, *allows) if not hit.sure]
    closed = default.action is Action.DENY and not allows
    if closed:
        return SideDecision(Outcome.DENIED, (default.origin,), (), by, _closed(rules))
    l7 = [hit.entry for hit in allows if hit.entry.l7 is not None and hit.sure]
    unsure_matters = [
        hit
        for hit in unsure
        if hit.entry.action is Action.DENY or hit.entry.l7 is not None or (rules.enforced and not allowing)
    ]
    if unsure_matters:
        origins = ", ".join(dict.fromkeys(str(hit.entry.origin) for hit in unsure_matters))
        return SideDecision(Outcome.UNDECIDED, (), allowing, by, _NOT_KNOWN.format(origins))
    if l7:
        deciding = tuple(dict.fromkeys(entry.origin for entry in l7))
        passed = _proxied([hit.entry.l7 for hit in allows], rules, http, dns)
        return SideDecision(Outcome.REDIRECTED, deciding, allowing, by, "through the L7 proxy", passed)
    deciding = (allowing[0],) if allowing else (default.origin,)
    passed = True if http is not None or dns is not None else None
    return SideDecision(Outcome.ALLOWED, deciding, allowing or (default.origin,), by, "", passed)


def _proxied(
    found: list[L7Rules | None], rules: SubjectRules, http: HttpRequest | None, dns: DnsQuery | None
) -> bool | None:
    """The proxy takes the rules together: one plain or open rule lets every request pass (semantics 45, 47)."""
    if http is None and dns is None:
        return None
    if any(each is None or each is OPEN for each in found):
        return True
    answers = [passes(each, http, dns) for each in found if each is not None]
    return True if True in answers else None if None in answers else False


def _closed(rules: SubjectRules) -> str:
    if not rules.enforced_by:
        return "default deny: every endpoint is under enforcement, and no rule matches"
    listed = ", ".join(map(str, rules.enforced_by[:3])) + (" and others" if len(rules.enforced_by) > 3 else "")
    return f"default deny: selected by {listed}, no rule matches"
