"""The pass that calls ports by the names that pods declare, where that is asked for and all pods agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analyzer.model.edge import Endpoint
from analyzer.model.flow import Direction
from analyzer.model.l4 import L4
from analyzer.policy.checks import is_port_name
from analyzer.recommend.draft import Draft, EndpointPeer, Purpose, RuleDraft, SubjectKey

__all__ = ["named"]

_Declared = Mapping[tuple[str, object], Sequence[Mapping[str, L4]]]


def named(draft: Draft) -> Draft:
    """Give rules the names of their ports: those that every pod of the server declares, for this very port.

    A named port follows the pods when its number changes. Where one pod of the server declares no ports, or another port of the
    name, the number stays: for that pod the name would allow nothing, or something else.
    """
    if not draft.options.named_ports:
        return draft
    declared = _declared(draft)
    return replace(draft, rules=tuple(replace(rule, names=_names(rule, draft, declared)) for rule in draft.rules))


def _declared(draft: Draft) -> _Declared:
    found: dict[tuple[str, object], list[Mapping[str, L4]]] = defaultdict(list)
    for each in draft.inventory.endpoints:
        found[each.namespace, each.labels].append(each.named_ports or {})
    return found


def _names(rule: RuleDraft, draft: Draft, declared: _Declared) -> tuple[tuple[L4, str], ...]:
    servers = {rule.subject} if rule.direction is Direction.INGRESS else _peers(rule)
    ends = [end for key in servers if key in draft.subjects for end in draft.subjects[key].identities]
    known = _agreed(ends, declared) if rule.purpose is Purpose.TRAFFIC and len(servers) == 1 else {}
    return tuple((l4, known[l4]) for l4 in rule.ports if isinstance(l4, L4) and l4 in known)


def _peers(rule: RuleDraft) -> set[SubjectKey]:
    """The workloads that are meant; a whole namespace is none."""
    return {peer.subject for peer in rule.peers if isinstance(peer, EndpointPeer) and peer.subject.name}


def _agreed(ends: Iterable[Endpoint], declared: _Declared) -> dict[L4, str]:
    """What all pods of these identities call their ports."""
    common: set[tuple[str, L4]] | None = None
    for end in ends:
        pods = declared.get((end.namespace, end.labels), ())
        for ports in pods or ({},):
            own = {(name, l4) for name, l4 in ports.items() if is_port_name(name)}
            common = own if common is None else common & own
    return {l4: name for name, l4 in sorted(common or (), reverse=True)}
