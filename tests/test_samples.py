"""Real captures through the command line: every record accounted for, every policy one that the schema accepts."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analyzer.cli.main import cli
from analyzer.manifests import load
from analyzer.store import Store
from tests.recommend.test_laws import validator

SAMPLES = Path(__file__).resolve().parents[1] / ".." / "shared" / "samples"
CAPTURES = ("curated.jsonl", "otel-2021.jsonl")


def capture(name: str) -> Path:
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip("real captures are not here")
    return path


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize("name", CAPTURES)
def test_observe_accounts_for_every_record(name: str, tmp_path: Path) -> None:
    path, store = capture(name), tmp_path / "flows.db"
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    for _ in range(2):
        run("observe", path, "--store", store)
        with Store.open(str(store), create=False) as kept:
            table = kept.read()
        assert table.coverage.records == len(lines)
        assert table.coverage.edge_records == sum(edge.weight for edge in table.edges.values())
    packed = tmp_path / "other-name.log.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    run("observe", packed, "--store", store)
    with Store.open(str(store), create=False) as kept:
        assert kept.read().coverage == table.coverage


@pytest.mark.parametrize("name", CAPTURES)
def test_recommend_writes_policies_that_the_schema_accepts(name: str, tmp_path: Path) -> None:
    path = capture(name)
    run("recommend", path, "--output-dir", tmp_path / "one")
    run("recommend", path, "--output-dir", tmp_path / "two")
    written = sorted((tmp_path / "one").rglob("*.yaml"))
    assert written
    schema = validator()
    for file in written:
        for document in load([str(file)]):
            schema.validate(document.data)
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
