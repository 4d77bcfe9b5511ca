"""Bounded: a weighted set that keeps the k smallest keys by a stable hash, so that merging stays a law."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Generic, TypeVar

__all__ = ["Bounded", "BoundedSet", "Samples", "stable_hash"]

K = TypeVar("K", bound=str | tuple[str, ...])


def stable_hash(key: str | tuple[str, ...]) -> bytes:
    """The same 8 bytes for the same key in every process and on every machine."""
    text = key if isinstance(key, str) else "\0".join(key)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Bounded(Generic[K]):
    """Weights by key, at most `limit` keys: those whose `stable_hash` is smallest.

    `overflow` tells that keys were left out, so that the set is only a sample. Which keys stay depends on the set of
    keys added and not on their order or grouping: `merge` is commutative and associative, and an empty set is its unit.
    First-come, LRU and reservoir sampling would break that.
    """

    __slots__ = ("_worst", "items", "limit", "overflow")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: dict[K, int] = {}
        self.overflow = False
        self._worst: tuple[bytes, K] | None = None

    def add(self, key: K, weight: int = 1) -> None:
        """Add `weight` to `key`."""
        if key in self.items:
            self.items[key] += weight
        elif len(self.items) < self.limit:
            self.items[key] = weight
            self._worst = None
        else:
            self._displace(key, weight)

    def _rank(self, key: K) -> bytes:
        return stable_hash(key)

    def _displace(self, key: K, weight: int) -> None:
        self.overflow = True
        if self._worst is None:
            self._worst = max((self._rank(each), each) for each in self.items)
        if (self._rank(key), key) < self._worst:
            del self.items[self._worst[1]]
            self.items[key] = weight
            self._worst = None

    def merge(self, other: Bounded[K]) -> None:
        """Add everything that `other` holds."""
        for key, weight in other.items.items():
            self.add(key, weight)
        self.overflow = self.overflow or other.overflow

    def __iter__(self) -> Iterator[K]:
        return iter(sorted(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        return bool(self.items) or self.overflow

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bounded):
            return NotImplemented
        return (self.limit, self.items, self.overflow) == (other.limit, other.items, other.overflow)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Bounded({dict(sorted(self.items.items()))!r}{', overflow' if self.overflow else ''})"


class BoundedSet(Bounded[K]):
    """A bounded set without weights: adding a key again changes nothing, so the same fact may be told any number of times."""

    __slots__ = ()

    def add(self, key: K, weight: int = 1) -> None:
        if key not in self.items:
            super().add(key, 1)


class Samples(Bounded[str]):
    """The k smallest of some random keys, such as event uuids, which are their own hash. Always a sample, so never `overflow`.

    `ceiling` is the largest key kept once the set is full: a larger one need not be added.
    """

    __slots__ = ("ceiling",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.ceiling = "\U0010ffff"

    def add(self, key: str, weight: int = 1) -> None:
        items = self.items
        if key > self.ceiling or key in items:
            return
        items[key] = 1
        if len(items) > self.limit:
            del items[max(items)]
        if len(items) == self.limit:
            self.ceiling = max(items)
