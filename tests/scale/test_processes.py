"""Files read by several processes: the same table as one process gives, shared content once, errors and an early end told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from analyzer.demo import lines
from analyzer.errors import SourceError
from analyzer.pipeline import read, read_files
from analyzer.scale import Processes, expanded
from analyzer.sources.filters import Selection, parse_filters
from analyzer.sources.jsonpb import FileSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rotated files, one of them packed."""
    made = tmp_path_factory.mktemp("flows")
    for number in range(3):
        content = b"".join(lines(number, 400, edges=50))
        name = f"events-2026-09-01T0{number}-00-00.000.log"
        (made / (f"{name}.gz" if number == 0 else name)).write_bytes(gzip.compress(content) if number == 0 else content)
    return made


def test_the_same_table_as_one_process(folder: Path) -> None:
    alone = read([FileSource([folder])])
    assert alone.coverage.records == 1200
    assert read_files([str(folder)], Processes(2)) == alone
    assert read_files(reversed(expanded([str(folder)])), Processes(3)) == alone


def test_filters_hold_in_every_process(folder: Path) -> None:
    keep = Selection(parse_filters([{"destination_port": ["53"]}]), ())
    assert read_files([str(folder)], Processes(2), keep) == read([FileSource([folder])], keep)


def test_content_that_files_share_counts_once(folder: Path, tmp_path: Path) -> None:
    first, second = expanded([str(folder)])[1:]
    whole = tmp_path / "grown.log"
    whole.write_bytes(Path(first).read_bytes() + Path(second).read_bytes())
    copy = tmp_path / "copy.log.gz"
    copy.write_bytes(gzip.compress(Path(first).read_bytes()))
    paths = [first, str(copy), second]
    found = read_files(paths, Processes(2))
    assert found == read([FileSource(paths)])
    assert sum(stats.weight for stats in found.edges.values()) == read([FileSource([whole])]).coverage.edge_records


def test_a_bad_file_is_named(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(bytes(range(256)) * 2000)
    with pytest.raises(SourceError, match=r"bad\.json"):
        read_files([str(folder), str(bad)], Processes(2))


def test_each_file_has_a_table_of_its_own_whatever_its_process_read_before(folder: Path, tmp_path: Path) -> None:
    first, *_, last = expanded([str(folder)])
    cut = tmp_path / "cut.log.gz"
    cut.write_bytes(Path(first).read_bytes()[:-200])
    parts = list(Processes(1).read([last, str(cut), first, last], None))
    assert [bool(part.error) for part in parts] == [False, True, False, False]
    for part in parts[:1] + parts[2:]:
        assert part.table == read([FileSource([part.path])])
    assert 0 < parts[1].table.coverage.records < 400


def test_an_early_end_keeps_what_was_read(folder: Path) -> None:
    processes = Processes(2)
    processes.close()
    assert read_files([str(folder)], processes).coverage.records < 1200
