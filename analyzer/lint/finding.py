"""Finding: one thing that is wrong or dangerous in a policy, where it is, who refuses it, and the next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Finding", "Linted", "Severity", "Trap"]


class Severity(StrEnum):
    """An ERROR is a policy that is not taken as it stands, a WARNING one that does something else than it seems to."""

    ERROR = "error"
    WARNING = "warning"


class Trap(NamedTuple):
    """What a check found in one document. `rule` names the check, `field` the place, `hint` says what to do instead."""

    rule: str
    field: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`document` counts the objects of `path` from 0, `line` is that of the field, or of the object, as far as known (0 if not).

    `refused_by` is ``schema`` or ``agent`` for an ERROR, and empty for a WARNING.
    """

    path: str
    document: int
    line: int
    policy: str
    field: str
    severity: Severity
    rule: str
    refused_by: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Linted:
    """All findings in the order of the documents; how many policies were looked at, and which other kinds were passed over."""

    findings: tuple[Finding, ...] = ()
    policies: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def without(self, rules: Iterable[str]) -> Linted:
        """The same without the findings of these rules."""
        left_out = frozenset(rules)
        return replace(self, findings=tuple(each for each in self.findings if each.rule not in left_out))
