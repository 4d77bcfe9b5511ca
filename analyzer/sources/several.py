"""Several sources as one stream of batches: filtered, and each source told what was read before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from analyzer.model.flow import Flow, Skip
from analyzer.sources.base import Batch, FlowSource, History, Position, Record
from analyzer.sources.filters import Selection

__all__ = ["batches"]


def batches(sources: Iterable[FlowSource], keep: Selection | None, history: History) -> Iterator[Batch]:
    """All batches of all sources, filtered. Each source is told what was read before it, in this run too."""
    seen: dict[str, set[Position]] = {}

    def known(stream: str) -> Sequence[Position]:
        return sorted({*history(stream), *seen.get(stream, ())})

    for source in sources:
        for batch in source.batches(known):
            if batch.position is not None:
                seen.setdefault(batch.position.stream, set()).add(batch.position)
            yield batch if keep is None else batch._replace(records=_kept(batch, keep))


def _kept(batch: Batch, keep: Selection) -> list[Record]:
    return [
        Skip.FILTERED if isinstance(record, Flow) and not keep.keeps(record) else record for record in batch.records
    ]
