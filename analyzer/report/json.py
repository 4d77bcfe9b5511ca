"""A Report as JSON: every table with its machine names; for scripts."""

from __future__ import annotations

import json

from analyzer.report.model import Report, Section, Table

__all__ = ["render"]


def render(report: Report) -> str:
    """One JSON object with a ``schema`` field, ASCII only, two-space indented, ending in a newline."""
    body = {
        "schema": f"hubble-analyzer/{report.kind}/v1",
        "title": report.title,
        "sections": [_section(section) for section in report.shown],
    }
    return json.dumps(body, indent=2, ensure_ascii=True) + "\n"


def _section(section: Section) -> dict[str, object]:
    found: dict[str, object] = {"title": section.title}
    if section.notes:
        found["notes"] = list(section.notes)
    found.update({table.key: _rows(table) for table in section.tables})
    return found


def _rows(table: Table) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row.cells, strict=True)) for row in table.rows]
