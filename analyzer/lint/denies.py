"""Traps around deny rules and default deny: what is cut besides what is written."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.lint.finding import Trap
from analyzer.lint.selectors import keys, peer_selectors
from analyzer.lint.written import Context, Spec, Written, WrittenItem, listed, mapping
from analyzer.model.identity import Entity
from analyzer.policy.checks import ANY_PROTOCOLS
from analyzer.policy.model import Action, Item, PortSpec
from analyzer.policy.selector import EntitySelector

__all__ = ["default_deny_alone", "deny_all", "deny_switches"]

_SIDES = ("ingress", "egress")


def deny_all(written: Written, context: Context) -> Iterator[Trap]:
    """A deny rule for all there is: no allow rule can get past it (docs/semantics.md 41)."""
    for spec in written.specs:
        for item in spec.items():
            whom = _all_of(item, spec, written.ref.namespace) if item.section.action is Action.DENY else ""
            if whom:
                side = "ingress" if item.section.is_ingress else "egress"
                outranked = "outranks every allow rule, in whichever policy"
                message = f"denies {whom} on all ports and {outranked}{_own_allows(spec, side)}"
                hint = f"for default deny write `{side}: [{{}}]` instead: allow rules then add to it"
                yield Trap("deny-all", item.path, message, hint)


def _all_of(item: WrittenItem, spec: Spec, namespace: str) -> str:
    """Whom a rule covers, in words, if that is a whole world of peers on every port."""
    made = [each for each in spec.rule.items if (each.section, each.index) == (item.section, item.number)]
    peers = [peer for each in made if _every_port(each) for peer in each.peers or ()]
    entities = {each.entity for each in peers if isinstance(each, EntitySelector)}
    inside = bool(entities & {Entity.CLUSTER, Entity.CLUSTER_MESH})
    if Entity.ALL in entities or (inside and Entity.WORLD in entities):
        return "every peer"
    if inside:
        return "the whole cluster"
    if peers and any(not keys(selector) for selector, _ in peer_selectors(item)):
        return f"every pod of namespace {namespace}" if namespace else "every pod"
    return ""


def _every_port(item: Item) -> bool:
    return item.ports is None or any(each == PortSpec(ANY_PROTOCOLS) for each in item.ports)


def _own_allows(spec: Spec, side: str) -> str:
    number = len(listed(spec.body.get(side)))
    return f"; the {side} rules beside it do nothing" if number else ""


def deny_switches(written: Written, context: Context) -> Iterator[Trap]:
    """Deny rules alone switch default deny on: what they do not name is cut as well (docs/semantics.md 2)."""
    for spec in written.specs if not written.is_kubernetes else ():
        for side in _SIDES:
            denied = [item for item in spec.items() if item.section == f"{side}Deny"]
            asked = listed(spec.body.get(side)) or mapping(spec.body.get("enableDefaultDeny")).get(side) is not None
            # Where everybody is denied there is nothing left to switch.
            if denied and not asked and not any(_all_of(item, spec, written.ref.namespace) for item in denied):
                message = (
                    f"a deny rule alone switches default deny on: all other {side} of what it selects is dropped too"
                )
                hint = f"write `enableDefaultDeny: {{{side}: false}}` to deny only this, or `true` to say that all is meant"
                yield Trap("deny-only", f"{spec.path}.{side}Deny", message, hint)


def default_deny_alone(written: Written, context: Context) -> Iterator[Trap]:
    """enableDefaultDeny does nothing for a direction in which its own rule has no items (docs/semantics.md 8). A rule that says
    false for both only says that it closes nothing."""
    for spec in written.specs if not written.is_kubernetes else ():
        wanted = mapping(spec.body.get("enableDefaultDeny"))
        if all(wanted.get(side) is False for side in _SIDES):
            continue
        for side in _SIDES:
            if wanted.get(side) is None or listed(spec.body.get(side)) or listed(spec.body.get(f"{side}Deny")):
                continue
            message = f"has no effect: this rule has no {side} items"
            hint = f"write `{side}: [{{}}]` for default deny" if wanted.get(side) else "remove it"
            yield Trap("default-deny-alone", f"{spec.path}.enableDefaultDeny.{side}", message, hint)
