"""The view of the self-check: half-open connections by their sides, figures for machines, and tables that end."""

from __future__ import annotations

from typing import Any

from analyzer.model.edge import Edge
from analyzer.model.l4 import L4
from analyzer.report.model import Report, as_data
from analyzer.report.verify import HALVES, check_sections
from analyzer.simulate import Result, SideOutcome
from analyzer.verify import Check, HalfOpen, Unsound
from tests.recommend.build import CART, REDIS, edge

OPEN = SideOutcome(Result.ALLOWED, ("CiliumNetworkPolicy shop/cart egress[0]",), selected_by=("x",))
LEFT = SideOutcome(Result.ALLOWED, ("default allow",))
CLOSED = SideOutcome(Result.DENIED, reason="default deny of shop/redis")
UNSURE = SideOutcome(Result.UNDECIDED, reason="who knows")


def seen(number: int) -> Edge:
    return edge(CART, REDIS, str(L4.parse(f"{number}/TCP")))


def data(check: Check, *, full: bool = False) -> dict[str, dict[str, Any]]:
    sections = as_data(Report("check", "", check_sections(check, full=full)))["sections"]
    return {each["title"]: each for each in sections}


def test_half_open_connections_are_told_by_their_sides() -> None:
    made = Check(
        3,
        half_open=(
            HalfOpen(seen(1), "egress", OPEN, CLOSED, "left alone, and deny-all closes it"),
            HalfOpen(seen(2), "ingress", LEFT, CLOSED),
            HalfOpen(seen(3), "egress", OPEN, UNSURE),
        ),
    )
    section = data(made)["Open on one side only: 2 connections"]
    first, second = section["half_open"]
    assert (first["open"], first["by"], first["closed"]) == ("egress", OPEN.rules[0], "ingress")
    assert first["why"] == "left alone, and deny-all closes it"
    assert (second["open"], second["by"], second["why"]) == ("ingress", "nothing closes it", CLOSED.reason)
    assert "1 more connection" in str(section["notes"])
    assert "perhaps_half_open" not in section
    full = data(made, full=True)["Open on one side only: 2 connections"]
    assert [each["why"] for each in full["perhaps_half_open"]] == ["who knows"]
    assert data(made)["Self-check"]["check"] == {
        "passed": True, "edges": 3, "unsound": 0, "undecided": 0, "idle": 0, "beside_existing": 0, "invalid": 0,
        "half_open": 2, "perhaps_half_open": 1,
    }  # fmt: skip


def test_without_any_nothing_is_said() -> None:
    assert list(data(Check(3))) == ["Self-check"]


def test_tables_end() -> None:
    many = tuple(HalfOpen(seen(number), "egress", OPEN, CLOSED) for number in range(1, HALVES + 4))
    section = data(Check(3, half_open=many))[f"Open on one side only: {HALVES + 3} connections"]
    assert len(section["half_open"]) == HALVES
    assert "3 more" in str(section["notes"])
    full = data(Check(3, half_open=many), full=True)[f"Open on one side only: {HALVES + 3} connections"]
    assert len(full["half_open"]) == HALVES + 3


def test_what_fails_comes_first() -> None:
    made = data(Check(1, unsound=(Unsound(seen(1), "ingress", CLOSED),)))
    assert list(made) == ["These policies would drop traffic they were made to allow: 1 connection", "Self-check"]
    assert "fail" in str(made["Self-check"]["notes"])
