"""Verifying from above: does a recommendation allow what was seen, on both sides, and nothing idle, and is it valid?"""

from analyzer.verify.check import check
from analyzer.verify.proposal import check_proposal
from analyzer.verify.result import Check, HalfOpen, Unsound

__all__ = ["Check", "HalfOpen", "Unsound", "check", "check_proposal"]
