"""Findings: drops with their causes and fixes, those of one cause together - what `drops` is for, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.documents import Documents
from analyzer.drops.drop import Drops
from analyzer.drops.explain import causes
from analyzer.drops.fix import Fix, Fixer
from analyzer.drops.reasons import DropClass, Weight
from analyzer.drops.record import disagreement
from analyzer.drops.remedy import FIXABLE, HINTS
from analyzer.drops.scene import Facts, Scene
from analyzer.model.address import UNKNOWN
from analyzer.model.edge import Endpoint
from analyzer.policy import compile_policies
from analyzer.policy.resolve import RuleIndex

__all__ = ["MAX_EXAMINED", "Finding", "findings"]

MAX_EXAMINED = 500
"""Drops that are looked into, the most frequent first; the others are listed without a cause."""
MAX_FIXED = 100
"""Causes that a change is worked out for, the most frequent first."""
_NOT_FIXED = Fix(
    obstacle=f"changes are worked out for the {MAX_FIXED} most frequent causes: choose with a filter, or mend those first"
)
SCAN = 5
"""From so many ports between the same ends on, with the same cause, they are one finding: a scan, or a port range."""
_SCANNED = frozenset(
    {CauseKind.NO_RULE, CauseKind.ONE_SIDE, CauseKind.NOT_ASKED, CauseKind.CHANGED, CauseKind.EXPLICIT_DENY}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Drops that have one cause; `scenes` begin with the most frequent. `causes` are ranked; empty where nobody looked."""

    scenes: tuple[Scene, ...]
    causes: tuple[Cause, ...] = ()
    disagreement: str = ""
    fix: Fix | None = None

    @property
    def scene(self) -> Scene:
        return self.scenes[0]

    @property
    def all_drops(self) -> tuple[Drops, ...]:
        return tuple(scene.drops for scene in self.scenes)

    @property
    def kind(self) -> DropClass:
        return self.scene.drops.kind

    @property
    def weight(self) -> Weight:
        return self.scene.drops.key.weight

    @property
    def audit(self) -> bool:
        return self.scene.audit

    @property
    def number(self) -> int:
        """How many drops."""
        return sum(each.drops for each in self.all_drops)

    @property
    def events(self) -> int:
        return sum(each.events for each in self.all_drops)

    @property
    def first(self) -> int:
        return min(each.first for each in self.all_drops)

    @property
    def last(self) -> int:
        return max(each.last for each in self.all_drops)

    @property
    def step(self) -> str:
        """The next thing to do, in a sentence."""
        cause = self.causes[0].kind if self.causes else None
        if self.fix is not None and self.fix.patches:
            beside = HINTS.get(cause, "") if cause else ""
            return f"Change {', '.join(self.fix.places)}. {beside}".strip()
        if self.fix is not None:
            return f"{self.fix.obstacle[0].upper()}{self.fix.obstacle[1:]}."
        hint = HINTS.get(cause, "") if cause else ""
        row = self.scene.drops.key.row.step
        return hint or f"{row[0].upper()}{row[1:]}."


def findings(
    drops: Sequence[Drops], facts: Facts, documents: Documents | None = None, *, fixes: bool = True
) -> tuple[Finding, ...]:
    """What `drops` (the most frequent first) come to; policies first, then the network, then what passes, each by number.

    Without `documents` the record alone is told, and there are no fixes. `fixes` may be left out, as they take the most time.
    """
    policies = None if documents is None else compile_policies(documents.policies.values(), facts.inventory)
    index = None if documents is None else RuleIndex(documents.policies.values())
    groups: dict[tuple[object, ...], list[Scene]] = {}
    told: dict[tuple[object, ...], tuple[tuple[Cause, ...], str]] = {}
    for number, each in enumerate(drops):
        examined = number < MAX_EXAMINED
        scene = Scene(each, facts, policies if examined else None, index if examined else None)
        found = causes(scene) if examined else ()
        said = disagreement(scene) if examined else ""
        key = _key(scene, found)
        groups.setdefault(key, []).append(scene)
        told.setdefault(key, (found, said))
    fixer = None if documents is None or not fixes else Fixer(documents, facts.inventory, facts.recorded.values())
    made = []
    for number, (key, scenes) in enumerate(_scans(groups, told)):
        ranked, said = told[key]
        fix = None
        if fixer is not None and ranked:
            many = number >= MAX_FIXED and ranked[0].kind in FIXABLE
            fix = _NOT_FIXED if many else fixer.fix(scenes, ranked[0])
        made.append(Finding(tuple(scenes), ranked, said, fix))
    return tuple(sorted(made, key=_order))


def _key(scene: Scene, found: tuple[Cause, ...]) -> tuple[object, ...]:
    """Drops with the same key are one finding: addresses, requests, pods and rollouts do not tell them apart, nor does it
    matter who talked to whom where a node is at fault."""
    key, cause = scene.drops.key, found[0] if found else None
    ends: tuple[object, ...] = tuple(map(_whom, (scene.edge.source, scene.edge.destination), scene.client_and_server))
    if key.weight is not Weight.POLICY:
        ends = () if key.row.of_a_node else ends[1:]
        return key.kind, key.reason, ends, key.weight, key.audit
    return (
        key.cluster, ends, key.l4, scene.side, key.reason, key.audit, key.l7, key.reply, cause and cause.kind,
        cause and cause.rule,
    )  # fmt: skip


def _whom(end: Endpoint, name: str) -> object:
    return end._replace(address=UNKNOWN) if end.address else name


def _scans(
    groups: dict[tuple[object, ...], list[Scene]], told: dict[tuple[object, ...], tuple[tuple[Cause, ...], str]]
) -> Iterable[tuple[tuple[object, ...], list[Scene]]]:
    """The groups, those on many ports of the same ends together, under the key of the first."""
    same: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    for key in groups:
        ranked, _ = told[key]
        scanned = bool(ranked) and ranked[0].kind in _SCANNED
        same.setdefault((*key[:2], *key[3:]) if scanned else key, []).append(key)
    for keys in same.values():
        if len(keys) >= SCAN:
            yield keys[0], sorted((scene for key in keys for scene in groups[key]), key=_by_number)
        else:
            yield from ((key, sorted(groups[key], key=_by_number)) for key in keys)


def _by_number(scene: Scene) -> tuple[int, object]:
    return -scene.drops.drops, scene.drops.key


_WEIGHTS = {weight: number for number, weight in enumerate(Weight)}


def _order(finding: Finding) -> tuple[bool, int, int, object]:
    return finding.audit, _WEIGHTS[finding.weight], -finding.number, finding.scene.drops.key
