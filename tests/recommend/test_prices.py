"""The price list: excess counted by hand on a small case, its laws on simulated clusters, and the choice within a budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from analyzer.cli.main import cli
from analyzer.demo import CLUSTER, generated_cluster, records
from analyzer.inventories import from_edges
from analyzer.model.flow import Direction
from analyzer.recommend import Level, Options
from analyzer.recommend.prices import DIRECTIONS, Budget, Price, choose, price_list
from analyzer.settle import settle
from tests.demo.test_truth import table_of
from tests.recommend.build import edge, pod

WEB, API, DB = (pod("shop", app=name) for name in ("web", "api", "db"))
SEEN = [edge(WEB, API, "8080/TCP"), edge(API, DB, "5432/TCP")]
INGRESS = frozenset({Direction.INGRESS})


def of(
    prices: tuple[Price, ...], level: str, directions: frozenset[Direction] = INGRESS, namespace: str = "shop"
) -> Price:
    (found,) = [p for p in prices if (p.namespace, str(p.level), p.directions) == (namespace, level, directions)]
    return found


def test_excess_counted_by_hand() -> None:
    """Three peers. api serves 8080 and db 5432, each has one port more; web's ingress is left alone: 2 x (3 x 2) triples."""
    prices = price_list(SEEN)
    found = {
        level: of(prices, level).excess
        for level in ("workload/port", "workload/any", "namespace/port", "namespace/any")
    }
    assert {each.universe for each in found.values()} == {12}
    assert {each.open for each in found.values()} == {1}
    assert found["workload/port"].unseen == 0
    assert found["workload/any"].unseen == 2, "the right peer on the other port, of api and of db"
    assert found["namespace/port"].unseen == 4, "two peers more on the right port, of api and of db"
    assert found["namespace/any"].unseen == 10, "everything but the two that were seen"


def test_a_range_costs_what_nobody_was_seen_to_use_of_it() -> None:
    """Two peers. db serves nine ports, has one that stands for the rest of the range, and one for all others."""
    data = (30_000, 30_012, 30_013, 30_027, 30_031, 30_044, 30_052, 30_060)
    seen = [edge(WEB, DB, f"{port}/TCP") for port in (21, *data)]
    with_range, without = price_list(seen), price_list(seen, options=Options(range_ports=0))
    for level, unseen in (("workload/port", 1), ("namespace/port", 11), ("workload/any", 2), ("namespace/any", 13)):
        assert of(with_range, level).excess[:2] == (unseen, 22), level
    for level, unseen in (("workload/port", 0), ("namespace/port", 9), ("workload/any", 1), ("namespace/any", 11)):
        assert of(without, level).excess[:2] == (unseen, 20), level


def test_what_there_is_to_maintain() -> None:
    both = DIRECTIONS[2]
    price = of(price_list(SEEN), "workload/port", both)
    assert (price.policies, price.rules) == (3, 4)
    assert price.lines > of(price_list(SEEN), "workload/any", both).lines


def test_somebody_may_tell_how_often_it_would_have_broken() -> None:
    prices = price_list(
        SEEN, backtest=lambda namespace, level, directions: 7 if str(level) == "workload/port" else None
    )
    assert of(prices, "workload/port").broke == 7
    assert of(prices, "workload/any").broke is None


@pytest.mark.parametrize(("cluster", "seed"), [(CLUSTER, 1), (generated_cluster(2, 20), 2)], ids=["story", "generated"])
def test_less_detail_never_leaves_less_open(cluster: object, seed: int) -> None:
    edges = settle(table_of(cluster, seed))  # type: ignore[arg-type]
    prices = price_list(edges, from_edges(edges))
    for namespace in {price.namespace for price in prices}:
        for directions in DIRECTIONS:
            unseen = {
                str(p.level): p.excess.unseen for p in prices if (p.namespace, p.directions) == (namespace, directions)
            }
            for peer in ("namespace", "workload"):
                assert unseen[f"{peer}/any"] >= unseen[f"{peer}/port"]
            for port in ("any", "port"):
                assert unseen[f"namespace/{port}"] >= unseen[f"workload/{port}"]


def test_the_coarsest_level_within_the_budget_is_named_with_the_reason() -> None:
    prices = price_list(SEEN)
    free, tight, none = (
        next(c for c in choose(prices, budget) if c.directions == INGRESS)
        for budget in (Budget(100), Budget(20), Budget(0, rules=1))
    )
    assert free.level == Level.parse("namespace/any")
    assert tight.level == Level.parse("workload/any")
    assert "83.3 % excess is more than 20 %" in tight.why
    assert none.level is None
    assert "2 rules are more than 1" in none.why


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "flows.json"
    path.write_text("".join(json.dumps(record) + "\n" for record in records(CLUSTER)))
    return str(path)


def test_on_the_command_line(flows: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["recommend", flows, "--compare-granularity", "-d", str(tmp_path / "none")])
    assert run.exit_code == 0, run.output
    assert "Coarsest level that fits" in run.stdout.replace("COARSEST LEVEL THAT FITS", "Coarsest level that fits")
    assert not (tmp_path / "none").exists()
    told = json.loads(CliRunner().invoke(cli, ["recommend", flows, "--compare-granularity", "-o", "json"]).stdout)
    assert told["schema"] == "hubble-analyzer/granularity/v1"
    shop = next(section for section in told["sections"] if section.get("namespace") == "shop")
    assert {row["directions"] for row in shop["prices"]} == {"ingress", "egress", "both"}
    refused = CliRunner().invoke(cli, ["recommend", flows, "--compare-granularity", "-o", "yaml"])
    assert refused.exit_code == 2
    assert "no policy" in refused.stderr
