"""Bytes out of files: decompressed by content, in blocks of whole lines, fingerprinted whatever they are called."""

from __future__ import annotations

import os
import select
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import zstandard

from analyzer.errors import SourceError

__all__ = ["BLOCK", "LINE_LIMIT", "Block", "Lines", "Pieces", "SampledDigest", "branch", "open_content", "packed"]

BLOCK = 128 << 10
"""Bytes read at a time: few enough that they and the flows made of them stay in a processor's cache."""
LINE_LIMIT = 16 << 20
"""Longest line that is decoded, in bytes; a longer one is passed over and counted."""
_STEP, _SAMPLE, _BRANCH = 64 << 10, 4 << 10, 512
_SILENCE = 1.0
"""Seconds after which a pipe hands on what it has, be it nothing."""

Pieces = Iterator[bytes]
"""Content in pieces of any size. An empty piece is not the end, but a pipe that has nothing to say at the moment."""


class _Packing(NamedTuple):
    """A compression: how content packed by it begins, what unpacks one member (or frame), and how many bytes are fed to that
    at a time: content made to explode becomes some 32 MiB at once, not more."""

    magic: bytes
    unpacker: Callable[[], Any]
    step: int


def _zstd() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()


_PACKINGS = (
    _Packing(b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31), 32 << 10),
    _Packing(b"\x28\xb5\x2f\xfd", _zstd, 1 << 10),
    # Frames without content, with which parallel compressors begin.
    *(_Packing(bytes([number, 0x2A, 0x4D, 0x18]), _zstd, 1 << 10) for number in range(0x50, 0x60)),
)
_FAILURES = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@contextmanager
def open_content(path: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[Pieces]:
    """The content of a file, or of standard input for ``-``; gzip and zstd are told by their magic numbers and unpacked.

    Standard input ends when `stopped` says so. Raises SourceError if there is nothing to open.
    """
    if path == "-":
        yield _unpacked(_standard_input(stopped))
        return
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below; only opening may fail here
    except FileNotFoundError:
        hint = "name a file, a folder, a store, or - for standard input"
        raise SourceError(f"{path}: no such file", hint=hint) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    with file:
        yield _unpacked(_pieces(file))


def packed(path: Path) -> bool:
    """Whether a file begins like something compressed. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        start = file.read(4)
    return any(start.startswith(packing.magic) for packing in _PACKINGS)


def _pieces(file: IO[bytes]) -> Pieces:
    while data := file.read(BLOCK):
        yield data


def _standard_input(stopped: Callable[[], bool]) -> Pieces:
    if sys.stdin is None:
        raise SourceError("standard input is closed", hint="name a file, or pipe flows into -")
    try:
        return _piped(sys.stdin.fileno(), stopped)
    except OSError:
        return _pieces(sys.stdin.buffer)


def _piped(descriptor: int, stopped: Callable[[], bool]) -> Pieces:
    """What comes through a pipe, by the second: a slow stream is neither late nor in crumbs, and Ctrl-C ends a silent one."""
    while not stopped():
        parts, size, end = list[bytes](), 0, time.monotonic() + _SILENCE
        while size < BLOCK and (left := end - time.monotonic()) > 0:
            if not select.select([descriptor], [], [], left)[0]:
                break
            data = os.read(descriptor, BLOCK)
            if not data:
                yield from filter(None, [b"".join(parts)])
                return
            parts.append(data)
            size += len(data)
        yield b"".join(parts)


def _unpacked(pieces: Pieces) -> Pieces:
    """The pieces as they are, or unpacked if they begin like something compressed."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= 4:
            break
    whole = chain([start] if start else [], pieces)
    for packing in _PACKINGS:
        if start.startswith(packing.magic):
            return _gathered(_members(packing, whole))
    return whole


def _members(packing: _Packing, pieces: Pieces) -> Pieces:
    """Unpack member after member. Raises EOFError when the last one has no end, after everything there is of it."""
    unpacker = None
    for piece in pieces:
        if not piece:
            yield piece
        for at in range(0, len(piece), packing.step):
            rest = piece[at : at + packing.step]
            # Between members there may be padding, as tapes and block devices leave it.
            while rest := rest if unpacker else rest.lstrip(b"\0"):
                unpacker = unpacker or packing.unpacker()
                yield from filter(None, [unpacker.decompress(rest)])
                rest, unpacker = (unpacker.unused_data, None) if unpacker.eof else (b"", unpacker)
    if unpacker is not None:
        raise EOFError


def _gathered(pieces: Pieces) -> Pieces:
    """Pieces of one size, and before a failure everything that came before it."""
    parts, size, failure = list[bytes](), 0, None
    while failure is None:
        try:
            piece = next(pieces, None)
        except _FAILURES as error:
            piece, failure = None, error
        parts.append(piece or b"")
        size += len(parts[-1])
        if piece and size < BLOCK:
            continue
        data = b"".join(parts)
        yield from (data[at : at + BLOCK] for at in range(0, size, BLOCK))
        if piece is None:
            break
        if not piece:
            yield piece
        parts, size = [], 0
    if failure is not None:
        raise failure


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


def branch(stream: str, offset: int, data: bytes) -> str:
    """The name of what begins like `stream`, and goes on with `data` at an offset from which on it may be different.

    It is made of no more than half a line, so that it stays the same while the content grows. Those that share it have the
    next branch each.
    """
    return blake2b(f"{stream} {offset} ".encode() + data[:_BRANCH], digest_size=16).hexdigest()


class Block(NamedTuple):
    """Whole lines (`data` ends with a line end, but for a last line without one), how many bytes of content they cover, and how
    many lines among them were too long to keep. An empty block says that nothing came to its end
    yet: a pipe is silent, or a line very long. `error` tells why nothing follows,
    when that is not the end of the content; half a line before it is left out."""

    data: bytes = b""
    size: int = 0
    digest: str = ""
    too_long: int = 0
    error: str = ""


class Lines:
    """Reads content in blocks of whole lines, or in exact numbers of bytes."""

    def __init__(self, content: Pieces) -> None:
        self.size = 0
        """Bytes taken from the content so far."""
        self._content = content
        self._ahead = b""
        self._error = ""

    def first_line(self) -> bytes:
        """The first line, or its first 64 KiB, without consuming it."""
        while b"\n" not in self._ahead and len(self._ahead) < _STEP:
            more = self._next()
            if more is None:
                break
            self._ahead += more
        return self._ahead.partition(b"\n")[0][:_STEP]

    def exactly(self, size: int) -> bytes:
        """Consume `size` bytes, fewer at the end."""
        parts, taken = [], 0
        while taken < size and (data := self._take()) is not None:
            parts.append(data[: size - taken])
            self._ahead = data[size - taken :]
            taken += len(parts[-1])
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Give back what was consumed last."""
        self._ahead = data + self._ahead

    def blocks(self) -> Iterator[Block]:
        """The rest, in blocks of whole lines, of about 128 KiB."""
        digest, size, too_long, dropping = SampledDigest(), 0, 0, False
        parts: list[bytes] = []  # the beginning of a line whose end was not read yet
        while (data := self._take()) is not None:
            if not data:
                yield Block()
                continue
            cut = data.rfind(b"\n") + 1
            data, rest = (data[:cut], data[cut:]) if cut else (data, b"")
            digest.update(data)
            size += len(data)
            if not dropping:
                parts.append(data)
            elif cut:
                parts, dropping = [data[data.find(b"\n") + 1 :]], False
            if cut:
                yield Block(b"".join(parts), size, digest.hexdigest(), too_long)
                digest, size, too_long, parts = SampledDigest(), len(rest), 0, [rest]
                digest.update(rest)
            elif dropping:
                yield Block()
            if not dropping and sum(map(len, parts)) > LINE_LIMIT:
                too_long, parts, dropping = too_long + 1, [], True
        if self._error:
            yield Block(too_long=too_long, error=self._error)
        elif size:
            yield Block(b"".join(parts), size, digest.hexdigest(), too_long)

    def _take(self) -> bytes | None:
        """What is there already, or comes next; None at the end."""
        data, self._ahead = self._ahead, b""
        return data or self._next()

    def _next(self) -> bytes | None:
        if self._error:
            return None
        try:
            data = next(self._content, None)
            self.size += len(data or b"")
            return data
        except EOFError:
            self._error = "the compressed data ends too early: the file was cut off, or is still being written"
        except _FAILURES as error:
            self._error = f"cannot be read any further: {error}"
        return None
