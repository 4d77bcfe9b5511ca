"""The pass that narrows rules to the HTTP requests that were seen, where it is asked for: methods and path patterns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from analyzer.model.edge import Edge, Side
from analyzer.model.flow import Direction, EventKind
from analyzer.model.l4 import L4, Protocol
from analyzer.model.requests import Request, requests
from analyzer.recommend.draft import (
    L7,
    Draft,
    HttpMatch,
    Note,
    Purpose,
    Reason,
    Refusal,
    RuleDraft,
    SubjectKey,
    Topic,
)
from analyzer.recommend.paths import QUERY, escaped, is_path, templates

__all__ = ["http"]

_SIDES = {Direction.INGRESS: Side.DESTINATION, Direction.EGRESS: Side.SOURCE}
_METHOD = re.compile(r"[A-Za-z][-A-Za-z]{0,31}")
_HOST = re.compile(r"[!-~]{0,255}")

_SAMPLE = "more different requests were seen than are kept; a sample proves nothing, so the rule stays at layer 4"
_PARTLY = "part of the traffic was seen without its requests, so the rule stays at layer 4"
_UNREADABLE = "requests without a method or path that a rule can hold were seen (masked, or no HTTP), so the rule stays at layer 4"
_RESOLVER = "DNS rules on the same port exclude HTTP rules, so the rule stays at layer 4"
_PROXY = (
    "rules on HTTP or DNS need Cilium's L7 proxy (l7Proxy, Envoy): it takes over such connections, adds latency, and answers "
    "what it refuses with 403"
)


class _Requests(NamedTuple):
    """What the proxy let through, and what it refused."""

    passed: frozenset[Request]
    refused: frozenset[Request]


def http(draft: Draft) -> Draft:
    """Split every TCP port with HTTP evidence off its rule and restrict it to the requests that were seen and not refused.

    The rule is written on the side whose proxy saw the requests. A port of which all requests were refused is not allowed.
    Where the evidence is a sample, or covers only part of the traffic, the rule stays as it is, and a note says so.
    """
    taken = _resolver_ports(draft.rules)
    rules: list[RuleDraft] = []
    refused: list[Refusal] = []
    notes: list[Note] = []
    for rule in draft.rules:
        if (
            rule.purpose is not Purpose.TRAFFIC
            or not rule.ports
            or L7.HTTP not in draft.options.settings(rule.subject.namespace).l7
        ):
            rules.append(rule)
            continue
        split = _Split(rule, taken[rule.subject])
        rules.extend(split.rules)
        refused.extend(split.refused)
        notes.extend(split.notes)
    if any(rule.http or rule.lookups for rule in rules):
        notes.append(Note(Topic.LAYER7, "", _PROXY))
    return replace(draft, rules=tuple(rules), refused=(*draft.refused, *refused), notes=(*draft.notes, *notes))


def _resolver_ports(rules: Iterable[RuleDraft]) -> dict[SubjectKey, set[L4]]:
    """Ports with DNS rules: HTTP rules on one of them make the agent refuse the whole policy (semantics 49)."""
    found: dict[SubjectKey, set[L4]] = defaultdict(set)
    for rule in rules:
        if rule.purpose is Purpose.DNS_NAMES:
            found[rule.subject].update(l4 for l4 in rule.ports if isinstance(l4, L4))
    return found


class _Split:
    """One rule and what becomes of it."""

    def __init__(self, rule: RuleDraft, taken: set[L4]) -> None:
        self.rules: list[RuleDraft] = []
        self.refused: list[Refusal] = []
        self.notes: list[Note] = []
        self._rule, self._taken = rule, taken
        side = _SIDES[rule.direction]
        single = [l4 for l4 in rule.ports if isinstance(l4, L4)]
        narrowed = {l4: found for l4 in single if (found := self._port(l4, side)) is not None}
        plain = tuple(l4 for l4 in rule.ports if l4 not in narrowed)
        if plain or not rule.ports:
            evidence = tuple(edge for edge in rule.evidence if edge.l4 not in narrowed)
            self.rules.append(replace(rule, ports=plain, evidence=evidence))
        for l4, seen in narrowed.items():
            evidence = tuple(edge for edge in rule.evidence if edge.l4 == l4)
            matches = _matches(seen)
            if matches:
                self.rules.append(replace(rule, ports=(l4,), evidence=evidence, http=matches))
            else:
                self.refused.extend(Refusal(edge, Reason.REQUESTS_REFUSED, rule.direction) for edge in evidence)

    def _port(self, l4: L4, side: Side) -> _Requests | None:
        """The requests that `l4` can be restricted to, None if it stays as it is."""
        edges = [edge for edge in self._rule.evidence if edge.l4 == l4]
        if l4.protocol is not Protocol.TCP or not any(_proxied(edge, side) for edge in edges):
            return None
        found = _RESOLVER if l4 in self._taken else _requests(edges)
        if isinstance(found, str):
            where = f"{self._rule.direction.name.lower()} {l4}"
            self.notes.append(Note(Topic.LAYER7, str(self._rule.subject), f"{where}: {found}"))
            return None
        return found


def _proxied(edge: Edge, side: Side) -> bool:
    """Whether the proxy of this side saw requests."""
    return bool(edge.stats.http) and any(
        key.kind == EventKind.L7 and key.side in (side, Side.UNKNOWN) for key in edge.stats.activity
    )


def _requests(edges: Sequence[Edge]) -> _Requests | str:
    """All requests of some edges, or why they cannot be relied on. What passed on one of them, passed."""
    passed: set[Request] = set()
    refused: set[Request] = set()
    for edge in edges:
        if edge.stats.http.overflow:
            return _SAMPLE
        if not edge.stats.http:
            return _PARTLY
        for judged, found in zip((passed, refused), requests(edge.stats), strict=True):
            judged.update(found)
    if not all(_METHOD.fullmatch(each.method) and is_path(each.path) and _HOST.fullmatch(each.host) for each in passed):
        return _UNREADABLE
    return _Requests(frozenset(passed), frozenset(refused - passed))


def _matches(found: _Requests) -> tuple[HttpMatch, ...]:
    """Rules for what passed. The host counts only where the same request was refused for another one."""
    refused: dict[str, set[str]] = defaultdict(set)
    for each in found.refused:
        refused[each.method].add(each.path)
    paths: dict[str, set[str]] = defaultdict(set)
    made: set[HttpMatch] = set()
    for each in found.passed:
        if each.host and each.path in refused[each.method]:
            made.add(HttpMatch(each.method, escaped(each.path) + QUERY, escaped(each.host)))
        else:
            paths[each.method].add(each.path)
    for method, seen in paths.items():
        made.update(HttpMatch(method, pattern) for pattern in templates(seen, refused[method]))
    return tuple(sorted(made))
