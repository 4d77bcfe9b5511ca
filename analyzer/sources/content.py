"""Bytes out of files: decompressed by content, in blocks of whole lines, fingerprinted whatever they are called."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple, cast

import zstandard

from analyzer.errors import SourceError

__all__ = ["BLOCK", "Block", "Lines", "SampledDigest", "open_content"]

BLOCK = 1 << 20
"""Bytes read at a time."""
LINE_LIMIT = 64 << 20
"""Longest line that is decoded, in bytes; a longer one is passed over and counted."""
_STEP, _SAMPLE = 64 << 10, 4 << 10
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def open_content(path: str) -> IO[bytes]:
    """Open a file, or standard input for ``-``, and decompress gzip and zstd, told by their magic numbers. Raises SourceError."""
    try:
        buffered = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        hint = "name a file, a folder, a store, or - for standard input"
        raise SourceError(f"{path}: no such file", hint=hint) from None
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    assert isinstance(buffered, io.BufferedReader)
    try:
        magic = buffered.peek(4)[:4]
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTD:
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return decompressor.stream_reader(buffered, read_across_frames=True)
    return buffered


class SampledDigest:
    """A fingerprint of content, whatever the pieces it comes in, made of the first 4 KiB of each 64 KiB.

    Flows carry uuids and nanoseconds, so that samples tell contents apart; hashing everything would slow down reading.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._offset = 0

    def update(self, data: bytes) -> None:
        start, end = self._offset, self._offset + len(data)
        for window in range(start - start % _STEP, end, _STEP):
            first, last = max(window, start), min(window + _SAMPLE, end)
            if first < last:
                self._hash.update(data[first - start : last - start])
        self._offset = end

    def hexdigest(self) -> str:
        finished = self._hash.copy()
        finished.update(str(self._offset).encode())
        return finished.hexdigest()


class Block(NamedTuple):
    """Whole lines (`data` ends with a line end, but for a last line without one), how many bytes of content they cover, and how
    many lines among them were too long to keep. `error` tells why nothing follows, when that is not the end of the content."""

    data: bytes
    size: int
    digest: str
    too_long: int = 0
    error: str = ""


class Lines:
    """Reads content in blocks of whole lines, or in exact numbers of bytes."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._ahead = b""
        self._error = ""

    def first_line(self) -> bytes:
        """The first line, or its first 64 KiB, without consuming it."""
        while b"\n" not in self._ahead and len(self._ahead) < _STEP:
            more = self._read(BLOCK)
            if not more:
                break
            self._ahead += more
        return self._ahead.partition(b"\n")[0][:_STEP]

    def exactly(self, size: int) -> bytes:
        """Consume `size` bytes, fewer at the end."""
        parts, taken = [], 0
        while taken < size and (data := self._take(min(size - taken, BLOCK))):
            parts.append(data)
            taken += len(data)
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Give back what was consumed last."""
        self._ahead = data + self._ahead

    def blocks(self) -> Iterator[Block]:
        """The rest, in blocks of about 1 MiB of whole lines."""
        digest, size, too_long, dropping = SampledDigest(), 0, 0, False
        parts: list[bytes] = []  # the beginning of a line whose end was not read yet
        while data := self._take(BLOCK):
            cut = data.rfind(b"\n") + 1
            data, rest = (data[:cut], data[cut:]) if cut else (data, b"")
            digest.update(data)
            size += len(data)
            if not dropping:
                parts.append(data)
            elif cut:
                parts, dropping = [data[data.find(b"\n") + 1 :]], False
            if cut:
                self._ahead = rest + self._ahead
                yield Block(b"".join(parts), size, digest.hexdigest(), too_long)
                digest, size, too_long, parts = SampledDigest(), 0, 0, []
            elif sum(map(len, parts)) > LINE_LIMIT:
                too_long, parts, dropping = too_long + 1, [], True
        if size or self._error:
            yield Block(b"".join(parts), size, digest.hexdigest(), too_long, self._error)

    def _take(self, size: int) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._read(size)

    def _read(self, size: int) -> bytes:
        if self._error:
            return b""
        try:
            return self._content.read(size)
        except EOFError:
            self._error = "the compressed data ends too early: the file was cut off, or is still being written"
        except (OSError, zlib.error, zstandard.ZstdError) as error:
            self._error = f"cannot be read any further: {error}"
        return b""
