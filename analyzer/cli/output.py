"""Reports on standard output or error, in the width and with the colours of whoever reads them; and the exit code."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

from click.exceptions import Exit

from analyzer.cli.progress import unheard
from analyzer.report import json, markdown, terminal, yaml
from analyzer.report.model import Report

__all__ = ["INTERRUPTED", "called", "finish", "show"]

INTERRUPTED = 130
NARROWEST, NARRATION = 60, 120
_PLAIN = {"json": json.render, "yaml": yaml.render, "markdown": markdown.render}


def show(report: Report, form: str = "table", *, err: bool = False, narration: bool = False) -> None:
    """Print a report as ``table``, ``wide``, ``json``, ``yaml`` or ``markdown``. Colour only on a terminal, and not with NO_COLOR.

    What is meant to be read and not processed (`narration`, and all on standard error) is folded even where nobody looks.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    if form in _PLAIN:
        text = _PLAIN[form](report)
    else:
        seen = stream.isatty()
        piped = NARRATION if err or narration else terminal.PIPE_WIDTH
        width = max(shutil.get_terminal_size().columns, NARROWEST) if seen else piped
        text = terminal.render(report, width=width, color=seen and not os.environ.get("NO_COLOR"), wide=form == "wide")
    with unheard() if err else nullcontext():
        stream.write(text)
        stream.flush()


def finish(interrupted: bool, findings: bool = False) -> None:
    """End the command: 130 after Ctrl-C, 1 if there is something to look at."""
    code = INTERRUPTED if interrupted else int(findings)
    if code:
        raise Exit(code)


def called() -> str:
    """What the user has to type to run this command again."""
    if shutil.which("hubble-analyzer"):
        return "hubble-analyzer"
    script = Path(sys.argv[0])
    if script.name == "hubble-analyzer":
        return os.path.relpath(script) if script.resolve().is_relative_to(Path.cwd()) else str(script)
    return f"{os.path.basename(sys.executable)} -m analyzer"
