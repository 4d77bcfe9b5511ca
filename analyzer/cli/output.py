"""Reports on standard output or error, in the width and with the colours of whoever reads them; and the exit code."""

from __future__ import annotations

import os
import shutil
import sys

from click.exceptions import Exit

from analyzer.report import json, markdown, terminal
from analyzer.report.model import Report

__all__ = ["INTERRUPTED", "finish", "show"]

INTERRUPTED = 130
NARROWEST, NARRATION = 60, 120


def show(report: Report, form: str = "table", *, err: bool = False) -> None:
    """Print a report as ``table``, ``wide``, ``json`` or ``markdown``. Colour only on a terminal, and not with NO_COLOR."""
    stream = sys.stderr if err else sys.stdout
    if form == "json":
        text = json.render(report)
    elif form == "markdown":
        text = markdown.render(report)
    else:
        seen = stream.isatty()
        piped = NARRATION if err else terminal.PIPE_WIDTH
        width = max(shutil.get_terminal_size().columns, NARROWEST) if seen else piped
        text = terminal.render(report, width=width, color=seen and not os.environ.get("NO_COLOR"), wide=form == "wide")
    stream.write(text)
    stream.flush()


def finish(interrupted: bool, findings: bool = False) -> None:
    """End the command: 130 after Ctrl-C, 1 if there is something to look at."""
    code = INTERRUPTED if interrupted else int(findings)
    if code:
        raise Exit(code)
