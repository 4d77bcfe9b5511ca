"""Several sources as one stream of batches: filtered, and each source told what was read before it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.model.flow import Flow, Skip
from analyzer.sources.base import Batch, FlowSource, History, Position, Record

if TYPE_CHECKING:
    from analyzer.sources.filters import Selection

__all__ = ["batches"]


def batches(sources: Iterable[FlowSource], keep: Selection | None, history: History) -> Iterator[Batch]:
    """All batches of all sources, filtered. Each source is told what was read before it, in this run too."""
    seen: dict[str, _Seen] = {}

    def known(stream: str) -> Sequence[Position]:
        return sorted({*history(stream), *(seen[stream].positions(stream) if stream in seen else ())})

    for source in sources:
        for batch in source.batches(known):
            if batch.position is not None:
                seen.setdefault(batch.position.stream, _Seen()).add(batch.position)
            yield batch if keep is None else batch._replace(records=_kept(batch, keep))


class _Seen:
    """What was read of one stream, in a few bytes per position: a long file has a hundred thousand of them."""

    def __init__(self) -> None:
        self._bounds = array("Q")
        self._digests = bytearray()

    def add(self, position: Position) -> None:
        self._bounds.extend((position.start, position.end))
        self._digests += position.digest.encode() + b"\n"

    def positions(self, stream: str) -> Iterator[Position]:
        starts, ends = self._bounds[::2], self._bounds[1::2]
        for start, end, digest in zip(starts, ends, self._digests.decode().split("\n")[:-1], strict=True):
            yield Position(stream, start, end, digest)


def _kept(batch: Batch, keep: Selection) -> list[Record]:
    return [
        Skip.FILTERED if isinstance(record, Flow) and not keep.keeps(record) else record for record in batch.records
    ]
