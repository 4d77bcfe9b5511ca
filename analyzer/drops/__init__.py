"""Drops: why traffic was dropped, what would help, and proof that it would."""

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.chase import chase
from analyzer.drops.findings import Finding, findings
from analyzer.drops.fix import Fix
from analyzer.drops.reasons import REASONS, DropClass, reason
from analyzer.drops.window import DropWindow

__all__ = ["REASONS", "Cause", "CauseKind", "DropClass", "DropWindow", "Finding", "Fix", "chase", "findings", "reason"]
