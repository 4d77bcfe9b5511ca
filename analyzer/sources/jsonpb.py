"""FileSource: flows from files of JSON lines - exporter files, ``hubble observe -o jsonpb`` - and from folders of them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from analyzer.errors import SourceError
from analyzer.model.flow import Skip
from analyzer.sources.base import Batch, History, Position, Record, nothing_read_before
from analyzer.sources.content import LINE_LIMIT, Block, Lines, SampledDigest, branch, open_content
from analyzer.sources.decode import Decoder
from analyzer.sources.decode_slow import unwrap

__all__ = ["FileSource", "LineReader", "age", "files_in", "is_flow_file"]

_FLOW_FILE = re.compile(r".*\.(log|json|jsonl|ndjson|jsonpb|txt)(\.\d+)?(\.(gz|zst|zstd))?", re.IGNORECASE)
# lumberjack renames events.log to events-2026-09-13T14-43-50.263.log[.gz], and then starts a new events.log.
_ROTATED = re.compile(r"(.*?)-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})(\.[^.]+)(\..+)?")

_NOT_HUBBLE = (Skip.MALFORMED, Skip.EMPTY)
_MAX_LINES, _MAX_BYTES = 100_000, 64 << 20
"""Lines and bytes without a record after which a file is taken for something else: an agent's log may come first."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def files_in(folder: Path) -> list[str]:
    """The flow files in `folder` and below, oldest first in each series of rotated files. Raises SourceError without any."""
    found = [path for path in folder.rglob("*") if is_flow_file(path)]
    if not found:
        raise SourceError(
            f"{folder}: no flow files in this folder",
            hint="looked for *.log, *.json, *.jsonl, *.ndjson, also .gz and .zst",
        )
    return [str(path) for path in sorted(found, key=age)]


def is_flow_file(path: Path) -> bool:
    """Whether a file in a folder is taken for one with flows, by its name."""
    return bool(_FLOW_FILE.fullmatch(path.name)) and path.is_file()


def age(path: Path) -> tuple[str, str, str, str]:
    """Sorts the files of a series by age, the oldest first."""
    rotated = _ROTATED.fullmatch(path.name)
    series, stamp = (rotated[1], rotated[2]) if rotated else (path.name.partition(".")[0], "~")
    return str(path.parent), series, stamp, path.name


class FileSource:
    """Files, read one after the other: plain, gzip or zstd by content, ``-`` for standard input, folders of rotated files.

    Raises SourceError from `batches` at a file that cannot be read or is no Hubble JSON; what was read before stays yielded.
    A `decoder` that met lines of the same cluster before is faster.
    """

    def __init__(self, paths: Sequence[str | Path], decoder: Decoder | None = None) -> None:
        self._paths = [str(path) for path in paths]
        self._closed = False
        self._decoder = decoder or Decoder()

    @property
    def name(self) -> str:
        return ", ".join(self._paths)

    def close(self) -> None:
        self._closed = True

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        for path in self._paths:
            if path != "-" and Path(path).is_dir():
                yield from self._folder(path, history)
            else:
                yield from self._file(path, history)

    def _folder(self, folder: str, history: History) -> Iterator[Batch]:
        """One bad file does not hide the others: it is told when they are read."""
        failures: list[SourceError] = []
        for path in files_in(Path(folder)):
            try:
                yield from self._file(path, history)
            except SourceError as error:
                failures.append(error)
        if failures:
            more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
            raise SourceError(f"{failures[0]}{more}", hint=failures[0].hint)

    def _file(self, path: str, history: History) -> Iterator[Batch]:
        if self._closed:
            return
        with open_content(path, lambda: self._closed) as content:
            lines = Lines(content)
            beginning = lines.first_line()
            stream, offset = yield from _skip_known(lines, history)
            reader, held = LineReader(self._decoder, understood=offset > 0), list[Batch]()
            for block in lines.blocks():
                if self._closed:
                    return
                held.append(reader.batch(block, stream, offset))
                offset += block.size
                if not reader.understood and (reader.lines > _MAX_LINES or lines.size > _MAX_BYTES):
                    raise _no_hubble(path, beginning, reader.lines)
                # Nothing of a file that turns out to be no Hubble JSON should be kept.
                if reader.understood or not reader.lines:
                    yield from held
                    held.clear()
                if block.error:
                    raise SourceError(f"{path}: {block.error}", hint="what comes before that was read and kept")
            if held:
                raise _no_hubble(path, beginning, reader.lines)
            if reader.in_parts:
                yield Batch([Skip.MALFORMED])


def _no_hubble(path: str, beginning: bytes, lines: int) -> SourceError:
    if beginning.startswith(_UTF_16):
        return SourceError(f"{path}: is UTF-16, as PowerShell writes it", hint="convert it to UTF-8")
    return SourceError(
        f"{path}: not Hubble JSON: none of the first {lines} lines is a record",
        hint="flows are read as JSON lines: hubble observe -o jsonpb, or the exporter's files",
    )


def _skip_known(lines: Lines, history: History) -> Generator[Batch, None, tuple[str, int]]:
    """Pass over content that was read before. Returns the stream and the offset to go on from.

    Contents may begin alike and then differ: from there on it is a stream of its own, named after what differs.
    """
    stream, offset = blake2b(lines.first_line(), digest_size=16).hexdigest(), 0
    known = [each for each in history(stream) if each.start >= offset]
    while known and known[0].start == offset:
        expected = known.pop(0)
        data = lines.exactly(expected.end - expected.start)
        digest = SampledDigest()
        digest.update(data)
        if digest.hexdigest() == expected.digest:
            offset = expected.end
            count = sum(1 for line in data.split(b"\n") if line.strip())
            yield Batch((), None, {Skip.DUPLICATE: count})
        else:
            lines.unread(data)
            stream = branch(stream, offset, data)
            known = [each for each in history(stream) if each.start >= offset]
    return stream, offset


class LineReader:
    """Lines to records, with the parts of long lines that container runtimes split joined again.

    `lines` counts what was read; `understood` tells whether any of it came from Hubble.
    """

    def __init__(self, decoder: Decoder, *, understood: bool) -> None:
        self._decoder, self._decode = decoder, decoder.decode
        self._parts: list[bytes] = []
        self._size = 0
        self.lines = 0
        self.understood = understood

    def batch(self, block: Block, stream: str, offset: int) -> Batch:
        """The records of a block that begins at `offset` of `stream`."""
        records = None if self.in_parts else self._decoder.decode_block(block.data)
        if records is None:
            decode = self._decode
            records = [
                record
                for line in block.data.split(b"\n")
                if (record := decode(line) if line[:1] == b"{" else self._odd(line)) is not None
            ]
        self.lines += len(records) + block.too_long
        if not self.understood:
            self.understood = any(record not in _NOT_HUBBLE for record in records)
        position: Position | None = Position(stream, offset, offset + block.size, block.digest)
        # Half a line at the end may be whole the next time.
        if not block.size or (records == [Skip.MALFORMED] and not block.data.endswith(b"\n")):
            position = None
        return Batch(records, position, {Skip.TOO_LONG: block.too_long} if block.too_long else {})

    @property
    def in_parts(self) -> bool:
        """Whether the last part of a line in parts is still to come."""
        return bool(self._parts or self._size)

    def _odd(self, line: bytes) -> Record | None:
        line = line.strip().removeprefix(codecs.BOM_UTF8)
        if not line:
            return None
        line, whole = unwrap(line)
        if whole and not self.in_parts:
            return self._decode(line)
        return self._joined(line, whole)

    def _joined(self, line: bytes, whole: bool) -> Record | None:
        """The record of a line in parts, once it is whole. `_size` counts also the parts of a line that became too long."""
        self._size += len(line)
        if self._size > LINE_LIMIT:
            self._parts = []
        else:
            self._parts.append(line)
        if not whole:
            return None
        record = self._decode(b"".join(self._parts)) if self._size <= LINE_LIMIT else Skip.TOO_LONG
        self._parts, self._size = [], 0
        return record
