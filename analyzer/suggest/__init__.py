"""Suggestions: what would allow an edge that policies deny, and which of their rules almost do."""

from __future__ import annotations

from analyzer.suggest.adviser import Advice, Adviser
from analyzer.suggest.misses import Miss

__all__ = ["Advice", "Adviser", "Miss"]
