"""Recommendation: accepted edges to least-privilege policies, through the visible tuple of pure passes in `passes`."""

from __future__ import annotations

from analyzer.recommend.draft import (
    L7,
    Note,
    Options,
    PeerDetail,
    PolicyDraft,
    Purpose,
    Reason,
    Refusal,
    RuleDraft,
    Settings,
    Subject,
    SubjectKey,
    Topic,
)
from analyzer.recommend.granularity import LEVELS, Level, PortDetail, at, level_of
from analyzer.recommend.passes import PASSES
from analyzer.recommend.proposal import Proposal, recommend

__all__ = [
    "L7",
    "LEVELS",
    "PASSES",
    "Level",
    "Note",
    "Options",
    "PeerDetail",
    "PolicyDraft",
    "PortDetail",
    "Proposal",
    "Purpose",
    "Reason",
    "Refusal",
    "RuleDraft",
    "Settings",
    "Subject",
    "SubjectKey",
    "Topic",
    "at",
    "level_of",
    "recommend",
]
