"""A Report as YAML: the same values as in JSON."""

from __future__ import annotations

from analyzer.manifests import dump
from analyzer.report.model import Report, as_data

__all__ = ["render"]


def render(report: Report) -> str:
    """One YAML document with a ``schema`` field."""
    return dump([as_data(report)])
