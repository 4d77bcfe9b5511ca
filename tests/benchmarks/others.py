"""Another tool on the same file: hubble-audit2policy from PyPI, from file to policies, whole processes by their CPU seconds.

It has no step that ends at connections, so reading alone is compared with all that it does; our commands with the same.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from analyzer.demo.lines import lines
from tests.benchmarks.measure import scaled

__all__ = ["run"]

TOOL = "hubble-audit2policy"
LINES = (100_000, 1_000_000)
"""Of a short file, in which starting and lines met for the first time weigh most, and of a long one."""
READING = """
import gc, sys
gc.set_threshold(*map(int, sys.argv[2:]))
from analyzer.pipeline import read
from analyzer.sources.jsonpb import FileSource
read([FileSource(sys.argv[1:2])])
"""


def run() -> None:
    """Print the figures; without the package registry, say so."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binary = folder / "venv" / "bin"
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, capture_output=True)
            subprocess.run([str(binary / "pip"), "install", "--quiet", TOOL], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            print(f"  {TOOL} could not be installed: {error.stderr.decode()[-200:]}")
            return
        best: dict[str, dict[int, float]] = {label: {} for label in _commands("", binary)}
        paths = {count: folder / f"{count}.json" for count in map(scaled, LINES)}
        for count, path in paths.items():
            with path.open("wb") as file:
                file.writelines(lines(1, count))
        for _ in range(3):
            for count, path in paths.items():
                for label, command in _commands(str(path), binary).items():
                    seconds = _cpu(command)
                    best[label][count] = min(best[label].get(count, seconds), seconds)
    print(f"CPU-seconds, start of the interpreter included, and how many times {TOOL} that is")
    heads = [*(f"{count:,} lines" for count in paths), f"each beyond {min(paths):,}"]
    print("  " + "".join([" " * 27, *(f"{head:>24}" for head in heads)]))
    for label, ours in best.items():
        print(f"  {label:<27}" + "".join(_cells(ours, best[TOOL])))


def _cells(ours: dict[int, float], theirs: dict[int, float]) -> Iterator[str]:
    few, many = ours
    for count in (few, many):
        yield f"{ours[count]:10.2f} s {theirs[count] / ours[count]:6.2f} times"
    further, their_further = ours[many] - ours[few], theirs[many] - theirs[few]
    yield f"{further / (many - few) * 1e6:9.1f} us {their_further / further:6.2f} times"


def _commands(path: str, binary: Path) -> dict[str, list[str]]:
    ours = [sys.executable, "-m", "analyzer"]
    return {
        # Cycles are looked for as rarely as by the command line, and by this process.
        "file to edge table": [sys.executable, "-c", READING, path, *map(str, gc.get_threshold())],
        "hubble-analyzer graph": [*ours, "graph", path, "-o", "json"],
        "hubble-analyzer recommend": [*ours, "recommend", path, "-o", "yaml"],
        TOOL: [str(binary / TOOL), "--dry-run", "--no-enrich", path],
    }


def _cpu(command: list[str]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return used() - before
