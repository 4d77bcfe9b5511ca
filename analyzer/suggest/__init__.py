"""Suggestions: what would allow an edge that policies deny, which of their rules almost do, and whom people mean by a name."""

from __future__ import annotations

from analyzer.suggest.adviser import Advice, Adviser
from analyzer.suggest.ends import End, Ends
from analyzer.suggest.misses import Miss

__all__ = ["Advice", "Adviser", "End", "Ends", "Miss"]
