"""Resolving: the rules that select a subject, as flat immutable entries per direction, with the defaults synthesised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from analyzer.model.identity import Entity, entities
from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import Protocol
from analyzer.model.labels import CLUSTER_KEY, Labels
from analyzer.policy.model import Action, Item, L7Rules, Origin, Policy, PolicyRef, PortSpec, Rule
from analyzer.policy.selector import EntitySelector, LabelSelector, PeerSelector

__all__ = [
    "ALLOW_LOCALHOST",
    "DEFAULT_ALLOW",
    "UNMANAGED",
    "PolicyEntry",
    "SubjectRules",
    "entries_of",
    "handles",
    "managed",
]

ALLOW_LOCALHOST = Origin("", "", "allow-localhost")
DEFAULT_ALLOW = Origin("", "", "default allow")
UNMANAGED = Origin("", "", "not under policy")
_DEFAULT_DENY = {True: Origin("", "", "default deny (ingress)"), False: Origin("", "", "default deny (egress)")}
_MANAGED = frozenset({Entity.HEALTH, Entity.INIT, Entity.INGRESS})


class PolicyEntry(NamedTuple):
    """One item of one rule, ready to be looked up. `peers` and `ports` are as in `Item`;
    `default` marks a synthesised entry that decides only where no other does."""

    action: Action
    peers: tuple[PeerSelector, ...] | None
    ports: tuple[PortSpec, ...] | None
    l7: L7Rules | None
    origin: Origin
    default: bool = False


class SubjectRules(NamedTuple):
    """Everything that decides one direction of one subject. `enforced_by` are the policies that ask for default deny here;
    `conflict` says why the agent cannot compute this policy at all."""

    entries: tuple[PolicyEntry, ...]
    enforced: bool
    enforced_by: tuple[PolicyRef, ...]
    conflict: str = ""


def managed(labels: Labels, options: AgentOptions) -> bool:
    """Whether this cluster's agents enforce policy on the identity: its pods, health, init and ingress endpoints, and the
    host with the host firewall on (semantics 12, 13)."""
    own = entities(labels)
    if own:
        return bool(own & _MANAGED) or (Entity.HOST in own and options.host_firewall)
    return labels.get(CLUSTER_KEY, "k8s") in (None, options.cluster_name)


class RuleIndex:
    """All rules, found by the rarest label that their subject must have, so that a subject meets few that do not select it."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        kept: dict[PolicyRef, Policy] = {policy.ref: policy for policy in policies}
        self.rules = [(ref, rule) for ref, policy in sorted(kept.items()) for rule in policy.rules]
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for _, rule in self.rules:
            for handle in handles(rule.subject):
                for each in handle:
                    counts[each] += 1
        self._by_label: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._others: list[int] = []
        for number, (_, rule) in enumerate(self.rules):
            needed = handles(rule.subject)
            if not needed:
                self._others.append(number)
                continue
            best = min(needed, key=lambda handle: sum(counts[each] for each in handle))
            for each in best:
                self._by_label[each].append(number)

    def selecting(self, labels: Labels, *, host_labels: Labels = Labels()) -> list[tuple[PolicyRef, Rule]]:
        """The rules whose subject is the identity, in canonical order."""
        host = Entity.HOST in entities(labels)
        own = Labels.of([*labels, *host_labels]) if host else labels
        candidates = set(self._others)
        for label in own:
            candidates.update(self._by_label.get((label.key, label.value), ()))
        found = []
        for number in sorted(candidates):
            ref, rule = self.rules[number]
            if rule.host == host and rule.subject.matches(own):
                found.append((ref, rule))
        return found


def handles(selector: LabelSelector) -> list[list[tuple[str, str]]]:
    """Per requirement that needs one of some values: these (key, value) pairs."""
    return [
        [(each.key, value) for value in each.values]
        for each in selector.requirements
        if not each.operator.negated and not each.operator.exists
    ]


def entries_of(
    rules: Sequence[tuple[PolicyRef, Rule]], labels: Labels, options: AgentOptions, *, ingress: bool
) -> SubjectRules:
    """The entries for one direction of a subject. Defaults are entries too: lookup knows no special case."""
    enforced_by = tuple(
        dict.fromkeys(ref for ref, rule in rules if (rule.deny_ingress if ingress else rule.deny_egress))
    )
    initialising = Entity.INIT in entities(labels)
    enforced = bool(enforced_by) or options.enforcement == "always" or initialising
    if options.enforcement == "never":
        return SubjectRules((_default(DEFAULT_ALLOW, Action.ALLOW),), False, ())
    entries, items = [], []
    selected = False
    for ref, rule in rules:
        asks = rule.deny_ingress if ingress else rule.deny_egress
        selected = selected or asks
        for item in rule.items:
            if item.section.is_ingress != ingress:
                continue
            selected = True
            l7 = item.l7
            if l7 is not None and not asks and not enforced:
                l7 = OPEN
            origin = Origin(*ref, rule.spec, item.section.value, item.index)
            entries.append(PolicyEntry(item.section.action, item.peers, item.ports, l7, origin))
            items.append((origin, item))
    host = Entity.HOST in entities(labels)
    if ingress and selected and options.allow_localhost == "always" and not host:
        entries.append(PolicyEntry(Action.ALLOW, (EntitySelector(Entity.HOST),), None, None, ALLOW_LOCALHOST))
    default = _default(_DEFAULT_DENY[ingress], Action.DENY) if enforced else _default(DEFAULT_ALLOW, Action.ALLOW)
    return SubjectRules((*entries, default), enforced, enforced_by, _conflict(items))


OPEN = L7Rules(other=True)
"""L7 rules that redirect to the proxy and let every request pass."""


def _default(origin: Origin, action: Action) -> PolicyEntry:
    return PolicyEntry(action, None, None, None, origin, default=True)


def _conflict(items: Iterable[tuple[Origin, Item]]) -> str:
    """semantics 49: HTTP and DNS rules for one peer selector on one TCP port make the agent refuse the endpoint's whole policy
    (pkg/policy/l4.go, `PerSelectorPolicy`); for different selectors they stand side by side."""
    met: dict[tuple[PeerSelector, int, int, str], dict[str, Origin]] = defaultdict(dict)
    for origin, item in items:
        kind = "" if item.l7 is None else "HTTP" if item.l7.http else "DNS" if item.l7.dns else ""
        if not kind:
            continue
        for selector, spec in product(_EVERYBODY if item.peers is None else item.peers, item.ports or ()):
            if Protocol.TCP in spec.protocols:
                met[selector, spec.first, spec.last, spec.name].setdefault(kind, origin)
    for found in met.values():
        if len(found) > 1:
            one, other = (f"{kind} ({origin})" for kind, origin in sorted(found.items()))
            return f"{one} and {other} rules for one peer on one port: the agent cannot compute this policy"
    return ""


_EVERYBODY = (EntitySelector(Entity.ALL),)
