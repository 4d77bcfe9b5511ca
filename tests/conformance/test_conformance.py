"""Our engine agrees with Cilium's own on every vector, and is undecided on at most one in a hundred."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.__main__ import compare, table

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["cilium-named", "cilium-random"])
def test_agrees_with_cilium(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts, wrong = compare([HERE / f"{name}.jsonl.gz"])
    with capsys.disabled():
        print(f"\n{name}\n{table(counts)}")
    assert wrong == []
    total = sum(counts.values(), Counter[str]())
    assert total["agree"] > 1_000
    assert total["undecided"] <= total.total() / 100
