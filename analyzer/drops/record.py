"""Causes that the record tells by itself, and what it means when the record and the engine disagree."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.proxy import dns_query, http_request
from analyzer.drops.reasons import DropClass
from analyzer.drops.scene import Scene
from analyzer.drops.sides import deny_origins
from analyzer.model.flow import DropReason
from analyzer.policy import Outcome
from analyzer.simulate import Result

__all__ = ["by_class", "by_record", "disagreement"]

_KINDS = {
    DropClass.INFRASTRUCTURE: CauseKind.NETWORK,
    DropClass.UNKNOWN: CauseKind.NETWORK,
    DropClass.TRANSIENT: CauseKind.TRANSIENT,
    DropClass.AUTHENTICATION: CauseKind.AUTHENTICATION,
    DropClass.LB_SOURCE_RANGE: CauseKind.SOURCE_RANGE,
}


def by_class(scene: Scene) -> Iterator[Cause]:
    """What the reason means, where that is all there is to say; and identities that came late."""
    row, kind = scene.drops.key.row, scene.drops.kind
    if kind is DropClass.TRANSIENT and row.kind is DropClass.DEFAULT_DENY:
        words = "a pod without an identity yet (reserved:init) is in default deny until its labels are known: that passes by itself"
        yield Cause(
            CauseKind.TRANSIENT, words, ("It needs a look only if it goes on: the agent does not reach the API server",)
        )
    elif kind in _KINDS:
        yield Cause(_KINDS[kind], f"{row.meaning} ({row.name})", ())
    elif kind is DropClass.DEFAULT_DENY and scene.drops.stale * 2 > scene.drops.events:
        words = (
            "one side has a pod's name but the identity of the world: its identity was not known yet on the node, or its address "
            "was masqueraded"
        )
        yield Cause(CauseKind.LATE_IDENTITY, words, ("Common right after a pod starts; no rule is missing for it",))


def by_record(scene: Scene) -> Iterator[Cause]:
    """What is left to say without policies, where the engine does not know, and where it would let it pass."""
    decision = scene.decision
    if not scene.by_default or scene.drops.key.reply:
        if scene.drops.key.l7 and scene.decision is not None and _proxy_passes(scene):
            yield Cause(CauseKind.CHANGED, "the policies given would let the request pass", _why_not(scene))
        return
    if decision is None:
        side = f"{scene.section} of {scene.titles[0]}" if scene.side else "one of the two sides"
        yield Cause(CauseKind.NOT_ASKED, f"{side} is in default deny, and no rule lets it pass")
    elif decision.result is Result.UNDECIDED:
        yield Cause(CauseKind.UNDECIDED, f"what is known here does not tell: {decision.reason}")
    elif decision.result is Result.ALLOWED:
        yield Cause(CauseKind.CHANGED, _passing(scene), _why_not(scene))


def _passing(scene: Scene) -> str:
    if scene.decision is not None and not scene.decision.selected_by:
        return f"none of the policies given selects {scene.titles[0]} for {scene.section}: the one that denied it is missing"
    return "the policies given would let it pass"


def _proxy_passes(scene: Scene) -> bool:
    answer = scene.ask_proxy(http_request(scene), dns_query(scene))
    return answer is not None and (answer.l7 is True or answer.outcome is Outcome.ALLOWED)


def _why_not(scene: Scene) -> tuple[str, ...]:
    """Why the cluster may have decided otherwise than the engine, the likely first."""
    found = []
    later = scene.last_forwarded()
    if scene.audit:
        pass  # In audit mode, all of it is let pass.
    elif later > scene.drops.last:
        found.append("Such traffic was let pass after the last drop: the policies or labels were changed in between")
    elif 0 < later < scene.drops.first:
        found.append("Such traffic was let pass before the first drop: the policies or labels were changed in between")
    if scene.drops.stale:
        found.append("In some of the records the identity of a pod was not known yet")
    found.append("The policies given may not be those in force when it was dropped (newer, or of another cluster)")
    found.append("The labels of a pod may have changed since, or its endpoint had not taken up a policy yet")
    return tuple(found)


def disagreement(scene: Scene) -> str:
    """What the engine says otherwise than the record, and why that can be; "" where they agree or nobody was asked."""
    decision, reason = scene.decision, scene.drops.key.reason
    if decision is None or scene.drops.key.reply or not (scene.by_default or reason == DropReason.POLICY_DENY):
        return ""
    said = "in audit mode no rule let it pass" if scene.audit else "no rule let it pass"
    said = "a deny rule matched" if reason == DropReason.POLICY_DENY else said
    if decision.result is Result.ALLOWED:
        return f"The record says that {said}; {_passing(scene)}. {'. '.join(_why_not(scene))}."
    explicit = bool(deny_origins(scene))
    if decision.result is Result.DENIED and not scene.audit and explicit != (reason == DropReason.POLICY_DENY):
        mine = "a deny rule matches" if explicit else "no rule matches (default deny)"
        return f"The record says that {said}, and by the policies given {mine}: they may not be those that were in force then."
    return ""
