"""Explaining: all families of causes asked about a scene, and what they say put in order."""

from __future__ import annotations

from analyzer.drops.cause import Cause, CauseKind, Family
from analyzer.drops.names import denied_lookups, rules_on_names
from analyzer.drops.peers import other_cidr, other_entity, other_labels, other_subject
from analyzer.drops.ports import other_port
from analyzer.drops.proxy import refused
from analyzer.drops.record import by_class, by_record
from analyzer.drops.scene import Scene
from analyzer.drops.sides import deny_rule, no_rule, replies
from analyzer.simulate import Result

__all__ = ["FAMILIES", "NEAR", "causes"]

ALWAYS: tuple[Family, ...] = (by_class, deny_rule, replies, refused, by_record)
"""Families that need no rule to be near."""

NEAR: tuple[Family, ...] = (rules_on_names, other_port, other_entity, other_cidr, other_labels, other_subject)
"""Families about rules that almost let it pass; they make sense only where the engine denies it, or cannot tell."""

FAMILIES: tuple[Family, ...] = (*ALWAYS, denied_lookups, *NEAR, no_rule)

_ORDER = {kind: number for number, kind in enumerate(CauseKind)}
_FINAL = frozenset(
    {CauseKind.NETWORK, CauseKind.TRANSIENT, CauseKind.EXPLICIT_DENY, CauseKind.AUTHENTICATION, CauseKind.SOURCE_RANGE,
     CauseKind.REPLY}
)  # fmt: skip
"""What explains a drop alone, whatever else there is to say."""
MOST = 6
"""Causes that are kept per drop."""


def causes(scene: Scene) -> tuple[Cause, ...]:
    """The causes of a drop, the one that is believed most first. Never empty for a drop by a policy."""
    found = [cause for family in ALWAYS for cause in family(scene)]
    if not any(cause.kind in _FINAL for cause in found) and scene.by_default:
        decision = scene.decision
        found += denied_lookups(scene)
        if decision is not None and decision.result is not Result.ALLOWED:
            found += [cause for family in NEAR for cause in family(scene)]
            found += no_rule(scene)
        elif decision is not None:
            found += rules_on_names(scene)
    return tuple(sorted(dict.fromkeys(found), key=_rank)[:MOST])


def _rank(cause: Cause) -> tuple[int, int, str]:
    return _ORDER[cause.kind], cause.distance, cause.words
