"""Several files: two processes against one, by the wall clock."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from analyzer.demo.lines import lines
from analyzer.pipeline import read, read_files
from analyzer.scale import Processes
from analyzer.sources.jsonpb import FileSource
from tests.benchmarks.measure import scaled

__all__ = ["run"]

FILES, LINES = 8, 100_000


def run() -> None:
    """Print the figures. They mean something only where two processors are free."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"flows-{number}.log") for number in range(FILES)]
        for number, path in enumerate(paths):
            with open(path, "wb") as file:
                file.writelines(lines(number, scaled(LINES)))
        best = {1: float("inf"), 2: float("inf")}
        tables = {}
        for _ in range(3):
            for jobs in best:
                start = time.perf_counter()
                tables[jobs] = read([FileSource(paths)]) if jobs == 1 else read_files(paths, Processes(jobs))
                best[jobs] = min(best[jobs], time.perf_counter() - start)
        assert tables[1] == tables[2]
        total = FILES * scaled(LINES)
        print(f"{FILES} files, {total:,} lines, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        for jobs, seconds in best.items():
            print(
                f"  {jobs} process{'es' if jobs > 1 else ''}: {seconds:.2f} s, {total / seconds:,.0f} flows per second"
            )
        print(f"  {best[1] / best[2]:.2f} times as fast")
