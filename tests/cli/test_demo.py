"""`demo` as a newcomer runs it: the whole path over loopback, files left behind, the same ones every time."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from analyzer.cli.main import cli
from analyzer.demo import CLUSTER, records, truth
from analyzer.manifests import load
from analyzer.store import Store
from tests.recommend.test_laws import validator


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".yaml", ".md")
    }


def test_the_demo_from_server_to_policies(tmp_path: Path) -> None:
    first = CliRunner().invoke(cli, ["demo", "-d", str(tmp_path / "one")])
    assert first.exit_code == 0, first.output
    made = list(records(CLUSTER))
    with Store.open(str(tmp_path / "one" / "flows.db"), create=False) as store:
        assert store.read().coverage.records == len(made)
    written = files(tmp_path / "one" / "policies")
    assert "shop/payments.yaml" in written
    schema = validator()
    for document in load([str(tmp_path / "one" / "policies")]):
        schema.validate(document.data)
    for edge in truth(CLUSTER).accepted:
        assert "shop/" not in f"{edge.source} {edge.destination}" or edge.source in first.output
    assert "Nothing else that is known changes." in first.output.split("A deployment that breaks")[1]
    assert "None of" in first.output.split("What would break")[1]
    for command in ("graph", "drops", "explain", "observe", "recommend", "diff"):
        assert f"{command} " in first.output.split("What to type next")[1]

    again = CliRunner().invoke(cli, ["demo", "-d", str(tmp_path / "two")])
    assert again.exit_code == 0
    assert files(tmp_path / "two" / "policies") == written


def test_the_demo_replaces_its_own_store_only(tmp_path: Path) -> None:
    for _ in range(2):
        assert CliRunner().invoke(cli, ["demo", "-d", str(tmp_path)]).exit_code == 0
    with Store.open(str(tmp_path / "flows.db"), create=False) as store:
        assert store.read().coverage.records == len(list(records(CLUSTER)))
