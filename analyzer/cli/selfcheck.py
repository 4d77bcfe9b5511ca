"""The self-check of `recommend`: the engine about what is to be written, told on standard error and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.manifests import Document
    from analyzer.model.edge import Edge
    from analyzer.model.inventory import Inventory
    from analyzer.policy import Policy
    from analyzer.recommend import Proposal
    from analyzer.report.model import Report
    from analyzer.verify import Check

__all__ = ["checked", "with_check"]


def checked(
    proposal: Proposal,
    written: Sequence[Document],
    edges: Sequence[Edge],
    inventory: Inventory,
    existing: Sequence[Policy],
) -> Check:
    """Ask the engine about the documents that are to be written, beside `existing`, and tell on standard error what it says."""
    from analyzer.cli.output import show
    from analyzer.report.model import Report
    from analyzer.report.verify import check_sections
    from analyzer.verify import check_proposal

    made = check_proposal(proposal, edges, inventory, existing, written)
    show(Report("check", "", check_sections(made)), err=True)
    return made


def with_check(report: Report, check: Check) -> Report:
    """The full report with what the check found before its last section."""
    from analyzer.report.verify import check_sections

    return report.before_last(check_sections(check, full=True))
