"""FlowSource: the one interface of everything flows are read from, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from analyzer.model.flow import Flow, LostEvents, NodeStatus, Skip

__all__ = ["LIVE", "Batch", "FlowSource", "History", "Position", "Record", "nothing_read_before"]

LIVE = "live "
"""What the stream of a `Position` begins with if it is a node's, and not the content of a file; the node's name follows."""

Record = Flow | LostEvents | NodeStatus | Skip
"""What one input line or message decodes to. A `Skip` is a record that is no flow, with its reason."""


class Position(NamedTuple):
    """Which content a batch covers: bytes `start`..`end` (uncompressed) of the content named `stream`.

    `stream` is a fingerprint of the content's beginning, never a file name, so it survives rotation and compression;
    `digest` fingerprints the bytes themselves. Batches of one stream are contiguous.

    Of a node (`LIVE`), `start` and `end` number the flows that were ever read from it, and `digest` says how to go on: see
    `analyzer.sources.sight`. What it says up to its first ``/`` names an uninterrupted run; of a run only one position is
    kept, which grows.
    """

    stream: str
    start: int
    end: int
    digest: str


class Batch(NamedTuple):
    """Some records in the order they were read. May be empty: a silent live source yields empty batches every second or so,
    so that whoever consumes it can act by the clock.

    `skipped` counts records that were not decoded at all, such as content that was read before (`Skip.DUPLICATE`).

    A live source gives `mark` instead of a position: called when what was read up to this batch, and nothing after it, is
    written down, it tells the positions since it was called last.
    """

    records: Sequence[Record]
    position: Position | None = None
    skipped: Mapping[Skip, int] = MappingProxyType({})
    mark: Callable[[], Sequence[Position]] | None = None


History = Callable[[str], Sequence[Position]]
"""What was already read of a stream: its positions in order, as the store recorded them."""


def nothing_read_before(stream: str) -> Sequence[Position]:
    """The history of somebody who has read nothing yet."""
    return ()


class FlowSource(Protocol):
    """Something flows can be read from, once. `name` is what the user called it."""

    @property
    def name(self) -> str: ...

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        """Read everything, oldest first. Raises SourceError when the source cannot be read at all or breaks for good."""
        ...

    def close(self) -> None:
        """Make `batches` end soon; may be called from another thread or a signal handler, and more than once."""
        ...
