"""graph, recommend and observe from end to end: what comes out, where, and with which exit code."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from analyzer.replay import ReplayServer
from tests.cli.records import exported, shop, write_lines


@pytest.fixture(autouse=True)
def importable(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "flows.json", shop())


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exit_code != code and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def edges(result: Result) -> set[tuple[str, str, str]]:
    return {(e["source"], e["destination"], e["l4"]) for e in json.loads(result.stdout)["edges"]}


ALL = {
    ("shop/web", "shop/cart", "8080/TCP"),
    ("shop/cart", "shop/redis", "6379/TCP"),
    ("shop/web", "shop/catalog", "9090/TCP"),
    ("shop/cart", "shop/payroll", "5432/TCP"),
}


def test_the_graph_of_a_file(flows: Path) -> None:
    assert edges(run("graph", flows, "-o", "json")) == ALL
    result = run("graph", flows)
    assert "shop/web" in result.stdout
    assert "dropped" in result.stdout
    assert "records read" in result.stderr
    assert "records read" not in result.stdout


@pytest.mark.parametrize("form", ["table", "wide", "json", "markdown", "dot", "graphml", "mermaid"])
def test_every_format_has_every_service(flows: Path, form: str) -> None:
    text = run("graph", flows, "-o", form).stdout
    for name in ("web", "cart", "redis", "catalog", "payroll"):
        assert name in text


def test_every_way_to_name_the_same_flows(flows: Path, tmp_path: Path) -> None:
    packed = tmp_path / "flows.json.gz"
    packed.write_bytes(gzip.compress(flows.read_bytes()))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "events.log").write_bytes(flows.read_bytes())
    run("observe", flows, "--store", "flows.db")
    for source in (packed, folder, "flows.db", "--input-file=flows.json"):
        assert edges(run("graph", source, "-o", "json")) == ALL
    with flows.open("rb") as stdin:
        command = [sys.executable, "-m", "analyzer", "graph", "-", "-o", "json"]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True)
    assert done.stdout == run("graph", flows, "-o", "json").stdout_bytes


def test_the_same_content_named_twice_counts_once(flows: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(flows.read_bytes())
    once = json.loads(run("graph", flows, "-o", "json").stdout)
    result = run("graph", flows, copy, "-o", "json")
    assert json.loads(result.stdout) == once
    assert "read before" in result.stderr


def test_filters_choose_flows(flows: Path) -> None:
    assert edges(run("graph", flows, "--to-pod", "shop/redis", "-o", "json")) == {
        ("shop/cart", "shop/redis", "6379/TCP")
    }
    assert edges(run("graph", flows, "--verdict", "DROPPED", "-o", "json")) == {
        ("shop/cart", "shop/payroll", "5432/TCP")
    }
    assert edges(run("graph", flows, "--not", "--verdict", "DROPPED", "-o", "json")) == ALL - {
        ("shop/cart", "shop/payroll", "5432/TCP")
    }
    result = run("graph", flows, "-n", "other", "-o", "json")
    assert edges(result) == set()
    assert "excluded by your filters" in result.stderr


def test_filters_mean_the_same_on_a_server_and_on_a_file(flows: Path) -> None:
    lines = flows.read_text().splitlines()
    with ReplayServer(lines) as server:
        for flags in (
            ("-n", "shop"),
            ("--port", "6379"),
            ("--from-label", "app=web"),
            ("--not", "--to-port", "5432"),
            (),
        ):
            live = run("graph", "--server", server.address, *flags, "-o", "json")
            assert live.stdout == run("graph", flows, *flags, "-o", "json").stdout


def test_first_and_last(flows: Path) -> None:
    assert edges(run("graph", flows, "--first", "2", "-o", "json")) == {("shop/web", "shop/cart", "8080/TCP")}
    assert edges(run("graph", flows, "--last", "1", "-o", "json")) == {("shop/cart", "shop/payroll", "5432/TCP")}
    with_filter = run("graph", flows, "--last", "2", "--not", "--verdict", "DROPPED", "-o", "json")
    assert edges(with_filter) == {("shop/web", "shop/catalog", "9090/TCP")}


def test_times_choose_flows(flows: Path) -> None:
    assert edges(run("graph", flows, "--since", "2026-09-22", "-o", "json")) == set()
    assert edges(run("graph", flows, "--until", "2026-09-22", "-o", "json")) == ALL


def test_a_store_answers_what_it_can(flows: Path) -> None:
    run("observe", flows, "--store", "flows.db")
    for flags in (
        ("-n", "shop"),
        ("--to-port", "6379"),
        ("--port", "6379"),
        ("--from-label", "app=web"),
        ("--protocol", "tcp"),
    ):
        assert edges(run("graph", "flows.db", *flags, "-o", "json")) == edges(
            run("graph", flows, *flags, "-o", "json")
        ) | ({edge for edge in ALL if flags[0] == "--from-label" and edge[0] == "shop/web"})
    assert (
        edges(
            run("graph", "flows.db", "--since", "2026-09-21T14:00:00Z", "--until", "2026-09-21T15:00:00Z", "-o", "json")
        )
        == ALL
    )
    assert edges(run("graph", "flows.db", "--since", "2026-09-22", "-o", "json")) == set()
    assert edges(run("graph", "flows.db", "-n", "other", "-o", "json")) == set()


@pytest.mark.parametrize(
    "flags",
    [
        ("--pod", "shop/web"),
        ("--since", "3m"),
        ("--until", "2026-09-21T14:13:00Z"),
        ("--ip", "10.0.0.1"),
        ("--verdict", "DROPPED"),
        ("--from-port", "80"),
        ("--last", "5"),
        ("--fqdn", "example.com"),
        ("--http-method", "GET"),
        ("--node-name", "n1"),
        ("--protocol", "dns"),
        ("--not", "--identity", "5"),
    ],
)
def test_a_store_says_what_it_cannot_answer(flows: Path, flags: tuple[str, ...]) -> None:
    run("observe", flows, "--store", "flows.db")
    result = run("graph", "flows.db", *flags, code=2)
    assert "store" in result.stderr
    assert "Hint:" in result.stderr
    assert result.stdout == ""


def test_observing_twice_adds_nothing(flows: Path) -> None:
    first = run("observe", flows, "--store", "flows.db")
    before = run("graph", "flows.db", "-o", "json")
    again = run("observe", flows, "--store", "flows.db")
    assert "7" in first.stderr
    assert "read before" in again.stderr
    assert run("graph", "flows.db", "-o", "json").stdout == before.stdout


def test_other_filters_on_the_same_content_are_refused(flows: Path) -> None:
    run("observe", flows, "--store", "flows.db", "--verdict", "DROPPED")
    assert "filters" in run("observe", flows, "--store", "flows.db", code=2).stderr


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mixed.json", [*shop(), {"agent_event": {"type": "AGENT_STARTED"}}])
    path.write_text(path.read_text() + "broken\n")
    result = run("observe", path, "--store", "flows.db")
    counts = {
        line.rsplit(maxsplit=1)[0].strip(): int(line.rsplit(maxsplit=1)[1].replace(",", ""))
        for line in result.stderr.splitlines()
        if line and line.rsplit(maxsplit=1)[-1].replace(",", "").isdigit()
    }
    total = counts.pop("records read")
    assert total == 9 == sum(counts.values())
    assert counts["agent event"] == 1


def test_policies_on_standard_output(flows: Path) -> None:
    result = run("recommend", flows)
    policies = list(yaml.safe_load_all(result.stdout))
    assert {policy["metadata"]["name"] for policy in policies} == {"web", "cart", "redis", "catalog"}
    assert all(policy["kind"] == "CiliumNetworkPolicy" for policy in policies)
    assert "payroll" in result.stderr
    assert "dropped" in result.stderr
    assert "Next" in result.stderr


def test_policies_in_a_folder(flows: Path, tmp_path: Path) -> None:
    result = run("recommend", flows, "--output-dir", "out/policies")
    folder = tmp_path / "out" / "policies"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")} == {
        "shop/web.yaml", "shop/cart.yaml", "shop/redis.yaml", "shop/catalog.yaml",
    }  # fmt: skip
    assert result.stdout == ""
    assert "payroll" in (folder / "REPORT.md").read_text()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run("recommend", flows, "--output-dir", "out/policies")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_policies_of_an_earlier_run_are_pointed_out(flows: Path, tmp_path: Path) -> None:
    run("recommend", flows, "-d", "out")
    (tmp_path / "out" / "shop" / "own.yaml").write_text("kind: ConfigMap\nmetadata: {name: own}\n")
    result = run("recommend", flows, "-d", "out", "--to-port", "8080")
    assert "earlier run" in result.stderr
    assert "shop/redis.yaml" in result.stderr
    assert "own.yaml" not in result.stderr
    assert (tmp_path / "out" / "shop" / "redis.yaml").exists()


def test_dropped_traffic_only_on_request(flows: Path) -> None:
    assert "payroll" not in run("recommend", flows).stdout
    assert "payroll" in run("recommend", flows, "--include-verdicts", "DROPPED").stdout


def test_the_full_report_lists_every_refusal(flows: Path) -> None:
    body = json.loads(run("recommend", flows, "-o", "json").stdout)
    refused = [row for section in body["sections"] for row in section.get("refused", ())]
    assert [(row["source"], row["destination"], row["l4"]) for row in refused] == [
        ("shop/cart", "shop/payroll", "5432/TCP")
    ]


def test_one_namespace_only(tmp_path: Path) -> None:
    records = [*shop(), *(exported("web", "db", 1, namespace="other", reply=reply) for reply in (False, True))]
    path = write_lines(tmp_path / "two.json", records)
    policies = list(yaml.safe_load_all(run("recommend", path, "--only-namespace", "other").stdout))
    assert {policy["metadata"]["namespace"] for policy in policies} == {"other"}


@pytest.mark.parametrize("verb", ["graph", "recommend"])
def test_same_input_same_bytes(flows: Path, verb: str) -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-m", "analyzer", verb, str(flows)],
            capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == runs[1].stderr


def test_following_until_ctrl_c(flows: Path, tmp_path: Path) -> None:
    with ReplayServer(flows.read_text().splitlines(), rate=50, loop=True) as server:
        command = [sys.executable, "-m", "analyzer", "observe", "--server", server.address, "-f", "--store", "live.db"]
        process = subprocess.Popen([*command, "--flush-interval", "100ms"], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if (tmp_path / "live.db").exists() and "web" in run("graph", "live.db", "-o", "json").stdout:
                break
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "records read" in stderr
    assert edges(run("graph", "live.db", "-o", "json")) == ALL


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_what_cannot_be_said_does_not_end_reading(flows: Path, tmp_path: Path) -> None:
    store = tmp_path / "unheard.db"
    command = [
        sys.executable,
        "-m",
        "analyzer",
        "observe",
        str(flows),
        "-f",
        "--store",
        str(store),
        "--max-duration",
        "2s",
    ]
    with open("/dev/full", "w") as full:
        process = subprocess.Popen([*command, "--flush-interval", "200ms"], stderr=full, stdout=subprocess.DEVNULL)
        assert process.wait(timeout=60) in (0, 130)
    assert edges(run("graph", str(store), "-o", "json")) == ALL


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_observing_in_good_order(flows: Path, tmp_path: Path, name: str) -> None:
    store = tmp_path / "told.db"
    command = [
        sys.executable,
        "-m",
        "analyzer",
        "observe",
        str(flows),
        "-f",
        "--store",
        str(store),
        "--flush-interval",
        "1h",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "records" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert edges(run("graph", str(store), "-o", "json")) == ALL


def test_replay_serves_until_it_is_told_to_stop(flows: Path) -> None:
    command = [sys.executable, "-m", "analyzer", "replay", str(flows), "--addr", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline().split(" at ")[1].split(". ")[0]
    assert edges(run("graph", "--server", address, "-o", "json")) == ALL
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
