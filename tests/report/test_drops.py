"""The report of drops: few are told at length, all are listed, and machines get all of it."""

from __future__ import annotations

from collections import Counter

from analyzer.drops.reasons import DropClass
from analyzer.report import markdown, terminal
from analyzer.report.drops import SHOWN, Extent, drops_report, drops_table, in_a_line
from analyzer.report.model import as_data
from tests.drops.build import found
from tests.drops.test_causes import CART, WEB, cart, into
from tests.flows import drop, pod

MANY = [drop(pod(f"app-{n:02}"), CART, 8080) for n in range(SHOWN + 3)]


def test_nothing_dropped_is_said() -> None:
    assert terminal.render(drops_report((), Extent())).startswith("No drops\n")


def test_all_are_listed_and_some_are_told_at_length() -> None:
    listed = found(cart("{}"), MANY)
    text = terminal.render(drops_report(listed, Extent()))
    for n in range(SHOWN + 3):
        assert f"shop/app-{n:02} " in text
    assert f"{SHOWN}. shop/app-" in text
    assert f"{SHOWN + 1}. shop/app-" not in text
    assert "3 causes with fewer drops: -o wide" in text
    assert f"{SHOWN + 3}. shop/app-" in terminal.render(drops_report(listed, Extent(), full=True))


def test_what_found_no_room_is_counted() -> None:
    report = drops_report((), Extent(left_over=Counter({DropClass.DEFAULT_DENY: 1234})))
    assert "left out are events of 1,234 default deny." in terminal.render(report)


def test_machines_get_every_patch_and_every_cause() -> None:
    (finding,) = found(cart("{}"), [into(WEB)])
    (row,) = as_data(drops_report((finding,), Extent()))["sections"][0]["drops"]
    assert row["class"] == "default deny"
    assert [cause["kind"] for cause in row["causes"]] == [cause.kind.value for cause in finding.causes]
    assert finding.fix is not None
    assert row["fix"]["patches"][0]["diff"] == finding.fix.patches[0].diff
    assert row["by_minute"] == {"2026-09-01 00:00": 1}


def test_a_network_fault_is_named_in_the_table_and_in_a_line() -> None:
    (finding,) = found(cart("{}"), [into(WEB, drop_reason=155)])
    assert "CT_MAP_INSERTION_FAILED" in terminal.render(drops_table([finding], "", 0))
    assert in_a_line(finding) == (
        "infrastructure: shop/web -> shop/cart 8080/TCP, ingress: the table of connections is full (CT_MAP_INSERTION_FAILED)"
    )


def test_hostile_requests_break_no_format() -> None:
    evil = pod("x|`\n```\u202e<b>")
    listed = found(cart("{}"), [into(evil)])
    text = markdown.render(drops_report(listed, Extent()))
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "\u202e" not in text
