"""The dashboard: right sums however tables are handed over, on any size of terminal, and nothing that steers it."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from analyzer.aggregate import Aggregator, aggregate
from analyzer.cli.dashboard import Dashboard, sparkline
from analyzer.cli.tally import Known, Tally
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.model.flow import OUT_OF_SIGHT, LostEvents, NodeStatus, Verdict
from analyzer.replay import ReplayServer
from analyzer.sources.base import Record
from tests.flows import WORLD, kept, pod, tcp
from tests.sources.hubble import recording

START = 1_700_000_000 * 10**9


def some(port: int, **changes: object) -> Record:
    return tcp(pod("web"), pod("cart"), port, **changes)


RECORDS: list[Record] = [
    *(some(port) for port in (80, 80, 81)),
    some(5432, verdict=int(Verdict.DROPPED), kind=1, drop_reason=133),
    LostEvents("node-1", START, 1, 1234),
    NodeStatus(("node-2",), START, 2),
    NodeStatus(("node-3",), START, OUT_OF_SIGHT),
]


def exact() -> None:
    """What makes a table exact that is."""


def drawn(records: list[Record], width: int = 120, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, color_system=None)
    clock = iter(float(n) for n in range(1000))
    dashboard = Dashboard("Observing relay:4245", "flows.db", console, lambda: 12.0, lambda: next(clock))
    table = aggregate(records)
    dashboard.update(table.coverage, table, exact)
    console.print(dashboard.view())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_that_matters_is_there() -> None:
    text = drawn(RECORDS)
    for words in (
        "Observing relay:4245", "flows.db, next written in 12 s", "7/s", "3 new/min", "1,234", "shop/web", "shop/cart",
        "shop/web → shop/cart 5432/TCP", "node-2 was unavailable", "node-3 was out of sight for a while", "57.1%",
    ):  # fmt: skip
        assert words in text, words


@settings(deadline=None)
@given(st.integers(20, 250), st.integers(5, 60))
def test_it_fits_any_terminal(width: int, height: int) -> None:
    text = drawn([*RECORDS, *(tcp(pod(f"web-{n}"), pod("cart"), 80) for n in range(30))], width, height)
    assert all(len(line) <= width for line in text.splitlines())


def test_before_anything_was_read() -> None:
    assert "records" in drawn([])


def test_names_do_not_steer_the_terminal() -> None:
    text = drawn([tcp(pod("[red]\x1b[31m\u202eweb"), pod("cart\n\r"), 80), NodeStatus(("\x1b]0;x\x07",), START, 2)])
    assert not set("\x1b\x07\r\u202e") & set(text)
    assert "[red]\\x1b[31m" in text


def handed_over(tables: list[EdgeTable]) -> Tally:
    """A tally that is told of every table three times while it fills, a second apart."""
    tally, coverage, now = Tally(0.0), Coverage(), 0.0
    for whole in tables:
        table = EdgeTable()
        for key, stats in whole.edges.items():
            table.stats(key).merge(stats)
            now += 1.0
            tally.update(coverage, table, now, exact)
    tally.update(coverage, EdgeTable(), now + 1, exact)
    return tally


@pytest.mark.parametrize("cut", range(6))
def test_sums_do_not_depend_on_when_tables_are_handed_over(cut: int) -> None:
    flows = [record for record in RECORDS if not isinstance(record, LostEvents | NodeStatus)] + [some(443), some(80)]
    tally = handed_over([aggregate(flows[:cut]), aggregate(flows[cut:])])
    assert tally.connections == 4
    assert tally.services == {"shop/web": 6, "shop/cart": 6}
    assert (tally.dropped, sum(tally.new)) == (1, 4)


def test_addresses_outside_are_one_connection() -> None:
    known = Known()
    known.add(aggregate([tcp(WORLD, pod("web"), 443, source_ip=f"198.51.100.{n}") for n in range(50)]))
    assert known.total == 1


def test_numbers_are_made_exact_before_they_are_looked_at_and_not_more_often() -> None:
    tally, aggregator, settled = Tally(0.0), Aggregator(), list[float]()
    aggregator.add_records([kept(some(80))] * 5)

    def settle() -> None:
        settled.append(now)
        aggregator.settle()

    for now in (10.0, 10.5, 11.0, 12.0, 13.9, 14.0):
        tally.update(aggregator.latest.coverage, aggregator.latest, now, settle)
    assert settled == [10.0, 12.0, 14.0]
    assert tally.services == {"shop/web": 5, "shop/cart": 5}


def test_the_dashboard_shows_exact_numbers() -> None:
    console = Console(file=io.StringIO(), width=120, height=40, color_system=None)
    dashboard = Dashboard("Observing", "flows.db", console, lambda: 12.0, lambda: 1.0)
    aggregator = Aggregator()
    aggregator.add_records([kept(some(80))] * 4321)
    dashboard.update(aggregator.latest.coverage, aggregator.latest, aggregator.settle)
    console.print(dashboard.view())
    assert isinstance(console.file, io.StringIO)
    [service] = [line for line in console.file.getvalue().splitlines() if "shop/web" in line]
    assert service.endswith("4,321")


def test_new_connections_by_the_minute() -> None:
    tally, table = Tally(0.0), aggregate([some(1), some(2)])
    tally.update(Coverage(), table, 10.0, exact)
    for port in (3, 4, 5):
        table.merge(aggregate([some(port)]))
    tally.update(Coverage(), table, 70.0, exact)
    tally.update(Coverage(), table, 300.0, exact)
    assert list(tally.new) == [2, 3, 0, 0, 0, 0]


def test_bars() -> None:
    assert sparkline([0, 1, 50, 100], 10) == "▁▂▅█"
    assert sparkline([9, 9, 9, 1, 2], 2) == "▅█"
    assert sparkline([], 5) == sparkline([1, 2], 0) == ""


def test_on_a_real_terminal(tmp_path: Path) -> None:
    """It is drawn, ends in good order, and gives the cursor back."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with ReplayServer(recording(20)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "analyzer", "observe", "-f", "--server", server.address, "--store", "flows.db"],
            cwd=tmp_path, stderr=theirs, stdout=subprocess.DEVNULL, env=environment | {"PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
        os.close(theirs)
        shown = _read_until(ours, b"shop/", 30)
        process.send_signal(signal.SIGINT)
        shown += _read_until(ours, b"Next:", 30)
        assert process.wait(20) == 130
    os.close(ours)
    text = shown.decode()
    assert "Observing" in text
    assert "Busiest services" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def _read_until(terminal: int, words: bytes, seconds: float) -> bytes:
    shown, end = b"", time.monotonic() + seconds
    while words not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:
                break
    assert words in shown, shown
    return shown
