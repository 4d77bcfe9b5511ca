"""FileSource: flows from files of JSON lines - exporter files, ``hubble observe -o jsonpb`` - and from folders of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from analyzer.errors import SourceError
from analyzer.model.flow import Skip
from analyzer.sources.base import Batch, History, Position, Record, nothing_read_before
from analyzer.sources.content import Block, Lines, SampledDigest, open_content
from analyzer.sources.decode import Decoder
from analyzer.sources.decode_slow import unwrap

__all__ = ["FileSource", "files_in"]

_FLOW_FILE = re.compile(r".*\.(log|json|jsonl|ndjson|jsonpb|txt)(\.\d+)?(\.(gz|zst|zstd))?", re.IGNORECASE)
# lumberjack renames events.log to events-2026-09-13T14-43-50.263.log[.gz], and then starts a new events.log.
_ROTATED = re.compile(r"(.*?)-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})(\.[^.]+)(\..+)?")


def files_in(folder: Path) -> list[str]:
    """The flow files in `folder` and below, oldest first in each series of rotated files. Raises SourceError without any."""
    found = [path for path in folder.rglob("*") if path.is_file() and _FLOW_FILE.fullmatch(path.name)]
    if not found:
        raise SourceError(
            f"{folder}: no flow files in this folder",
            hint="looked for *.log, *.json, *.jsonl, *.ndjson, also .gz and .zst",
        )
    return [str(path) for path in sorted(found, key=_age)]


def _age(path: Path) -> tuple[str, str, str, str]:
    rotated = _ROTATED.fullmatch(path.name)
    series, stamp = (rotated[1], rotated[2]) if rotated else (path.name.partition(".")[0], "~")
    return str(path.parent), series, stamp, path.name


class FileSource:
    """Files, read one after the other: plain, gzip or zstd by content, ``-`` for standard input, folders of rotated files.

    Raises SourceError from `batches` at a file that cannot be read or is no Hubble JSON; what was read before stays yielded.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [str(path) for path in paths]
        self._closed = False
        self._decoder = Decoder()

    @property
    def name(self) -> str:
        return ", ".join(self._paths)

    def close(self) -> None:
        self._closed = True

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        for path in self._files():
            if self._closed:
                return
            yield from self._file(path, history)

    def _files(self) -> Iterator[str]:
        for path in self._paths:
            if path != "-" and Path(path).is_dir():
                yield from files_in(Path(path))
            else:
                yield path

    def _file(self, path: str, history: History) -> Iterator[Batch]:
        with open_content(path) as content:
            lines = Lines(content)
            stream, offset = yield from _skip_known(lines, history)
            reader = _LineReader(self._decoder)
            for block in lines.blocks():
                if self._closed:
                    return
                batch, read = self._decoded(reader, block, stream, offset)
                offset += block.size
                if not reader.understood and block.size:
                    raise SourceError(
                        f"{path}: not Hubble JSON: none of the first {reader.lines} lines is a record",
                        hint="flows are read as JSON lines: hubble observe -o jsonpb, or the exporter's files",
                    )
                yield batch
                if block.error:
                    raise SourceError(
                        f"{path}: {block.error}", hint=f"{read} records of its last part were read and kept"
                    )

    def _decoded(self, reader: _LineReader, block: Block, stream: str, offset: int) -> tuple[Batch, int]:
        records = list(reader.records(block.data))
        skipped = Counter({Skip.TOO_LONG: block.too_long}) if block.too_long else Counter[Skip]()
        position = Position(stream, offset, offset + block.size, block.digest)
        return Batch(records, position, skipped), len(records)


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
            stream = blake2b(f"{stream} {offset} {digest.hexdigest()}".encode(), digest_size=16).hexdigest()
            known = [each for each in history(stream) if each.start >= offset]
    return stream, offset


class _LineReader:
    """Lines to records, with the parts of long lines that container runtimes split joined again."""

    def __init__(self, decoder: Decoder) -> None:
        self._decode = decoder.decode
        self._parts: list[bytes] = []
        self.lines = 0
        self.understood = False

    def records(self, data: bytes) -> Iterable[Record]:
        decode = self._decode
        records = [
            record
            for line in data.split(b"\n")
            if (record := decode(line) if line[:1] == b"{" else self._odd(line)) is not None
        ]
        self.lines += len(records)
        if not self.understood:
            self.understood = not records or any(record is not Skip.MALFORMED for record in records)
        return records

    def _odd(self, line: bytes) -> Record | None:
        line = line.strip()
        if not line:
            return None
        line, whole = unwrap(line)
        if self._parts or not whole:
            self._parts.append(line)
            if not whole:
                return None
            line, self._parts = b"".join(self._parts), []
        return self._decode(line)
