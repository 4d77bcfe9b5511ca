"""Coverage: what a record consists of, and what it lacks."""

from __future__ import annotations

from collections import Counter

from analyzer.model.activity import Activity
from analyzer.model.flow import Skip

__all__ = ["Coverage"]


class Coverage:
    """What the record consists of and what it lacks: every record read is in `edge_records` or under a reason in `skipped`.

    `nodes` holds the activity per (node, UTC day); `lost` counts lost events per (node, source number); `statuses` counts
    Relay's node states per (node, state number).
    """

    __slots__ = ("edge_records", "lost", "nodes", "skipped", "statuses")

    def __init__(self) -> None:
        self.edge_records = 0
        self.skipped: Counter[Skip] = Counter()
        self.nodes: dict[tuple[str, int], Activity] = {}
        self.lost: Counter[tuple[str, int]] = Counter()
        self.statuses: Counter[tuple[str, int]] = Counter()

    @property
    def records(self) -> int:
        """Records read."""
        return self.edge_records + self.skipped.total()

    def node(self, name: str, day: int) -> Activity:
        """The activity of a node on a day, made if it is new."""
        found = self.nodes.get((name, day))
        if found is None:
            found = self.nodes[name, day] = Activity()
        return found

    def merge(self, other: Coverage) -> None:
        self.edge_records += other.edge_records
        self.skipped.update(other.skipped)
        self.lost.update(other.lost)
        self.statuses.update(other.statuses)
        for key, activity in other.nodes.items():
            self.node(*key).merge(activity)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coverage):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]
