"""Recommendation: accepted edges to least-privilege policies, through the visible tuple of pure passes in `passes`."""

from __future__ import annotations

from analyzer.recommend.draft import (
    L7,
    Note,
    Options,
    PolicyDraft,
    Purpose,
    Reason,
    Refusal,
    RuleDraft,
    Settings,
    Subject,
    Topic,
)
from analyzer.recommend.passes import PASSES
from analyzer.recommend.proposal import Proposal, recommend

__all__ = [
    "L7",
    "PASSES",
    "Note",
    "Options",
    "PolicyDraft",
    "Proposal",
    "Purpose",
    "Reason",
    "Refusal",
    "RuleDraft",
    "Settings",
    "Subject",
    "Topic",
    "recommend",
]
