"""The pass that tells which ends existing policies close where nobody asked for policies: one end alone opens no connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analyzer.recommend.draft import Claim, Draft, Options, Reason, Refusal
from analyzer.recommend.missing import Asked
from analyzer.recommend.peers import peers

__all__ = ["elsewhere"]


def elsewhere(draft: Draft) -> Draft:
    """Refuse what existing policies deny at ends that no policy is written for: in system namespaces, in namespaces and
    directions that were left out. The record is older than these policies, or it comes from somewhere else."""
    if not draft.options.existing:
        return draft
    whole = peers(replace(draft, claims=(), refused=(), options=Options(system=frozenset())))
    asked = Asked(whole, draft.options.existing)
    refused = tuple(_refused(asked, (claim for claim in whole.claims if not _is_asked_for(claim, draft.options))))
    return replace(draft, refused=(*draft.refused, *refused))


def _is_asked_for(claim: Claim, options: Options) -> bool:
    return claim.direction in options.settings(claim.subject.namespace).directions


def _refused(asked: Asked, claims: Iterator[Claim]) -> Iterator[Refusal]:
    seen = set()
    for claim in claims:
        closing = asked.closing(claim)
        for edge in claim.edges if closing else ():
            if (edge.key, claim.direction) not in seen:
                seen.add((edge.key, claim.direction))
                yield Refusal(
                    edge, Reason.CLOSED, claim.direction, f"{claim.subject} is left alone, and {closing} closes it"
                )
