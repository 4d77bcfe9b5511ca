"""Files that grow while they are read: whatever rotation does to them, every line counts once, in this process or the next."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from analyzer.errors import SourceError
from analyzer.model.flow import Flow, Skip
from analyzer.sources.base import Batch, Position
from analyzer.sources.jsonpb import FileSource
from analyzer.sources.tail import TailSource, series
from tests.cli.records import exported


def line(number: int) -> str:
    record = exported("web", "cart", 8080)
    record["flow"]["uuid"] = f"u{number}"
    return json.dumps(record) + "\n"


def lines(start: int, end: int) -> str:
    return "".join(map(line, range(start, end)))


def names(*numbers: int) -> list[str]:
    return [f"u{number}" for number in range(*numbers)]


class Reader:
    """Reads a tail step by step, and writes down what it read as a store would."""

    def __init__(self, *paths: Path, record: dict[str, list[Position]] | None = None, quiet: float = 0) -> None:
        self.rows: dict[str, list[Position]] = {} if record is None else record
        self.news: list[str] = []
        self.source = TailSource([str(path) for path in paths], news=self.news.append, poll=0, scan=0, quiet=quiet)
        self._batches = self.source.batches(lambda stream: sorted(self.rows.get(stream, [])))
        self._marks: set[Callable[[], Sequence[Position]]] = set()
        self._pending: list[Position] = []
        self.duplicates = 0
        self.written = 0
        self.uuids: list[str] = []

    def step(self, rounds: int = 6) -> list[str]:
        """What came since the last time."""
        before = len(self.uuids)
        while rounds:
            batch = next(self._batches)
            self._take(batch)
            rounds -= not batch.records and not batch.skipped
        return self.uuids[before:]

    def _take(self, batch: Batch) -> None:
        self.uuids += [record.uuid if isinstance(record, Flow) else str(record) for record in batch.records]
        self.duplicates += batch.skipped.get(Skip.DUPLICATE, 0)
        self._pending += [batch.position] if batch.position else []
        if batch.mark is not None:
            self._marks.add(batch.mark)

    def flush(self) -> None:
        self._write(self._pending)
        self._pending = []
        for mark in self._marks:
            self._write(mark())
        self.written = len(self.uuids)

    def _write(self, positions: Sequence[Position]) -> None:
        for each in positions:
            rows = self.rows.setdefault(each.stream, [])
            assert all(each.end <= row.start or row.end <= each.start for row in rows)
            rows.append(each)

    def close(self) -> None:
        self.source.close()
        list(self._batches)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.log"
    path.write_text(lines(0, 10))
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_is_there_and_then_what_comes(log: Path) -> None:
    reader = Reader(log)
    assert reader.step() == names(0, 10)
    assert reader.step() == []
    append(log, lines(10, 12))
    assert reader.step() == names(10, 12)
    reader.close()


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    reader = Reader(log)
    reader.step()
    append(log, line(10)[:200])
    assert reader.step() == []
    append(log, line(10)[200:])
    assert reader.step() == ["u10"]


def test_an_empty_file_waits_for_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_text("")
    reader = Reader(path)
    assert reader.step() == []
    append(path, line(0)[:100])
    assert reader.step() == []
    append(path, line(0)[100:])
    assert reader.step() == ["u0"]


@pytest.mark.parametrize("rotated", ["events-2026-09-13T14-43-50.263.log", "events.log.1", "events.log-20260913"])
def test_renamed_with_last_words_after_it(log: Path, rotated: str) -> None:
    reader = Reader(log)
    reader.step()
    append(log, lines(10, 12))
    log.rename(log.parent / rotated)
    append(log, lines(20, 22))
    append(log.parent / rotated, lines(12, 14))
    assert sorted(reader.step()) == sorted([*names(10, 14), *names(20, 22)])


def pack(path: Path, kind: str) -> None:
    data = path.read_bytes()
    packed = gzip.compress(data) if kind == "gz" else zstandard.compress(data)
    path.with_name(f"{path.name}.{kind}").write_bytes(packed)
    path.unlink()


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("flushed", [False, True])
def test_renamed_and_compressed_between_two_looks(log: Path, kind: str, flushed: bool) -> None:
    reader = Reader(log)
    reader.step()
    if flushed:
        reader.flush()
    append(log, lines(10, 12))
    log.rename(log.with_name("events.log.1"))
    pack(log.with_name("events.log.1"), kind)
    append(log, lines(20, 22))
    assert sorted(reader.step(10)) == sorted([*names(10, 12), *names(20, 22)])
    assert reader.duplicates == 12
    assert sorted(reader.uuids) == sorted([*names(0, 12), *names(20, 22)])


def test_a_compressed_file_that_is_not_whole_yet(log: Path) -> None:
    reader = Reader(log)
    reader.step()
    whole = gzip.compress(lines(50, 90).encode())
    packed = log.with_name("events.log.2.gz")
    packed.write_bytes(whole[: len(whole) // 2])
    assert reader.step() == []
    assert "ends too early" in reader.news[0]
    packed.write_bytes(whole)
    assert reader.step(10) == names(50, 90)


def test_copied_and_truncated(log: Path) -> None:
    """The copy comes in pieces, while the original is being read; and has something that was never seen in the original."""
    reader = Reader(log)
    reader.step()
    whole = log.read_bytes() + lines(10, 12).encode()
    copy = log.with_name("events.log.1")
    for part in (whole[:3000], whole[3000:9000], whole[9000:]):
        with copy.open("ab") as file:
            file.write(part)
        reader.step()
    log.write_text("")
    append(log, lines(20, 23))
    reader.step(10)
    assert sorted(reader.uuids) == sorted([*names(0, 12), *names(20, 23)])


def test_truncated_and_grown_beyond_where_it_was_between_two_looks(log: Path) -> None:
    reader = Reader(log)
    reader.step()
    log.write_text(lines(100, 130))
    assert reader.step(10) == names(100, 130)
    assert "overwritten" in reader.news[0]


def test_overwritten_and_rotated_away_between_two_looks(log: Path) -> None:
    reader = Reader(log)
    reader.step()
    log.write_text(lines(100, 130))
    log.rename(log.with_name("events.log.1"))
    pack(log.with_name("events.log.1"), "gz")
    assert reader.step(10) == names(100, 130)


def test_removed_with_half_a_line_at_its_end(log: Path) -> None:
    reader = Reader(log)
    reader.step()
    append(log, line(10).rstrip("\n"))
    log.unlink()
    assert reader.step() == ["u10"]
    log.write_text(lines(20, 22))
    assert reader.step() == names(20, 22)


def test_a_folder_and_what_is_added_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "node-1"
    folder.mkdir(parents=True)
    (folder / "events.log").write_text(lines(0, 3))
    (folder / "notes.md").write_text("nothing")
    reader = Reader(tmp_path / "logs")
    assert reader.step() == names(0, 3)
    (tmp_path / "logs" / "node-2").mkdir()
    (tmp_path / "logs" / "node-2" / "events.log").write_text(lines(10, 13))
    append(folder / "events.log", lines(3, 5))
    assert sorted(reader.step()) == sorted([*names(3, 5), *names(10, 13)])


def test_several_paths_at_a_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.log", tmp_path / "b.log"]
    for number, path in enumerate(paths):
        path.write_text(lines(number * 10, number * 10 + 2))
    reader = Reader(*paths)
    assert sorted(reader.step()) == sorted([*names(0, 2), *names(10, 12)])
    append(paths[0], lines(2, 4))
    assert reader.step() == names(2, 4)


@pytest.mark.parametrize("first", ["\n", line(0)])
def test_two_files_that_begin_alike_and_go_on_differently(tmp_path: Path, first: str) -> None:
    """Such as two captures of one moment with different filters. Each is read, as it grows and by the next process."""
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text(first + lines(100, 140))
    two.write_text(first + lines(200, 203))
    reader = Reader(tmp_path, quiet=3600)
    expected = {*names(100, 140), *names(200, 203)}
    assert set(reader.step()) >= expected
    reader.flush()
    append(one, lines(140, 142))
    append(two, lines(203, 260))
    assert sorted(reader.step()) == sorted([*names(140, 142), *names(203, 260)])
    reader.flush()
    reader.close()
    append(two, lines(260, 262))
    again = Reader(tmp_path, record=reader.rows, quiet=3600)
    assert again.step(10) == names(260, 262)
    again.flush()
    again.close()
    pack(two, "gz")
    third = Reader(tmp_path, record=reader.rows)
    assert third.step(10) == []
    assert third.duplicates >= 62


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_that_only_begins_like_one_being_read(log: Path, kind: str) -> None:
    other = log.with_name("other.log")
    other.write_text(line(0) + lines(50, 55))
    pack(other, kind)
    reader = Reader(log.parent)
    assert sorted(set(reader.step(12))) == sorted({*names(0, 10), *names(50, 55)})


def test_a_copy_that_turns_out_to_be_another_file(log: Path) -> None:
    copy = log.with_name("events.log.1")
    reader = Reader(log)
    reader.step()
    copy.write_text(lines(0, 5))
    assert reader.step() == []
    append(copy, lines(50, 53))
    assert set(reader.step()) >= set(names(50, 53))


@pytest.mark.parametrize("kind", ["", "gz"])
def test_a_copy_that_was_left_behind_hides_nothing(tmp_path: Path, kind: str) -> None:
    """Such as a backup in the same folder, which is read before the file that it was made of."""
    copy, log = tmp_path / "a-backup.log", tmp_path / "events.log"
    copy.write_text(lines(0, 10))
    reader = Reader(tmp_path)
    assert reader.step() == names(0, 10)
    log.write_text(lines(0, 15))
    if kind:
        pack(log, kind)
    assert reader.step(12) == names(10, 15)
    if not kind:
        append(log, lines(15, 17))
        assert reader.step() == names(15, 17)
    append(copy, lines(50, 53))
    assert set(names(50, 53)) <= set(reader.step(12))


def test_overwritten_by_as_much_that_begins_alike(log: Path) -> None:
    log.write_text(lines(0, 20))
    reader = Reader(log)
    reader.step()
    log.write_text(line(0) + lines(50, 69))
    assert set(names(50, 69)) <= set(reader.step())


def test_a_file_shorter_than_what_is_known_of_how_it_begins(tmp_path: Path) -> None:
    """Nobody knows whether it is a part of that; it is read when nothing is added to it any more, and then stays known."""
    whole, short = tmp_path / "whole.log", tmp_path / "short.log"
    whole.write_text(lines(0, 50))
    first = Reader(whole)
    first.step()
    first.flush()
    first.close()
    whole.unlink()
    short.write_text(line(0) + lines(100, 130))
    waiting = Reader(short, record=first.rows, quiet=3600)
    assert waiting.step() == []
    waiting.close()
    second = Reader(short, record=first.rows)
    assert set(second.step()) >= set(names(100, 130))
    second.flush()
    second.close()
    third = Reader(short, record=first.rows)
    assert third.step() == []


@pytest.mark.parametrize("meanwhile", ["nothing", "grown", "renamed", "compressed", "copied"])
def test_the_next_process_goes_on_by_content(log: Path, meanwhile: str) -> None:
    first = Reader(log)
    first.step()
    first.flush()
    append(log, lines(10, 12))
    first.step()  # read, but never written down
    first.close()
    expected = names(10, 12)
    if meanwhile == "grown":
        append(log, lines(12, 14))
        expected = names(10, 14)
    elif meanwhile != "nothing":
        (shutil.copy if meanwhile == "copied" else shutil.move)(str(log), str(log.with_name("events.log.1")))
        if meanwhile == "compressed":
            pack(log.with_name("events.log.1"), "gz")
        log.write_text(lines(20, 22))
        expected = [*names(10, 12), *names(20, 22)]
    second = Reader(log, record=first.rows)
    assert sorted(second.step(12)) == sorted(expected)


def test_what_was_read_once_is_known_to_a_tail_and_the_other_way_round(log: Path) -> None:
    rows: dict[str, list[Position]] = {}
    for batch in FileSource([log]).batches():
        assert batch.position is not None
        rows.setdefault(batch.position.stream, []).append(batch.position)
    append(log, lines(10, 12))
    reader = Reader(log, record=rows)
    assert reader.step() == names(10, 12)
    reader.flush()
    reader.close()
    assert [batch.records for batch in FileSource([log]).batches(lambda stream: sorted(rows[stream]))] == [(), ()]


def test_a_line_that_is_no_record_is_counted(log: Path) -> None:
    append(log, "what?\n" + line(10))
    reader = Reader(log)
    assert reader.step() == [*names(0, 10), str(Skip.MALFORMED), "u10"]


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        next(TailSource([str(tmp_path / "nothing")]).batches())


def test_names_of_a_series() -> None:
    pattern = series(Path("/var/run/cilium/events.log"))
    for name in (
        "events.log", "events.log.1", "events.log.12.gz", "events-2026-09-13T14-43-50.263.log.gz",
        "events.log-20260913.zst", "events-20260913.log",
    ):  # fmt: skip
        assert pattern.fullmatch(name), name
    for name in ("events.logs", "events-of-mine.log", "other.log", "events.log.bak", "xevents.log"):
        assert not pattern.fullmatch(name), name


def rotate(log: Path, rng: random.Random, serial: Iterator[int]) -> None:
    kind = rng.choice(["rename", "compress", "truncate"])
    target = log.with_name(f"events.log.{next(serial)}")
    if kind == "truncate":
        shutil.copyfile(log, target)
        os.truncate(log, 0)
        return
    log.rename(target)
    if kind == "compress":
        pack(target, "gz")


@pytest.mark.parametrize("seed", range(8))
def test_anything_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Written, rotated in every way, read, flushed and killed at random: every flow is written down once."""
    rng = random.Random(seed)
    log, serial, made, written = tmp_path / "events.log", iter(range(1, 1000)), 0, list[str]()
    log.write_text("")
    rows: dict[str, list[Position]] = {}
    reader = Reader(log, record=rows)
    for _ in range(40):
        count = rng.randrange(1, 6)
        append(log, lines(made, made + count))
        made += count
        reader.step(rng.choice([0, 1, 2, 8]))
        if rng.random() < 0.4:
            reader.flush()
        if rng.random() < 0.3:
            rotate(log, rng, serial)
        if rng.random() < 0.15:
            written += reader.uuids[: reader.written]
            reader.close()
            reader = Reader(log, record=rows)
    reader.step(12)
    written += reader.uuids
    assert sorted(written) == sorted(names(made))
