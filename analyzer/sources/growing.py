"""GrowingFile: one file that somebody writes to, read as far as it goes, and told apart by its content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b

from analyzer.sources.base import Batch, History, Position
from analyzer.sources.content import BLOCK, Lines, SampledDigest, branch
from analyzer.sources.decode import Decoder
from analyzer.sources.jsonpb import LineReader

__all__ = ["GrowingFile", "stream_of"]

_FIRST_LINE = 64 << 10
"""Bytes of a first line that make a fingerprint, as of a file that is read once."""
_HEAD = 4 << 10
"""Bytes looked at where a file began and where it ended, to see whether it is still the same."""
_SPAN = 4 << 20
"""Bytes that one position covers at most: whoever reads the content again reads that much to see whether it is the same, and of
a copy that was cut off within a position that much counts again."""


def stream_of(first_line: bytes) -> str:
    """The fingerprint of content that begins with this line."""
    return blake2b(first_line[:_FIRST_LINE], digest_size=16).hexdigest()


class GrowingFile:
    """Lines of an open file from where they are not known yet. `positions` collects what was read. Close it after use.

    `read` goes as far as the file goes and can be called again. Half a line at the end waits for its other half, until
    `ending` is set: then it is a line. A file that was emptied, or overwritten from its beginning, is another one:
    `overwritten` tells, and this one gives nothing more. Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: str, decoder: Decoder, descriptor: int | None = None) -> None:
        self.path = path
        self.ending = False
        self.positions: list[Position] = []
        self.began = ""
        """The fingerprint of its first line, once it is being read."""
        self._stream = ""
        self._file = open(path if descriptor is None else descriptor, "rb", buffering=0)  # noqa: SIM115 - closed by close
        self._decoder = decoder
        self._head = self._last = b""
        self._read_to = 0
        self._end = 0
        self._told = 0
        self._digest = SampledDigest()
        self._uncovered = b""
        self._batches: Iterator[Batch] | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: the same under every name."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino

    @property
    def state(self) -> tuple[int, int]:
        """Size, and time of the last change in ns."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def unread(self) -> int:
        """Bytes that were not looked at yet."""
        return max(0, self.size - self._read_to)

    @property
    def overwritten(self) -> bool:
        """Whether what was read is not there any more: it is shorter, or other bytes are where it began or where it ended."""
        last = self._at(self._read_to - len(self._last), len(self._last))
        return self.size < self._read_to or self._at(0, len(self._head)) != self._head or last != self._last

    def close(self) -> None:
        self._file.close()

    def anew(self) -> GrowingFile:
        """The same file, which may have no name any more, as if nothing of it was read."""
        return GrowingFile(self.path, self._decoder, os.dup(self._file.fileno()))

    def first_line(self) -> bytes | None:
        """The first line, or the beginning of a very long one; None while it has no end."""
        start = self._at(0, _FIRST_LINE)
        if b"\n" not in start and len(start) < _FIRST_LINE and not self.ending:
            return None
        return start.partition(b"\n")[0]

    def begin(self, stream: str, history: History, *, another: bool) -> bool:
        """Find where to go on from. False if the file is shorter than what is known of its content: then it is being copied, or
        is `another` that only begins alike.
        """
        self.began = stream
        offset, known = 0, list(history(stream))
        while known and known[0].start == offset:
            expected = known.pop(0)
            short = expected.end > self.size
            if short and not another:
                return False
            if not short and self._digest_of(offset, expected.end) == expected.digest:
                offset = expected.end
            else:
                # Contents may begin alike and then differ: as of a file that is read once (`jsonpb`).
                stream = branch(stream, offset, self._at(offset, BLOCK))
                known = [each for each in history(stream) if each.start >= offset]
        self._stream = stream
        self._head = self._at(0, min(_HEAD, self.size))
        self._read_to = self._end = self._told = offset
        self._last = self._at(max(0, offset - _HEAD), min(_HEAD, offset))
        self._batches = self._decoded()
        return True

    def read(self) -> Iterator[Batch]:
        """What has been added, in batches of about 1 MiB."""
        while self._batches is not None:
            batch = next(self._batches, None)
            if batch is None:
                self._batches = None
            elif not batch.records and not batch.skipped:
                return
            else:
                yield batch

    def cut(self) -> None:
        """End the position that covers what was read last."""
        if self._end > self._told:
            self.positions.append(Position(self._stream, self._told, self._end, self._digest.hexdigest()))
            self._told, self._digest = self._end, SampledDigest()

    def same(self, offset: int, data: bytes) -> bool:
        """Whether it has these bytes there, as far as it goes."""
        return data.startswith(self._at(offset, len(data)))

    def begins_like(self, other: GrowingFile) -> bool:
        """Whether one is the beginning of the other."""
        both = min(self.size, other.size)
        return all(other.same(at, self._at(at, BLOCK)[: both - at]) for at in range(0, both, BLOCK))

    def _decoded(self) -> Iterator[Batch]:
        reader = LineReader(self._decoder, understood=True)
        for block in Lines(self._pieces()).blocks():
            batch = reader.batch(block, self._stream, self._end)
            covered, self._uncovered = self._uncovered[: block.size], self._uncovered[block.size :]
            self._digest.update(covered)
            self._end += block.size
            if self._end - self._told >= _SPAN:
                self.cut()
            yield batch._replace(position=None)

    def _pieces(self) -> Iterator[bytes]:
        while True:
            data = self._at(self._read_to, BLOCK)
            if not data and self.ending:
                return
            self._read_to += len(data)
            self._last = (self._last + data)[-_HEAD:]
            self._uncovered += data
            yield data

    def _digest_of(self, start: int, end: int) -> str:
        digest = SampledDigest()
        while start < end and (data := self._at(start, min(BLOCK, end - start))):
            digest.update(data)
            start += len(data)
        return digest.hexdigest()

    def _at(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)
