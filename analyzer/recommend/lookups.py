"""The pass that narrows name resolution to the names that were asked for, where it is asked for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from analyzer.model.flow import Direction
from analyzer.recommend.draft import L7, Draft, NamePeer, Note, Purpose, RuleDraft, SubjectKey, Topic
from analyzer.recommend.zones import generalised

__all__ = ["CLUSTER_DOMAIN", "lookups"]

CLUSTER_DOMAIN = "cluster.local"
"""The cluster's domain, unless the names that were asked for show another one."""
MAX_LABELS = 8
"""Labels before the cluster's domain: an outside name with fewer than five dots, the namespace and ``svc``."""

MAX_NAME = 255
"""Longest name in a rule (the CRD's maxLength); DNS has none that are longer."""

_NAME = re.compile(r"[-a-z0-9_]+(?:\.[-a-z0-9_]+)*")
_SERVICE = re.compile(r"[-a-z0-9_.]+\.svc\.([-a-z0-9_.]+)")

_SAMPLE = "egress: more different DNS names were asked for than are kept, so every name may be asked for"
_UNSEEN = "egress: no DNS request was seen by the proxy (see --visibility), so every name may be asked for"
_NARROW = (
    "egress: only names that were seen, with the search list of pods, may be asked for; all others are refused, also those "
    "that nodes' own search domains make"
)


def lookups(draft: Draft) -> Draft:
    """Let workloads ask only for the names they were seen to ask for or to connect to, and for all inside the cluster.

    Pods try every name with each domain of their search list first, and take a refusal as an answer: such names pass too.
    A workload whose requests nobody saw, or of which only a sample is kept, may go on asking for everything.
    """
    domains, peers = _domains(draft.rules), _peers(draft.rules)
    notes: list[Note] = []
    narrowed: dict[SubjectKey, tuple[str, ...]] = {}
    for key, rules in _resolving(draft).items():
        names = {name for rule in rules for edge in rule.evidence for name in edge.stats.queries if _is_name(name)}
        if any(edge.stats.queries.overflow for rule in rules for edge in rule.evidence):
            notes.append(Note(Topic.LAYER7, str(key), _SAMPLE))
        elif not names:
            notes.append(Note(Topic.LAYER7, str(key), _UNSEEN))
        else:
            narrowed[key] = tuple(_listed(names, peers[key], domains, draft.options.zone_names))
            notes.append(Note(Topic.LAYER7, str(key), _NARROW))
    changed = tuple(
        replace(rule, lookups=narrowed[rule.subject], purpose=Purpose.DNS_NAMES)
        if rule.subject in narrowed and _resolves(rule)
        else rule
        for rule in draft.rules
    )
    return replace(draft, rules=changed, notes=(*draft.notes, *notes))


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and bool(_NAME.fullmatch(text))


def _resolves(rule: RuleDraft) -> bool:
    return rule.purpose is not Purpose.TRAFFIC and rule.direction is Direction.EGRESS


def _resolving(draft: Draft) -> dict[SubjectKey, list[RuleDraft]]:
    """The rules for name resolution of all workloads that are to be narrowed."""
    found: dict[SubjectKey, list[RuleDraft]] = defaultdict(list)
    for rule in draft.rules:
        if _resolves(rule) and L7.DNS in draft.options.settings(rule.subject.namespace).l7:
            found[rule.subject].append(rule)
    return found


def _peers(rules: Iterable[RuleDraft]) -> dict[SubjectKey, set[str]]:
    """The names and patterns that each workload may connect to."""
    found: dict[SubjectKey, set[str]] = defaultdict(set)
    for rule in rules:
        found[rule.subject].update(peer.name for peer in rule.peers if isinstance(peer, NamePeer))
    return found


def _domains(rules: Iterable[RuleDraft]) -> list[str]:
    """The domains of the cluster, as service names show them."""
    asked = {name for rule in rules for edge in rule.evidence for name in edge.stats.queries}
    return sorted({found[1] for name in asked if (found := _SERVICE.fullmatch(name))}) or [CLUSTER_DOMAIN]


def _listed(asked: set[str], peers: set[str], domains: list[str], threshold: int) -> Iterator[str]:
    """Names and patterns: outside ones, of which many of a zone are one pattern, and then everything inside."""
    outside = {name for name in asked if not name.endswith(tuple(f".{domain}" for domain in domains))}
    patterns = generalised(outside, threshold)
    yield from sorted({patterns.get(name, name) for name in outside} | peers)
    for domain in domains:
        for labels in range(1, MAX_LABELS + 1):
            yield "*." * labels + domain
