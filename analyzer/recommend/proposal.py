"""Proposal: what a recommendation consists of, and the one function that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.manifests import Document
from analyzer.model.edge import Edge
from analyzer.model.inventory import Inventory
from analyzer.recommend.draft import Draft, Note, Options, PolicyDraft, Refusal, Subject
from analyzer.recommend.passes import PASSES
from analyzer.recommend.render import manifest, policy, visibility_manifest

__all__ = ["Proposal", "recommend"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Policies with the evidence of each rule, and everything that did not become one.

    `refused` names each edge, or one end of it, that no rule allows, with the reason. `always_allowed` are edges from a pod's
    own host. `subjects` are all workloads that were found, those without a policy included. `visibility` are policies that
    allow nothing new and would show DNS names and requests that nobody could see.
    """

    policies: tuple[PolicyDraft, ...] = ()
    refused: tuple[Refusal, ...] = ()
    always_allowed: tuple[Edge, ...] = ()
    notes: tuple[Note, ...] = ()
    subjects: tuple[Subject, ...] = ()
    visibility: tuple[PolicyDraft, ...] = ()

    def documents(self) -> tuple[dict[str, Any], ...]:
        """The policies as plain values, in canonical order."""
        return tuple(policy(draft) for draft in self.policies)

    def manifests(self) -> tuple[Document, ...]:
        """The policies as documents with a relative path and a comment that sums up the evidence, in the same order."""
        return tuple(manifest(draft) for draft in self.policies)

    def visibility_manifests(self) -> tuple[Document, ...]:
        """The policies that show what nobody could see, as documents with a path of their own."""
        return tuple(visibility_manifest(draft) for draft in self.visibility)


def recommend(edges: Sequence[Edge], inventory: Inventory | None = None, options: Options | None = None) -> Proposal:
    """Least-privilege policies for the accepted ones among `edges`: per workload and port, each direction on its own.

    The order of `edges` does not matter. `inventory` adds silent pods to tell workloads from, and addresses that are inside.
    """
    ordered = tuple(sorted(edges, key=lambda edge: edge.key))
    draft = Draft(ordered, inventory or Inventory(), options or Options())
    for each in PASSES:
        draft = each(draft)
    return Proposal(
        draft.policies,
        tuple(sorted(draft.refused, key=lambda refusal: (refusal.edge.key, refusal.direction or 0))),
        draft.always_allowed,
        tuple(sorted(set(draft.notes))),
        tuple(draft.subjects.values()),
        draft.visibility,
    )
