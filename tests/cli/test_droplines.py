"""Drops while they happen: a line per cause when it is first seen, a table on a terminal, and a summary at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.cli.droplines import DropLines
from analyzer.drops.findings import Finding
from tests.cli.records import exported, shop, write_lines
from tests.drops.build import found
from tests.drops.test_causes import WEB, cart, into
from tests.flows import pod


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cause_is_told_once_and_hostile_text_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    evil = pod("web\x1b[31m")
    clock, seen = Clock(), list[Finding](found(cart("{}"), [into(WEB)]))
    with DropLines("Drops of x", lambda: seen, terminal=False, clock=clock) as lines:
        for _ in range(3):
            lines.update(1, 1)
            clock.now += 10
        seen += found(cart("{}"), [into(evil, 9090)])
        lines.update(2, 2)
    err = capsys.readouterr().err
    assert err.count("shop/web -> shop/cart 8080/TCP") == 1
    assert "9090/TCP" in err
    assert "\x1b" not in err


def test_looking_waits_for_its_time() -> None:
    clock, looks = Clock(), list[int]()

    def look() -> list[Finding]:
        looks.append(1)
        clock.now += 3
        return []

    lines = DropLines("x", look, terminal=False, clock=clock)
    for _ in range(40):
        lines.update(0, 0)
        clock.now += 1
    # A look of three seconds leaves thirty in peace.
    assert len(looks) == 2


def test_following_a_file_tells_as_it_goes_and_sums_up_when_interrupted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.jsonl", shop())
    code = "from analyzer.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "drops", "-f", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        told = next(line for line in process.stderr if line.startswith("default deny"))
        assert "shop/cart -> shop/payroll 5432/TCP" in told
        with path.open("a") as file:
            file.write(json.dumps(exported("web", "payroll", 5433, verdict="DROPPED")) + "\n")
        told = next(line for line in process.stderr if line.startswith("default deny"))
        assert "shop/web -> shop/payroll 5433/TCP" in told
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "2 drops of 2 causes" in out
    assert "Traceback" not in err
