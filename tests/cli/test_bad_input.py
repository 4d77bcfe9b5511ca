"""Bad input: one clear sentence with the place in it, exit code 2, never a traceback; and hostile content stays text."""

from __future__ import annotations

import gzip
import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from analyzer.replay import ReplayServer
from tests.cli.records import exported, shop, write_lines

VERBS = ("graph", "recommend", "observe")


@pytest.fixture(autouse=True)
def told_as_people_see_it(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBBLE_DEBUG")


def run(*args: object) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert "Traceback" not in result.stderr
    return result


def refused(*args: object) -> str:
    """What a run says on standard error that must end with exit code 2."""
    result = run(*args)
    assert result.exit_code == 2, (result.exit_code, result.stderr)
    assert result.stderr.count("Error:") == 1
    return result.stderr


def missing(folder: Path) -> Path:
    return folder / "missing.json"


def binary(folder: Path) -> Path:
    path = folder / "flows.bin"
    path.write_bytes(bytes(range(256)) * 64)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.json"
    path.write_bytes(b"")
    return path


def other_json(folder: Path) -> Path:
    path = folder / "package.json"
    path.write_text('{\n  "name": "x",\n  "version": "1"\n}\n')
    return path


def truncated_gzip(folder: Path) -> Path:
    path = folder / "cut.json.gz"
    lines = "".join(json.dumps(exported("web", "cart", 8080, second=second)) + "\n" for second in range(3000))
    path.write_bytes(gzip.compress(lines.encode())[:-200])
    return path


def broken_gzip(folder: Path) -> Path:
    path = folder / "broken.json.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00" + b"x" * 100)
    return path


def folder_without_flows(folder: Path) -> Path:
    path = folder / "nothing"
    path.mkdir()
    return path


def other_database(folder: Path) -> Path:
    path = folder / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("create table songs (title text)")
    connection.commit()
    connection.close()
    return path


def broken_database(folder: Path) -> Path:
    path = folder / "broken.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    return path


BAD = (
    missing, binary, other_json, truncated_gzip, broken_gzip, folder_without_flows, other_database, broken_database,
)  # fmt: skip


@pytest.mark.parametrize("verb", ["graph", "recommend"])
@pytest.mark.parametrize("make", BAD)
def test_a_bad_source_is_named(tmp_path: Path, verb: str, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    assert path.name in refused(verb, path)


@pytest.mark.parametrize("make", BAD)
def test_a_bad_source_is_named_by_observe(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    assert path.name in refused("observe", path, "--store", "new.db")


@pytest.mark.parametrize("make", [missing, folder_without_flows, truncated_gzip, broken_gzip, empty])
def test_a_bad_recording_is_named(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    assert path.name in refused("replay", path, "--addr", "127.0.0.1:0")


def test_an_empty_file_is_no_error_but_told(tmp_path: Path) -> None:
    result = run("graph", empty(tmp_path))
    assert result.exit_code == 0
    assert "No traffic" in result.stdout
    assert "records read" in result.stderr


def test_what_was_read_before_a_failure_is_kept(tmp_path: Path) -> None:
    refused("observe", truncated_gzip(tmp_path), "--store", "kept.db")
    result = run("graph", "kept.db", "-o", "json")
    assert [(edge["source"], edge["destination"]) for edge in json.loads(result.stdout)["edges"]] == [
        ("shop/web", "shop/cart")
    ]


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for verb in (("graph",), ("recommend",), ("observe", "--store", "x.db")):
            text = refused(*verb, "--server", address, "--timeout", "2s")
            assert address in text
            assert "Hint:" in text


def test_a_server_that_speaks_something_else() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert address in refused("graph", "--server", address, "--timeout", "300ms")


@pytest.mark.parametrize("address", ["", "a b:1", "host:port", "http://x", "tls://", "host:99999"])
def test_what_is_no_address(address: str) -> None:
    assert "address" in refused("graph", "--server", address)


def test_an_address_as_a_source_points_to_the_flag() -> None:
    assert "--server relay:4245" in refused("graph", "relay:4245")


def test_a_store_that_is_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    for store in (path, tmp_path, tmp_path / "nowhere" / "x.db", "postgresql://127.0.0.1:1/none"):
        refused("observe", path, "--store", store)
    assert path.read_text().count("\n") == 7


def test_a_store_is_not_observed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    assert run("observe", path, "--store", "a.db").exit_code == 0
    assert "a.db" in refused("observe", "a.db", "--store", "b.db")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    blocked = tmp_path / "out"
    blocked.write_text("mine")
    assert "out" in refused("recommend", path, "-d", blocked)
    assert "out" in refused("recommend", path, "-d", blocked / "below")
    assert blocked.read_text() == "mine"
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "shop").write_text("mine")
    assert "shop" in refused("recommend", path, "-d", tmp_path / "half")


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "shop").symlink_to(tmp_path / "elsewhere")
    assert "leads out" in refused("recommend", path, "-d", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_bad_inventory_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    (tmp_path / "pods.yaml").write_text("a: [")
    assert "pods.yaml:" in refused("recommend", path, "--inventory", tmp_path / "pods.yaml")


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in refused("replay", path, "--addr", address)


HOSTILE = (
    "\x1b]0;owned\x07", "\x1b[2J", "a\nError: b", "[red]x[/red]", "<script>alert(1)</script>", "../../etc/cron.d/x",
    "\u202egnp.exe", "{{ 7*7 }}", "| a | b |", "`id`", "$(id)", "x" * 5000, "",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Flows of pods whose names, labels and namespaces were chosen to do harm."""
    records = []
    for text in HOSTILE:
        record = exported("web", "cart", 8080)
        for side in ("source", "destination"):
            end = record["flow"][side]
            end["namespace"] = text
            end["pod_name"] = text
            end["labels"] = [f"k8s:app={text}", f"k8s:io.kubernetes.pod.namespace={text}"]
            end["workloads"] = [{"kind": text, "name": text}]
        record["flow"]["destination_names"] = [text]
        record["flow"]["node_name"] = text
        records.append(record)
    return write_lines(tmp_path / "hostile.json", records)


def _harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("form", ["table", "wide", "json", "markdown", "dot", "graphml", "mermaid"])
def test_hostile_names_stay_text_in_graphs(hostile: Path, form: str) -> None:
    result = run("graph", hostile, "-o", form)
    assert result.exit_code == 0
    assert _harmless(result.stdout)
    assert _harmless(result.stderr)
    if form in ("markdown", "graphml", "mermaid"):
        assert "<script>" not in result.stdout


@pytest.mark.parametrize("form", ["yaml", "table", "json", "markdown"])
def test_hostile_names_stay_text_in_recommendations(hostile: Path, form: str) -> None:
    result = run("recommend", hostile, "-o", form)
    assert result.exit_code == 0
    assert _harmless(result.stdout)
    assert _harmless(result.stderr)
    if form == "yaml":
        assert all(policy["kind"] == "CiliumNetworkPolicy" for policy in yaml.safe_load_all(result.stdout) if policy)


def test_hostile_names_stay_in_the_folder(hostile: Path, tmp_path: Path) -> None:
    assert run("recommend", hostile, "-d", tmp_path / "a" / "b").exit_code == 0
    outside = [path for path in tmp_path.rglob("*.yaml") if not path.is_relative_to(tmp_path / "a" / "b")]
    assert outside == []
    assert all(path.name.isascii() and _harmless(path.name) for path in (tmp_path / "a").rglob("*"))


def test_hostile_names_stay_text_through_a_store(hostile: Path) -> None:
    observed = run("observe", hostile, "--store", "hostile.db")
    assert observed.exit_code == 0
    assert _harmless(observed.stderr)
    assert run("graph", "hostile.db", "-o", "json").stdout == run("graph", hostile, "-o", "json").stdout


def test_hostile_file_names_are_told_harmlessly() -> None:
    assert _harmless(refused("graph", "\x1b[2Jmissing\n"))


def test_hostile_words_of_a_server_are_told_harmlessly() -> None:
    with ReplayServer([json.dumps(record) for record in shop()]) as server:
        assert _harmless(
            refused("graph", "--server", server.address, "--denylist", '{"source_label": ["\\u001b[2J a b"]}')
        )
