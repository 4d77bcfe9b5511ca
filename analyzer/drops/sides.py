"""Causes about sides: replies that belong to no connection, rules on one side only, and no rule at all."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.scene import Scene
from analyzer.model.l4 import Protocol
from analyzer.policy import Origin
from analyzer.policy.model import Action
from analyzer.simulate import Result

__all__ = ["deny_rule", "no_rule", "replies"]

SHOWN = 3
_OTHER = {"egress": "ingress", "ingress": "egress"}


def replies(scene: Scene) -> Iterator[Cause]:
    """Packets from server to client that belong to no tracked connection; policies never have to allow replies."""
    if not scene.drops.key.reply or not scene.by_default:
        return
    server, client = (scene.edge.destination, scene.edge.source)
    names = dict(zip((scene.subject, scene.peer), scene.titles, strict=True))
    words = (
        f"answers of {names.get(server, 'the server')} to {names.get(client, 'the client')} belong to no connection that is "
        "tracked: replies pass without a rule only while their connection is known"
    )
    evidence = [
        "The packets and their answers may take different ways (asymmetric routes, a second interface, direct server return)"
    ]
    if scene.edge.l4.protocol is Protocol.TCP:
        evidence.append(
            "The connection may have been idle for longer than it is tracked, or the agent or its node was restarted"
        )
    else:
        evidence.append("The answer may have come later than the connection is tracked (a minute for UDP)")
    yield Cause(CauseKind.REPLY, words, tuple(evidence))


def deny_rule(scene: Scene) -> Iterator[Cause]:
    """The deny rule, as the cluster and the engine name it. No allow rule outranks it."""
    named = [str(Origin(*ref).policy) for ref in scene.drops.denied_by]
    mine = [str(each) for each in deny_origins(scene)]
    if scene.drops.key.reason != _EXPLICIT and not (scene.by_default and mine):
        return
    by = ", ".join((mine or named)[:SHOWN])
    words = f"{by} denies it" if by else "a deny rule denies it, which the record does not name"
    evidence = [f"The cluster names {', '.join(named[:SHOWN])}"] if named and mine else []
    yield Cause(CauseKind.EXPLICIT_DENY, words, (*evidence, "No allow rule outranks a deny: narrow or remove it"))


_EXPLICIT = 181


def deny_origins(scene: Scene) -> list[Origin]:
    """The deny rules that cover the drop, by the engine."""
    decision = scene.decision
    if decision is None or decision.result is not Result.DENIED:
        return []
    sections = {"egress": "egressDeny", "ingress": "ingressDeny"}
    found = []
    for ref, rule in scene.selecting:
        for item in rule.items:
            origin = Origin(*ref, rule.spec, item.section.value, item.index)
            here = item.section.action is Action.DENY and item.section.value == sections[scene.section]
            if here and str(origin) in decision.rules and origin not in found:
                found.append(origin)
    return found


def no_rule(scene: Scene) -> Iterator[Cause]:
    """What is left when no rule comes near: which policies select this side, and what the other side says."""
    decision, other = scene.decision, scene.other_decision
    if not scene.by_default or scene.drops.key.reply or decision is None or decision.result is not Result.DENIED:
        return
    if deny_origins(scene):
        return
    subject, peer = scene.titles
    listed = _listed(decision.selected_by)
    passes = f"call {peer}" if scene.section == "egress" else f"be called by {peer}"
    selected = (
        f"{listed} selects {subject} for {scene.section}"
        if listed
        else f"{subject} is under enforcement for {scene.section}"
    )
    if other is not None and other.result is Result.ALLOWED and other.selected_by and other.allowing:
        words = (
            f"{_OTHER[scene.section]} of {peer} is open for it ({_listed(other.allowing)}), but both sides have to be: "
            f"no rule lets {subject} {passes} on {scene.edge.l4}"
        )
        yield Cause(CauseKind.ONE_SIDE, words, (selected,))
        return
    words = f"{selected}, and no rule lets it {passes} on {scene.edge.l4}"
    evidence = []
    if other is not None and other.result is Result.DENIED:
        evidence.append(f"{_OTHER[scene.section].capitalize()} of {peer} would be denied, too: {other.reason}")
    yield Cause(CauseKind.NO_RULE, words, tuple(evidence))


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
