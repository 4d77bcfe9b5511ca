"""Written: a policy that the agent takes, as it is written and as it is parsed; and what there is around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from analyzer.lint.cluster import Cluster
from analyzer.model.inventory import Inventory
from analyzer.policy import Policy, PolicyRef
from analyzer.policy.model import Rule, Section

__all__ = ["Context", "Spec", "Written", "WrittenItem", "listed", "mapping"]

Doc = Mapping[str, Any]


class WrittenItem(NamedTuple):
    """One element of a section: its place in it, and in the document."""

    section: Section
    number: int
    body: Doc
    path: str

    @property
    def prefix(self) -> str:
        """What the names of its peer lists begin with."""
        return "from" if self.section.is_ingress else "to"


@dataclass(frozen=True, slots=True)
class Spec:
    """``spec``, or an element of ``specs``, with the rule that was parsed from it."""

    body: Doc
    path: str
    rule: Rule

    def items(self) -> Iterator[WrittenItem]:
        """The elements of all sections; a null one is empty."""
        for section in Section:
            for index, item in enumerate(listed(self.body.get(section.value))):
                yield WrittenItem(section, index, mapping(item), f"{self.path}.{section.value}[{index}]")


@dataclass(frozen=True, slots=True)
class Written:
    """A document and its Policy; `folder` is where its file lies."""

    document: Doc
    policy: Policy
    folder: str = ""

    @property
    def ref(self) -> PolicyRef:
        return self.policy.ref

    @property
    def is_kubernetes(self) -> bool:
        return self.ref.kind == "NetworkPolicy"

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Every spec with its place, in the order of the policy's rules."""
        found = []
        for rule in self.policy.rules:
            body = self.document.get("spec") if rule.spec == 0 else listed(self.document.get("specs"))[rule.spec - 1]
            found.append(Spec(mapping(body), "spec" if rule.spec == 0 else f"specs[{rule.spec - 1}]", rule))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Context:
    """All policies that are looked at together, and what is known of the cluster: None when nothing is."""

    policies: Sequence[Written]
    inventory: Inventory | None = None
    cluster: Cluster | None = None


def listed(value: object) -> list[Any]:
    """The list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def mapping(value: object) -> Doc:
    """The object, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}
