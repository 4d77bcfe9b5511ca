"""``python -m tests.benchmarks [--quick] [NAME...]``: run the benchmarks named, or all, and print what they measured."""

from __future__ import annotations

import importlib
import os
import sys

from analyzer.cli.main import collect_rarely
from tests.benchmarks.measure import QUICK

# Each module has `run()`, which prints its figures, and says in its docstring what they are.
BENCHMARKS = ("reading", "streaming", "processes", "others", "engine", "recommend", "truth", "drops", "soak")


def main(arguments: list[str]) -> int:
    collect_rarely()  # as the command line does
    names = [argument for argument in arguments if argument != "--quick"]
    if len(names) < len(arguments):
        os.environ[QUICK] = "1"
    unknown = sorted(set(names) - {*BENCHMARKS})
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)} (there are: {', '.join(BENCHMARKS)})", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        print(f"\n== {name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
