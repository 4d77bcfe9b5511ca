"""A Report as JSON: every table with its machine names; for scripts."""

from __future__ import annotations

import json

from analyzer.report.model import Report, as_data

__all__ = ["render"]


def render(report: Report) -> str:
    """One JSON object with a ``schema`` field, ASCII only, two-space indented, ending in a newline."""
    return json.dumps(as_data(report), indent=2, ensure_ascii=True) + "\n"
