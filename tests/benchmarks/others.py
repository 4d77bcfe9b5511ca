"""Another tool on the same file: hubble-audit2policy from PyPI, from file to policies, whole processes by their CPU seconds.

It has no step that ends at connections, so reading alone is compared with all that it does; our commands with the same.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from analyzer.demo.lines import lines
from tests.benchmarks.measure import scaled

__all__ = ["run"]

TOOL = "hubble-audit2policy"
LINES = 400_000
"""As many lines as a busy node writes in an hour or two: starting an interpreter should not be what is measured."""
READING = """
import sys
from analyzer.cli.main import collect_rarely
from analyzer.pipeline import read
from analyzer.sources.jsonpb import FileSource
collect_rarely()
read([FileSource(sys.argv[1:])])
"""


def run() -> None:
    """Print the figures; without the package registry, say so."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "flows.json"
        with path.open("wb") as file:
            file.writelines(lines(1, scaled(LINES)))
        binary = folder / "venv" / "bin"
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, capture_output=True)
            subprocess.run([str(binary / "pip"), "install", "--quiet", TOOL], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            print(f"  {TOOL} could not be installed: {error.stderr.decode()[-200:]}")
            return
        ours = [sys.executable, "-m", "analyzer"]
        commands = {
            "file to edge table": [sys.executable, "-c", READING, str(path)],
            "hubble-analyzer graph": [*ours, "graph", str(path), "-o", "json"],
            "hubble-analyzer recommend": [*ours, "recommend", str(path), "-o", "yaml"],
            f"{TOOL} --dry-run": [str(binary / TOOL), "--dry-run", "--no-enrich", str(path)],
        }
        best: dict[str, float] = {}
        for _ in range(2):
            for label, command in commands.items():
                seconds = _cpu(command)
                best[label] = min(best.get(label, seconds), seconds)
        slowest = best[f"{TOOL} --dry-run"]
        print(f"{scaled(LINES):,} lines, start of the interpreter included")
        for label, seconds in best.items():
            rate = scaled(LINES) / seconds
            print(
                f"  {label:<31} {seconds:6.2f} CPU-s, {rate:>9,.0f} flows per CPU-second, {slowest / seconds:5.2f} times {TOOL}"
            )


def _cpu(command: list[str]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return used() - before
