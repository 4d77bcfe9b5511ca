"""TailSource: exporter files as they grow, across rotation, compression and truncation, and folders of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import SourceError
from analyzer.sources.base import Batch, History, Position, nothing_read_before
from analyzer.sources.content import Lines, open_content, packed
from analyzer.sources.decode import Decoder
from analyzer.sources.growing import GrowingFile, stream_of
from analyzer.sources.jsonpb import FileSource, age, is_flow_file

__all__ = ["TailSource", "series"]

_POLL = 0.25
"""Seconds between looks at the files that are open."""
_SCAN = 1.0
"""Seconds between looks for new files, and the longest time between two batches."""
_QUIET = 5.0
"""Seconds without a change after which a file that was removed is closed, since whoever writes to it may have it open still,
and after which a compressed file is taken for whole."""
_OPEN = 256
"""Files kept open while nothing is added to them; those that were quiet for longest are closed until they change."""
_REMEMBERED = 256
"""Contents whose positions are kept in memory; older ones are asked of the history only."""

_Identity = tuple[int, int]
"""Device and inode: the same under every name."""
_State = tuple[int, int]
"""Size, and time of the last change in ns."""
# What rotation makes of events.log: events.log.1, events.log-20260913, events-20260913.log, and lumberjack's
# events-2026-09-13T14-43-50.263.log; then also compressed.
_STAMP = r"-\d{4}[-\dT_.:]*"


def series(path: Path) -> re.Pattern[str]:
    """The names that `path` itself and what rotation makes of it can have."""
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    return re.compile(rf"{stem}({_STAMP})?{suffix}({_STAMP}|\.\d+)?(\.(gz|zst|zstd))?")


def _silently(text: str) -> None:
    """News for nobody."""


@dataclass(slots=True)
class _Watched:
    """A file that is open: since when nothing was added to it, whether it still has a name, and whether it is being read. One
    that is not waits for another file with the same content, such as a copy for its original; `tried` is its size then, and
    `alike` tells which one it was compared with, at which size."""

    file: GrowingFile
    quiet_since: float
    named: bool = True
    reading: bool = False
    tried: int = -1
    alike: tuple[str, int] = ("", -1)


class TailSource:
    """Files as they grow, and their rotated siblings; or all flow files of folders. It goes on until closed.

    Contents are known by what is in them: renamed, copied and compressed they count once, also from one process to the next
    by the history. Yields at least one batch a second, empty ones included. Raises SourceError if there is nothing at
    one of `paths`; a file that cannot be read later is told in `news`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        news: Callable[[str], None] = _silently,
        poll: float = _POLL,
        scan: float = _SCAN,
        quiet: float = _QUIET,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._news = news
        self._poll, self._scan, self._quiet = poll, scan, quiet
        self._closed = False
        self._decoder = Decoder()
        self._watched: dict[_Identity, _Watched] = {}
        self._finished: dict[_Identity, _State] = {}
        self._packed: dict[Path, tuple[_State, float]] = {}
        self._told: set[str] = set()
        self._positions: dict[str, list[Position]] = {}
        self._untold: list[Position] = []
        self._history: History = nothing_read_before

    @property
    def name(self) -> str:
        return ", ".join(map(str, self._paths))

    def close(self) -> None:
        """Make `batches` end within a fraction of a second. Only sets a flag: safe in a signal handler."""
        self._closed = True

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        """Read what there is, oldest first, and then what comes."""
        for path in self._paths:
            if not path.exists() and not self._files(path):
                raise SourceError(
                    f"{path}: no such file or folder", hint="name a file that is written to, or its folder"
                )
        self._history = history
        scanned = spoken = float("-inf")
        try:
            while not self._closed:
                now = time.monotonic()
                if now - scanned >= self._scan:
                    scanned = now
                    yield from self._scanned(now)
                for batch in self._read(now):
                    spoken = now
                    yield batch
                if now - spoken >= self._scan:
                    spoken = now
                    yield Batch((), mark=self.positions)
                time.sleep(self._poll)
        finally:
            for watched in self._watched.values():
                watched.file.close()

    def positions(self) -> list[Position]:
        """What was read since this was called last."""
        for watched in self._watched.values():
            self._collect(watched.file)
        told, self._untold = self._untold, []
        return told

    def _collect(self, file: GrowingFile) -> None:
        file.cut()
        for position in file.positions:
            self._remember(position)
        self._untold += file.positions
        file.positions.clear()

    def _remember(self, position: Position) -> None:
        kept = self._positions.pop(position.stream, [])
        self._positions[position.stream] = [*kept, position]
        while len(self._positions) > _REMEMBERED:
            del self._positions[next(iter(self._positions))]

    def _known(self, stream: str) -> Sequence[Position]:
        return sorted({*self._history(stream), *self._positions.get(stream, ())})

    def _scanned(self, now: float) -> Iterator[Batch]:
        """Open new files, finish old ones, and read new compressed ones."""
        named: set[_Identity] = set()
        compressed: list[Path] = []
        for path in self._found():
            try:
                if packed(path):
                    compressed.append(path)
                else:
                    named.add(self._watch(path, now))
            except OSError as error:
                self._tell(path, error.strerror)
        for identity, watched in list(self._watched.items()):
            watched.named = identity in named
            if not watched.named and now - watched.quiet_since >= self._quiet:
                yield from self._finish(identity, watched, now)
        self._park()
        for path in compressed:
            with suppress(FileNotFoundError):
                yield from self._unpacked(path, now)

    def _found(self) -> list[Path]:
        """The files there are now, the oldest first."""
        return sorted({file for path in self._paths for file in self._files(path)}, key=age)

    def _files(self, path: Path) -> list[Path]:
        """The files of a folder, or the file and what rotation made of it; the file itself may be away for a moment."""
        try:
            if path.is_dir():
                return [each for each in path.rglob("*") if is_flow_file(each)]
            names = series(path)
            return [each for each in path.parent.iterdir() if names.fullmatch(each.name) and each.is_file()]
        except OSError as error:
            self._tell(path, error.strerror)
            return []

    def _tell(self, path: Path, reason: str | None) -> None:
        text = f"{path}: {reason}; it is left out"
        if text not in self._told:
            self._told.add(text)
            self._news(text)

    def _watch(self, path: Path, now: float) -> _Identity:
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        watched = self._watched.get(identity)
        if watched is not None:
            watched.file.path = str(path)
        elif self._finished.get(identity) != _state(status):
            file = GrowingFile(str(path), self._decoder)
            identity = file.identity
            self._watched[identity] = _Watched(file, now)
        return identity

    def _finish(self, identity: _Identity, watched: _Watched, now: float) -> Iterator[Batch]:
        """Close a file that was removed."""
        self._start_over_if_overwritten(watched, now)
        watched.file.ending = True
        if watched.reading or self._begin(watched, now):
            yield from self._marked(watched.file)
            self._collect(watched.file)
        watched.file.close()
        del self._watched[identity]

    def _park(self) -> None:
        """Close the quietest of too many files. They are opened again when they change, and then known by their content."""
        quietest = sorted(self._watched, key=lambda identity: self._watched[identity].quiet_since)
        for identity in quietest[: max(0, len(quietest) - _OPEN)]:
            watched = self._watched[identity]
            if watched.reading and not watched.file.unread:
                self._collect(watched.file)
                self._finished[identity] = watched.file.state
                watched.file.close()
                del self._watched[identity]

    def _read(self, now: float) -> Iterator[Batch]:
        for watched in list(self._watched.values()):
            self._start_over_if_overwritten(watched, now)
            if not watched.reading and not self._begin(watched, now):
                continue
            if watched.file.unread:
                watched.quiet_since = now
                yield from self._marked(watched.file)

    def _start_over_if_overwritten(self, watched: _Watched, now: float) -> None:
        if watched.reading and watched.file.overwritten:
            self._news(f"{watched.file.path} was emptied or overwritten; it is read from its beginning")
            self._collect(watched.file)
            fresh = watched.file.anew()
            watched.file.close()
            watched.file, watched.quiet_since, watched.reading, watched.tried = fresh, now, False, -1
            watched.alike = ("", -1)

    def _begin(self, watched: _Watched, now: float) -> bool:
        """Begin to read a file, unless its content is being read from another one, or it is not all there yet."""
        beginning, size = watched.file.first_line(), watched.file.size
        if beginning is None:
            return False
        stream = stream_of(beginning)
        twins = self._twins(stream)
        for twin in twins:
            compared = (twin.file.path, size)
            if watched.alike != compared and not watched.file.begins_like(twin.file):
                continue
            if size <= twin.file.size:
                watched.alike = compared
                return False
            self._release(twin)
        if size != watched.tried:
            watched.tried, watched.quiet_since = size, now
        elif not self._settled(watched, now):
            return False
        for twin in twins:
            self._collect(twin.file)
        another = bool(twins) or self._settled(watched, now)
        watched.reading = watched.file.begin(stream, self._known, another=another)
        return watched.reading

    def _settled(self, watched: _Watched, now: float) -> bool:
        """Whether nothing is added to it any more, so that it is no copy in the making."""
        return watched.file.ending or now - watched.quiet_since >= self._quiet

    def _twins(self, stream: str) -> list[_Watched]:
        """The files being read that have the same first line."""
        return [each for each in self._watched.values() if each.reading and each.file.began == stream]

    def _release(self, part: _Watched) -> None:
        """Stop reading a file that turned out to be a part of another, such as a copy of it."""
        self._collect(part.file)
        fresh = part.file.anew()
        part.file.close()
        part.file, part.reading, part.tried = fresh, False, fresh.size

    def _unpacked(self, path: Path, now: float) -> Iterator[Batch]:
        """A compressed file is read once, when it is whole, and nobody reads the same content elsewhere."""
        status = path.stat()
        identity, state = (status.st_dev, status.st_ino), _state(status)
        if self._finished.get(identity) == state:
            return
        before, since = self._packed.get(path, (None, now))
        if before != state:
            self._packed[path] = (state, now)
            return
        if now - since < self._quiet:
            return
        try:
            beginning = _first_line_of_whole(path)
            for twin in self._twins(stream_of(beginning)):
                size = _size_if_like(path, twin.file)
                if size is None:
                    self._collect(twin.file)
                elif size <= twin.file.size:
                    return
                else:
                    self._release(twin)
            for batch in FileSource([path]).batches(self._known):
                if batch.position is not None:
                    self._remember(batch.position)
                yield batch
        except SourceError as error:
            self._tell(path, error.message.removeprefix(f"{path}: "))
        del self._packed[path]
        self._finished[identity] = state

    def _marked(self, file: GrowingFile) -> Iterator[Batch]:
        for batch in file.read():
            yield batch._replace(mark=self.positions)
            if self._closed:
                return


def _state(status: os.stat_result) -> _State:
    return status.st_size, status.st_mtime_ns


def _first_line_of_whole(path: Path) -> bytes:
    """The first line of a compressed file. Raises SourceError unless it can be read to its end."""
    with open_content(str(path), lambda: False) as content:
        lines = Lines(content)
        beginning = lines.first_line()
        for block in lines.blocks():
            if block.error:
                raise SourceError(block.error)
    return beginning


def _size_if_like(path: Path, twin: GrowingFile) -> int | None:
    """The size of a compressed file's content if it or the twin's is the beginning of the other, else None."""
    with open_content(str(path), lambda: False) as content:
        at = 0
        for piece in content:
            if not twin.same(at, piece):
                return None
            at += len(piece)
    return at
