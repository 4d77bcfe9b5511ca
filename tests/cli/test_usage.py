"""usage from end to end: every format, what was refused, and helpful errors; it never gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from tests.cli.records import shop, write_lines
from tests.cli.test_diff import policy, rule, write

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "flows.json", shop())


@pytest.fixture
def policies() -> Path:
    cart = policy("cart", ingress=[rule("web", 8080), rule("web", 9999), {"fromEndpoints": [{}]}])
    gone = policy("gone", "gone", egress=[rule("cart", 80, "to")])
    return write("policies.yaml", cart, gone)


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["usage", *(str(arg) for arg in args)])
    if result.exit_code != code and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result


def tables(body: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    keys = ("hits", "unused", "shadowed", "selecting_nothing", "excess")
    return {key: section[key] for section in body["sections"] for key in keys if key in section}


def test_everything_is_told(flows: Path, policies: Path) -> None:
    body = json.loads(run(flows, "--policies", policies, "-o", "json").stdout)
    assert body["schema"] == "hubble-analyzer/usage/v1"
    assert {key: body["summary"][key] for key in ("rules", "policies", "unused", "shadowed", "selecting_nothing")} == {
        "rules": 4, "policies": 2, "unused": 2, "shadowed": 2, "selecting_nothing": 1,
    }  # fmt: skip
    found = tables(body)
    assert [(row["rule"], row["edges"], row["alone"]) for row in found["hits"]] == [
        ("cnp shop/cart ingress[0]", 1, 0),
        ("cnp shop/cart ingress[2]", 1, 0),
    ]
    assert [(row["rule"], row["attempts"]) for row in found["unused"]] == [
        ("cnp shop/cart ingress[1]", 0),
        ("cnp shop/gone egress[0]", 0),
    ]
    assert {row["rule"]: row["by"] for row in found["shadowed"]} == {
        "cnp shop/cart ingress[0]": "cnp shop/cart ingress[2]",
        "cnp shop/cart ingress[1]": "cnp shop/cart ingress[2]",
    }
    assert [row["policy"] for row in found["selecting_nothing"]] == ["CiliumNetworkPolicy shop/gone"]
    (wide,) = [row for row in found["excess"] if row["rule"] == "cnp shop/cart ingress[2]"]
    assert (wide["subjects"], wide["used"], wide["outside"]) == (1, 1, False)
    assert "shop/redis" in wide["idle_peers"]
    assert "shop/web" not in wide["idle_peers"]
    assert all(row["place"].startswith("policies.yaml:") for rows in found.values() for row in rows)


@pytest.mark.parametrize("form", ["table", "wide", "yaml", "markdown"])
def test_every_format_names_every_rule(flows: Path, policies: Path, form: str) -> None:
    text = run(flows, "--policies", policies, "-o", form).stdout
    assert text == run(flows, "--policies", policies, "-o", form).stdout
    if form == "yaml":
        assert yaml.safe_load(text)["schema"] == "hubble-analyzer/usage/v1"
    for expected in ("ingress[0]", "ingress[1]", "ingress[2]", "egress[0]"):
        assert expected in text.replace("\\", ""), "markdown escapes brackets"


def test_an_inventory_shows_silent_pods(flows: Path, policies: Path) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "gone-1", "namespace": "shop", "labels": {"app": "gone"}}, "spec": {}}
    pods = write("pods.yaml", {"apiVersion": "v1", **pod})
    body = json.loads(run(flows, "--policies", policies, "--inventory", pods, "-o", "json").stdout)
    assert [(row["policy"], row["known"]) for row in tables(body)["selecting_nothing"]] == [
        ("CiliumNetworkPolicy shop/gone", 1)
    ]


def test_what_is_refused_is_named_and_ends_with_an_error(flows: Path) -> None:
    path = write(
        "policies.yaml", policy("cart", ingress=[rule("web", 8080)]), policy("bad", ingress=[{"fromCIDR": ["x"]}])
    )
    result = run(flows, "--policies", path, code=2)
    assert "ingress[0]" in result.stdout
    assert "bad" in result.stderr


def test_without_policies_the_next_step_is_told(flows: Path) -> None:
    assert "--policies" in run(flows, code=2).stderr


def test_an_empty_record(policies: Path, tmp_path: Path) -> None:
    empty = write_lines(tmp_path / "empty.json", [])
    assert "No traffic was found" in run(empty, "--policies", policies).stdout
