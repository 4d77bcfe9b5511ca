"""Files of Hubble's JSON lines: however they are packed, cut, wrapped, rotated or damaged, every line is accounted for."""

from __future__ import annotations

import gzip
import json
import os
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from analyzer.errors import SourceError
from analyzer.model.flow import Flow, Skip
from analyzer.pipeline import read
from analyzer.sources import jsonpb
from analyzer.sources.base import Batch, Position
from analyzer.sources.content import BLOCK, LINE_LIMIT
from analyzer.sources.jsonpb import FileSource, files_in
from tests.cli.records import exported


def line(number: int, **fields: object) -> bytes:
    """An exporter's line of its own."""
    record = exported("web", "cart", 8080, second=number)
    record["flow"] |= {"uuid": f"uuid-{number:08d}", **fields}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(line(start + number) for number in range(count))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKED: dict[str, Callable[[bytes], bytes]] = {"plain": lambda data: data, "gzip": gzip.compress, "zstd": zstd}


@pytest.fixture(params=PACKED)
def pack(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return PACKED[request.param]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write content under a name that says nothing about how it is packed."""

    def written(data: bytes, name: str = "flows.log") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return written


Write = Callable[..., Path]


class Reading:
    """What came out of a source: the flows' uuids in order, everything else by its reason, positions, and the error."""

    def __init__(self, *paths: str | Path, known: list[Position] | None = None) -> None:
        self.uuids: list[str] = []
        self.skipped: Counter[Skip] = Counter()
        self.positions: list[Position] = []
        self.error: SourceError | None = None
        history = sorted(known or [])
        try:
            for batch in FileSource(paths).batches(lambda stream: [x for x in history if x.stream == stream]):
                self._take(batch)
        except SourceError as error:
            self.error = error

    def _take(self, batch: Batch) -> None:
        self.skipped.update(batch.skipped)
        for record in batch.records:
            if isinstance(record, Flow):
                self.uuids.append(record.uuid)
            else:
                assert isinstance(record, Skip)
                self.skipped[record] += 1
        if batch.position:
            self.positions.append(batch.position)

    @property
    def numbers(self) -> list[int]:
        return [int(uuid.rpartition("-")[2]) for uuid in self.uuids]


def test_content_tells_how_a_file_is_packed_not_its_name(write: Write, pack: Callable[[bytes], bytes]) -> None:
    found = Reading(write(pack(lines(3)), "flows.txt"))
    assert (found.numbers, found.skipped, found.error) == ([0, 1, 2], {}, None)


def test_members_and_frames_one_after_the_other_are_one_content(write: Write, pack: Callable[[bytes], bytes]) -> None:
    data = pack(lines(700)) + pack(b"") + pack(line(700)[:100]) + pack(line(700)[100:]) + pack(lines(300, 701))
    assert Reading(write(data)).numbers == list(range(1001))


def test_zeros_after_a_gzip_member_and_frames_without_content_are_no_damage(write: Write) -> None:
    assert Reading(write(gzip.compress(lines(3)) + b"\0" * 512, "padded")).error is None
    note = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    found = Reading(write(note + zstd(lines(3)) + note, "noted"))
    assert (found.numbers, found.error) == ([0, 1, 2], None)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("left", [0.999, 0.6, 0.3])
def test_every_whole_line_before_a_cut_is_read_and_the_cut_is_told(write: Write, kind: str, left: float) -> None:
    """Random uuids keep the compressed size near the content's, so that a cut falls where it says."""
    content = b"".join(line(n, extensions=os.urandom(600).hex()) for n in range(1500))
    packed = PACKED[kind](content)
    found = Reading(write(packed[: int(len(packed) * left)]))
    assert "too early" in str(found.error)
    assert found.numbers == list(range(len(found.numbers)))
    # A compressor's block is 128 KiB at most; what was cut is lost with the block it was in.
    assert len(found.numbers) >= 1500 * left - 2 * (128 << 10) / len(line(0, extensions="x" * 1200))
    assert not found.skipped


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_cut_in_the_last_bytes_or_the_first_is_told(write: Write, kind: str) -> None:
    packed = PACKED[kind](lines(5))
    for size in (len(packed) - 1, len(packed) - 4, 5):
        assert "too early" in str(Reading(write(packed[:size])).error), size
    assert Reading(write(PACKED[kind](lines(5)) + packed[:9])).numbers == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damage_in_the_middle_keeps_what_came_before(write: Write, kind: str) -> None:
    """Two members: the second is damaged."""
    packed = bytearray(PACKED[kind](lines(50)) + PACKED[kind](lines(50, 50)))
    packed[len(PACKED[kind](lines(50))) + 200] ^= 0xFF
    found = Reading(write(bytes(packed)))
    assert found.numbers[:50] == list(range(50))
    assert found.error is not None


def test_a_cut_does_not_keep_a_later_reading_of_the_whole_from_going_on(write: Write) -> None:
    content = b"".join(line(n, extensions=os.urandom(600).hex()) for n in range(1500))
    packed = gzip.compress(content)
    first = Reading(write(packed[: len(packed) // 2], "a.gz"))
    assert first.error
    second = Reading(write(packed, "b.gz"), known=first.positions)
    assert [*first.numbers, *second.numbers] == list(range(1500))
    assert second.skipped == {Skip.DUPLICATE: len(first.numbers)}


@pytest.mark.parametrize("size", [1_000, 3 * BLOCK, LINE_LIMIT + 3 * BLOCK])
def test_a_binary_file_is_an_error(write: Write, size: int) -> None:
    for byte in (b"\0", b"\x8f"):
        found = Reading(write(byte * size))
        assert "not Hubble JSON" in str(found.error)
        assert not found.positions


@pytest.mark.parametrize("kind", ["sparse", "gzip", "zstd"])
def test_no_content_takes_much_memory(write: Write, kind: str) -> None:
    """A gigabyte without a line end, and content made to explode when it is unpacked."""
    path = write(b"" if kind == "sparse" else PACKED[kind](b"\0" * (256 << 20)))
    if kind == "sparse":
        os.truncate(path, 1 << 30)
    tracemalloc.start()
    try:
        found = Reading(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "not Hubble JSON" in str(found.error)
    assert peak < 150 << 20


def test_a_binary_file_with_line_ends_is_an_error_before_it_is_read_to_its_end(write: Write) -> None:
    found = Reading(write(b"\x01\x02\xff\n" * 1_000_000 + lines(1)))
    assert "not Hubble JSON" in str(found.error)
    assert not found.skipped


def test_a_log_before_the_first_flow_is_counted(write: Write) -> None:
    log = b'time="2026-09-01" level=info msg="Starting"\n' * 40_000
    found = Reading(write(log + lines(3)))
    assert (found.numbers, found.skipped) == ([0, 1, 2], {Skip.MALFORMED: 40_000})


def test_json_that_is_no_hubble_is_an_error(write: Write) -> None:
    assert "not Hubble JSON" in str(Reading(write(b'{"name":"x"}\n{"name":"y"}\n')).error)


def test_a_file_in_utf_16_is_told_so(write: Write) -> None:
    assert "UTF-16" in str(Reading(write(lines(3).decode().encode("utf-16"))).error)


def test_a_byte_order_mark_is_no_damage(write: Write) -> None:
    assert Reading(write(b"\xef\xbb\xbf" + lines(2))).numbers == [0, 1]


def test_a_line_of_10_mb_is_read(write: Write, pack: Callable[[bytes], bytes]) -> None:
    found = Reading(write(pack(line(0) + line(1, Summary="x" * 10_000_000) + line(2))))
    assert (found.numbers, found.skipped) == ([0, 1, 2], {})


def test_longer_lines_are_passed_over_and_counted(write: Write) -> None:
    long = [line(n, Summary="x" * (LINE_LIMIT + 5 + n * BLOCK)) for n in (1, 2)]
    found = Reading(write(line(0) + long[0] + long[1] + line(3) + long[0][:-1]))
    assert (found.numbers, found.skipped) == ([0, 3], {Skip.TOO_LONG: 3})
    assert found.positions[-1].end == 2 * len(line(0)) + 2 * len(long[0]) + len(long[1]) - 1


@pytest.mark.parametrize(
    "bad", [b"\xff\xfe\x00", b'{"flow":{"uuid":"\xff"}}', b"nonsense", b"[1]", b'{"flow":5}', b"{"]
)
def test_a_bad_line_among_good_ones_is_counted(write: Write, bad: bytes) -> None:
    found = Reading(write(line(0) + bad + b"\n" + line(1)))
    assert (found.numbers, found.skipped, found.error) == ([0, 1], {Skip.MALFORMED: 1}, None)


def test_invalid_utf_8_in_an_endpoint_is_counted(write: Write) -> None:
    found = Reading(write(line(0).replace(b"app=web", b"app=\xff") + line(1)))
    assert (found.numbers, found.skipped) == ([1], {Skip.MALFORMED: 1})


@pytest.mark.parametrize(
    "data", [b"", b"\n\n \r\n\n", gzip.compress(b""), zstd(b"")], ids=("nothing", "line ends", "gzip", "zstd")
)
def test_an_empty_file_holds_nothing_and_is_no_error(write: Write, data: bytes) -> None:
    found = Reading(write(data))
    assert (found.uuids, found.skipped, found.error) == ([], {}, None)


def test_a_missing_file_and_a_folder_without_flows_are_told(tmp_path: Path) -> None:
    assert "gone.log: no such file" in str(Reading(tmp_path / "gone.log").error)
    assert "no flow files" in str(Reading(tmp_path).error)
    assert Reading("nul\0in-a-name").error is not None


def test_the_last_line_needs_no_line_end(write: Write) -> None:
    assert Reading(write(lines(3)[:-1])).numbers == [0, 1, 2]


def test_windows_line_ends(write: Write) -> None:
    found = Reading(write(lines(3).replace(b"\n", b"\r\n")))
    assert (found.numbers, found.skipped) == ([0, 1, 2], {})


# Wrapping

CRI = b"2026-09-01T00:00:00.000000001Z stdout "


def test_lines_of_a_container_runtime(write: Write) -> None:
    wrapped = b"".join(CRI + b"F " + line(n) for n in range(3))
    assert Reading(write(wrapped)).numbers == [0, 1, 2]


def test_parts_of_a_line_are_joined_across_reads(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    long = line(1, Summary="x" * 40_000)
    parts = [long[at : at + 16_384] for at in range(0, len(long) - 1, 16_384)]
    wrapped = CRI + b"F " + line(0) + b"".join(CRI + b"P " + part.rstrip(b"\n") + b"\n" for part in parts[:-1])
    wrapped += CRI + b"F " + parts[-1] + CRI + b"F " + line(2)
    for block in (BLOCK, 1000):
        monkeypatch.setattr("analyzer.sources.content.BLOCK", block)
        found = Reading(write(wrapped))
        assert (found.numbers, found.skipped) == ([0, 1, 2], {})


def test_parts_without_a_last_one_are_one_record_and_parts_without_end_take_no_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonpb, "LINE_LIMIT", 1000)
    endless = (CRI + b"P " + b"x" * 400 + b"\n") * 5
    assert Reading(write(lines(1) + endless)).skipped == {Skip.MALFORMED: 1}
    found = Reading(write(endless + CRI + b"F y\n" + CRI + b"F " + line(1)))
    assert (found.numbers, found.skipped) == ([1], {Skip.TOO_LONG: 1})


def test_lines_of_fluent_bit_and_loki(write: Write) -> None:
    def wrapped(inner: bytes) -> bytes:
        return json.dumps({"log": inner.decode(), "stream": "stdout"}).encode() + b"\n"

    data = wrapped(line(0)) + wrapped(CRI + b"F " + line(1)) + CRI + b"F " + wrapped(line(2)) + wrapped(b"hello")
    found = Reading(write(data))
    assert (found.numbers, found.skipped) == ([0, 1, 2], {Skip.MALFORMED: 1})


# Folders, rotation, positions


def test_a_folder_is_read_oldest_first_in_each_series(tmp_path: Path, write: Write) -> None:
    write(lines(1, 4), "node-1/events.log")
    write(gzip.compress(lines(2, 0)), "node-1/events-2026-09-01T10-00-00.000.log.gz")
    write(lines(2, 2), "node-1/events-2026-09-01T11-00-00.000.log")
    write(zstd(lines(1, 5)), "node-2/events.log.1.zst")
    write(b"\x7fELF", "node-2/notes.bin")
    assert Reading(tmp_path).numbers == [0, 1, 2, 3, 4, 5]
    assert len(files_in(tmp_path)) == 4


def test_one_bad_file_in_a_folder_does_not_hide_the_others(tmp_path: Path, write: Write) -> None:
    write(gzip.compress(lines(2))[:-9], "a.log.gz")
    write(lines(2, 2), "b.log")
    write(b"\0" * 100, "c.log")
    write(lines(2, 4), "d.log")
    found = Reading(tmp_path)
    assert found.numbers[-4:] == [2, 3, 4, 5]
    assert "a.log.gz" in str(found.error)
    assert "1 more" in str(found.error)


def test_the_same_file_twice_counts_once(write: Write, pack: Callable[[bytes], bytes]) -> None:
    first = Reading(write(lines(2000), "events.log"))
    again = Reading(write(pack(lines(2000)), "events-2026-09-01T10-00-00.000.log.gz"), known=first.positions)
    assert (again.uuids, again.skipped, again.positions) == ([], {Skip.DUPLICATE: 2000}, [])


def test_a_file_that_has_grown_goes_on_where_it_ended(write: Write) -> None:
    whole = lines(2000)
    for cut in (len(lines(700)), len(lines(700)) - 1, len(lines(700)) + 100):
        first = Reading(write(whole[:cut]))
        second = Reading(write(whole), known=first.positions)
        assert [*first.numbers, *second.numbers] == list(range(2000)), cut
        assert second.skipped[Skip.MALFORMED] == 0
        third = Reading(write(whole + line(2000)), known=[*first.positions, *second.positions])
        assert third.numbers == [2000]


def test_contents_that_begin_alike_are_told_apart(write: Write) -> None:
    one, other = lines(2000), lines(1500) + lines(500, 5000)
    first = Reading(write(one))
    second = Reading(write(other), known=first.positions)
    assert second.numbers[-500:] == list(range(5000, 5500))
    both = [*first.positions, *second.positions]
    assert not Reading(write(one), known=both).uuids
    assert not Reading(write(other), known=both).uuids


def test_positions_cover_a_file_without_gap(write: Write) -> None:
    content = lines(4000)
    positions = Reading(write(content)).positions
    assert len(positions) > 1
    assert [each.start for each in positions] == [0, *(each.end for each in positions[:-1])]
    assert positions[-1].end == len(content)


def test_every_line_is_accounted_for(write: Write) -> None:
    other = [
        b'{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"3"},"node_name":"n"}',
        b'{"node_status":{"state_change":"NODE_CONNECTED","node_names":["n"]}}',
        b'{"agent_event":{"type":"AGENT_STARTED"}}',
        b'{"debug_event":{}}',
        b"{}",
        b"what?",
        b'{"flow":{"verdict":"FORWARDED"}}',
    ]
    content = lines(50) + b"\n".join(other) + b"\n\n" + lines(50)
    coverage = read([FileSource([write(content)])]).coverage
    assert coverage.records == 50 + len(other) + 50
    assert coverage.lost.total() == 3


# Standard input


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input as a pipe; the fixture is the end to write to."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as reader:
        monkeypatch.setattr("sys.stdin", reader)
        yield write_end


def test_standard_input_is_unpacked_too(piped: int, pack: Callable[[bytes], bytes]) -> None:
    with os.fdopen(piped, "wb") as writer:
        writer.write(pack(lines(20)))
    assert Reading("-").numbers == list(range(20))


def test_what_a_pipe_holds_is_the_content_a_file_holds(piped: int, write: Write) -> None:
    content = lines(3000)

    def feed() -> None:
        with os.fdopen(piped, "wb") as writer:
            writer.write(content)

    thread = threading.Thread(target=feed)
    thread.start()
    found = Reading("-")
    thread.join()
    assert found.numbers == list(range(3000))
    assert not Reading(write(content), known=found.positions).uuids


def test_a_silent_pipe_yields_empty_batches_and_ends_when_it_is_closed(piped: int) -> None:
    """Who reads can act by the clock, and Ctrl-C need not wait for the next flow."""
    source = FileSource(["-"])
    batches = source.batches()
    os.write(piped, lines(2) + line(2)[:50])
    first = next(batches)
    assert len(first.records) == 2
    silence = next(batches)
    assert not silence.records
    assert silence.position is None
    os.write(piped, line(2)[50:])
    assert len(next(batches).records) == 1
    source.close()
    assert list(batches) == []
    os.close(piped)


def test_standard_input_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert "closed" in str(Reading("-").error)


def test_closing_ends_reading(write: Write) -> None:
    source = FileSource([write(lines(5000)), write(lines(5, 5000), "other.log")])
    batches = source.batches()
    next(batches)
    source.close()
    assert list(batches) == []
