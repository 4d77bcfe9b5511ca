"""Spots: where flows of a form count. Those that need nothing but to be counted there are counted in C, where that was built.

Most flows of a file have a form that was met before, and so a spot: node, edge and cell, all worked out. What is left is adding up
how many there were and when, at objects that are a dozen reaches into memory away. In C that is one, since the sums stay beside
the form until they are taken. A flow is counted there only if

- its form has a spot for the flow's server port, and nothing but counting is to be done there;
- it is of the hour that was set, which is one of the spots' day;
- its uuid is none that the edge would keep as a sample.

Any other is given back before anything of it was counted, so that one loop, the one of `aggregate`, knows all there is to know.
It counts every flow where there is no C, and either way the table is the same (`tests/test_counting.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from analyzer.model.flow import Flow

if TYPE_CHECKING:
    from analyzer.sources.base import Record

try:
    from analyzer import _spots as compiled
except ImportError:  # nothing was there to compile it with
    compiled = None  # type: ignore[assignment]

__all__ = ["Rest", "Spots", "new_spots", "rest_of"]

S = TypeVar("S")


class Spots(Protocol[S]):
    """Spots of one day by the `id` of their form, which they hold on to. Of the values of a spot, the C reads the form, whether the
    source's port is the server's, that port (an int, or nothing is counted), in place 4 the edge, whose samples are asked for
    their ceiling, and in place 8 whether counting is all that is to be done."""

    def get(self, form: int, /) -> S | None:
        """A spot of the form, perhaps for another port."""
        ...

    def __setitem__(self, form: int, spot: S, /) -> None:
        """Keep a spot. In C a form may have one for each port of a server, and the first that was set for a port stays."""
        ...

    def __len__(self) -> int: ...

    def take(self) -> list[tuple[S, int, int, int, int]]:
        """What was counted since the last time: at which spot, how many flows, their first and last time in nanoseconds, and
        the bits of their hours."""
        ...

    def clear(self) -> None:
        """Forget all spots. What was counted must have been taken."""
        ...


class Rest(Protocol):
    """The records of a batch that are not counted at spots, in their order; `counted` is how many were, so far."""

    @property
    def counted(self) -> int: ...

    def at(self, spots: Any, since: int, until: int, hour: int, /) -> None:
        """Count from now on at `spots` flows from `since` until before `until`, in nanoseconds: one hour, with this bit.
        Before this is called, nothing is counted."""
        ...

    def __iter__(self) -> Iterator[Record]: ...

    def __next__(self) -> Record: ...


class _PlainSpots(dict[int, S]):
    """Spots at which nothing is counted."""

    def take(self) -> list[tuple[S, int, int, int, int]]:
        return []


def new_spots() -> Spots[Any]:
    """No spots yet."""
    return _PlainSpots[Any]() if compiled is None else compiled.Spots()


def rest_of(records: Iterable[Record]) -> Rest | None:
    """Counts what can be counted of `records` while the others are taken one by one; None where there is no C to do it."""
    return None if compiled is None else compiled.Rest(Flow, records)
