"""``python -m tests.conformance FILE...``: how often our engine agrees with Cilium's; exit 1 on any disagreement."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.conformance.case import Answer, answers, read_cases

KINDS = ("valid", "egress", "ingress", "final", "l7")


def compare(paths: list[Path]) -> tuple[dict[str, Counter[str]], list[Answer]]:
    """Counts of agree, disagree and undecided per kind, and the disagreements."""
    counts = {kind: Counter[str]() for kind in KINDS}
    wrong = []
    for path in paths:
        for case in read_cases(path):
            for answer in answers(case):
                result = (
                    "agree" if answer.ours == answer.expected else "undecided" if answer.ours == "?" else "disagree"
                )
                counts[answer.kind][result] += 1
                if result == "disagree":
                    wrong.append(answer)
    return counts, wrong


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as lines of text."""
    lines = [f"{'kind':8} {'agree':>8} {'disagree':>9} {'undecided':>10} {'total':>8}"]
    for kind, found in counts.items():
        columns = (found["agree"], found["disagree"], found["undecided"], found.total())
        lines.append(f"{kind:8} {columns[0]:8} {columns[1]:9} {columns[2]:10} {columns[3]:8}")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    if not names:
        print("usage: python -m tests.conformance FILE...", file=sys.stderr)
        return 2
    counts, wrong = compare([Path(name) for name in names])
    print(table(counts))
    for answer in wrong:
        print(f"{answer.case} {answer.kind}: Cilium {answer.expected}, ours {answer.ours}: {answer.what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
