"""Linting: what the API server or the agent would refuse in policies, and what does something else than it seems to."""

from analyzer.lint.finding import Finding, Linted, Severity, Trap
from analyzer.lint.rules import RULES
from analyzer.lint.run import ACROSS, TRAPS, lint

__all__ = ["ACROSS", "RULES", "TRAPS", "Finding", "Linted", "Severity", "Trap", "lint"]
