"""What the baseline opens although existing policies close it: closing nothing is not opening nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analyzer.baseline.cautions import Caution, Topic
from analyzer.baseline.roles import Roles
from analyzer.model.edge import Endpoint
from analyzer.model.identity import Entity, reserved
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.perspective import policy_labels
from analyzer.policy import Outcome, Peer, Policy, PolicySet, Traffic, compile_policies
from analyzer.recommend.draft import Draft, SubjectKey
from analyzer.recommend.system import is_system

__all__ = ["opened"]

_INTERNET = Peer(reserved(Entity.WORLD.value), ip="198.18.0.1")
"""An address for benchmarks (RFC 2544): nobody's policy is about it."""
_UNUSUAL = L4(Protocol.TCP, 1)
_SHOWN = 5


def opened(
    draft: Draft, roles: Roles, existing: Sequence[Policy], inventory: Inventory, cluster: str, system: frozenset[str]
) -> Iterator[Caution]:
    """Cautions about gateways that not everybody may reach now, and about workloads that monitoring may not reach now."""
    if not existing:
        return
    local = replace(inventory, options=replace(inventory.options, cluster_name=cluster))
    compiled = compile_policies(existing, local)
    for key, l4s in roles.gateways.items():
        for closing in sorted(
            {_closing(compiled, _INTERNET, near, l4) for near in _pods(draft, key) for l4 in l4s} - {""}
        ):
            yield Caution(Topic.OPENS, str(key), f"all of the internet, which {closing} closes now")
    shut: dict[str, set[SubjectKey]] = defaultdict(set)
    watchers = [_peer(end) for key in roles.monitoring for end in _pods(draft, key)[:1]]
    for key in sorted(draft.subjects):
        if key.cluster == cluster and not is_system(key.namespace, system):
            for watcher in watchers:
                for near in _pods(draft, key):
                    shut[_closing(compiled, watcher, near, _UNUSUAL)].add(key)
    for closing, keys in sorted(shut.items()):
        if closing:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            where = ", ".join(map(str, sorted(keys)[:_SHOWN])) + more
            yield Caution(Topic.OPENS, where, f"every port to monitoring, which {closing} closes now")


def _pods(draft: Draft, key: SubjectKey) -> tuple[Endpoint, ...]:
    return draft.subjects[key].identities


def _peer(end: Endpoint) -> Peer:
    return Peer(policy_labels(end), namespace=end.namespace)


def _closing(compiled: PolicySet, far: Peer, near: Endpoint, l4: L4) -> str:
    """The policies that deny this at the near end; empty if it passes."""
    decision = compiled.decide(Traffic(far, _peer(near), l4)).ingress
    return ", ".join(sorted(map(str, decision.selected_by))) if decision.outcome is Outcome.DENIED else ""
