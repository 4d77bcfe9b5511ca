"""The views of a diff: every edge in every full format, the heaviest first, and figures that add up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.diff import compare
from analyzer.model.edge import Edge
from analyzer.model.inventory import Inventory
from analyzer.policy import Policy
from analyzer.report import json as json_format
from analyzer.report import markdown, terminal
from analyzer.report.diff import diff_report, diff_title, diff_values, short
from analyzer.report.words import share
from analyzer.simulate import observed, simulate
from tests.recommend.build import CART, REDIS, edge
from tests.test_diff import edges, policies
from tests.test_simulate import cnp


@settings(max_examples=60, deadline=None)
@given(edges(), policies(), st.booleans())
def test_every_edge_is_in_every_full_format(found: list[Edge], known: list[Policy], full: bool) -> None:
    diff = compare(observed(found), simulate(found, known, Inventory()))
    values = json.loads(json_format.render(diff_values(diff, {})))
    listed = [row for section in values["sections"] for row in section.get("findings", ())]
    assert len(listed) == len(found)
    figures = dict(values.get("summary", {}))
    assert figures["edges"] == len(found)
    parts = (
        "would_be_dropped",
        "would_be_dropped_unanswered",
        "newly_allowed",
        "still_denied",
        "unchanged",
        "undecided",
    )
    assert sum(figures[part] for part in parts) == len(found)
    wide = diff_report(diff, {}, full=True, unchanged=True)
    rows = [
        row
        for section in wide.sections
        for table in section.tables
        for row in table.rows
        if table.key != "requests_refused"
    ]
    assert len(rows) == len(found)
    for report in (wide, diff_report(diff, {}, full=full)):
        assert terminal.render(report) == terminal.render(report)
        assert markdown.render(report) == markdown.render(report)


def test_the_heaviest_come_first_and_the_title_counts() -> None:
    seen = [edge(CART, REDIS, f"{port}/TCP") for port in range(1, 31)]
    for number, each in enumerate(seen):
        cell = next(iter(each.stats.activity.values()))
        cell.weight += number
    diff = compare(observed(seen), simulate(seen, [cnp(ingress=[{}], subject={"app": "redis"})], Inventory()))
    assert diff_title(diff) == "30 of 30 edges would be dropped (100 % of the events)"
    (table,) = [t for s in diff_report(diff, {}).sections for t in s.tables if t.key == "would_be_dropped"]
    weights = [row.cells[3] for row in table.rows]
    assert len(weights) == 30
    assert weights == sorted(weights, key=lambda weight: -int(weight or 0))
    limited = terminal.render(diff_report(diff, {}, limit=5))
    assert "25 more are shown by -o wide" in limited


def test_no_traffic_is_said() -> None:
    assert diff_title(compare({}, {})) == "No traffic to compare"
    assert "No traffic" in terminal.render(diff_report(compare({}, {}), {}))


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 5, "0 %"), (0, 0, "0 %"), (5, 5, "100 %"), (1, 3, "33.3 %"), (1, 10_000, "< 0.1 %"), (9999, 10_000, "99.9 %")],
)
def test_shares_are_never_rounded_to_nothing_or_all(part: int, whole: int, words: str) -> None:
    assert share(part, whole) == words


def test_kinds_are_shortened_as_kubectl_does() -> None:
    assert short("selected by CiliumNetworkPolicy a/b, CiliumClusterwideNetworkPolicy c, NetworkPolicy d/e") == (
        "selected by cnp a/b, ccnp c, netpol d/e"
    )
    assert short("a CiliumNetworkPolicy: none") == "a CiliumNetworkPolicy: none"
