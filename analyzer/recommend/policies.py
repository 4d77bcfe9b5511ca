"""The pass that gathers rules into policies and names them safely."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from analyzer.model.bounded import stable_hash
from analyzer.model.flow import Direction
from analyzer.model.perspective import home_cluster
from analyzer.recommend.draft import Draft, PolicyDraft, RuleDraft, SubjectKey

__all__ = ["MAX_NAME", "policies", "safe_name"]

MAX_NAME = 63
"""Longest policy name; Kubernetes allows more, but other names and labels are made of it."""

_SAFE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CLOSABLE = (Direction.INGRESS, Direction.EGRESS)
_UNSAFE = re.compile(r"[^a-z0-9]+")


def policies(draft: Draft) -> Draft:
    """One policy per workload with rules."""
    by_subject: dict[SubjectKey, list[RuleDraft]] = defaultdict(list)
    for rule in draft.rules:
        by_subject[rule.subject].append(rule)
    refused = _refused(draft)
    names = _names(
        sorted(by_subject), {(ref.namespace, ref.name) for each in draft.options.existing for ref in [each.ref]}
    )
    several = len({key.cluster for key in by_subject}) > 1
    found: list[PolicyDraft] = []
    for key, rules in sorted(by_subject.items()):
        folder = f"{safe_name(key.cluster)}/" if several else ""
        path = f"{folder}{safe_name(key.namespace)}/{names[key]}.yaml"
        complete = frozenset(direction for direction in Direction if (key, direction) in draft.complete)
        unasked = frozenset(_CLOSABLE) - draft.options.settings(key.namespace).directions
        found.append(PolicyDraft(draft.subjects[key], names[key], path, tuple(rules), refused[key], complete, unasked))
    return replace(draft, policies=(*draft.policies, *found))


def _names(keys: Sequence[SubjectKey], others: Collection[tuple[str, str]]) -> dict[SubjectKey, str]:
    """A name for each, unique in its namespace: who has a good name keeps it, whatever others are made to look like. Names of
    existing policies are not taken, since of two of one name the later replaces the earlier."""
    found: dict[SubjectKey, str] = {}
    taken: set[tuple[str, str, str]] = set()
    for key in sorted(keys, key=lambda key: safe_name(key.name) != key.name):
        name = safe_name(key.name)
        if (key.namespace, name) in others:
            name = safe_name(f"{name}-recommended")
        while (key.cluster, key.namespace, name) in taken:
            name = safe_name(f"{key.name}/{name}")
        taken.add((key.cluster, key.namespace, name))
        found[key] = name
    return found


def safe_name(name: str) -> str:
    """`name` if it is a DNS-1123 name of at most `MAX_NAME` characters, else what is left of it with a stable hash."""
    if len(name) <= MAX_NAME and _SAFE.fullmatch(name):
        return name
    rest = _UNSAFE.sub("-", name[:1024].lower()).strip("-")[: MAX_NAME - 17].strip("-")
    return f"{rest or 'x'}-{stable_hash(name).hex()}"


def _refused(draft: Draft) -> Counter[SubjectKey]:
    """Accepted edges without a rule, per workload that lacks it."""
    found: Counter[SubjectKey] = Counter()
    for refusal in draft.refused:
        edge = refusal.edge
        if not edge.accepted:
            continue
        for direction, end in (
            (Direction.EGRESS, edge.source),
            (Direction.INGRESS, edge.destination),
        ):
            key = draft.homes.get((home_cluster(edge, end), end))
            if key is not None and refusal.direction in (None, direction):
                found[key] += 1
    return found
