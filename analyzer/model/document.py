"""Document: one Kubernetes object as plain values, and where it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Document", "Lines"]


class Lines:
    """Where each element of a list and each key of an object stands; `base` is the line on which their text begins, from 1."""

    __slots__ = ("_base", "_lines")

    def __init__(self, base: int) -> None:
        self._base = base
        self._lines: dict[int, dict[str | int, int]] = {}

    def put(self, inside: object, key: str | int, line: int) -> None:
        """`line` counts from 0. `inside` must live as long as this."""
        self._lines.setdefault(id(inside), {})[key] = self._base + line

    def get(self, inside: object, key: str | int) -> int | None:
        """The line of an element or key, from 1."""
        return self._lines.get(id(inside), {}).get(key)


@dataclass(frozen=True, slots=True)
class Document:
    """One Kubernetes object. `path` is the file it came from (``-`` is standard input) or is meant for, `index` counts the
    objects of that file from 0, `line` is where its document starts, from 1 (0 when it was not read). `header` is written as
    comment lines above it."""

    data: dict[str, Any]
    path: str = ""
    index: int = 0
    line: int = 0
    header: tuple[str, ...] = ()
    lines: Lines | None = field(default=None, repr=False, compare=False)

    def line_at(self, place: str) -> int:
        """The line of a field such as ``spec.ingress[0].fromCIDR``, or of the innermost thing around it that is there.

        Known for YAML only that was read with `lines`, otherwise it is the line of the document."""
        found, value, rest = self.line, self.data, place
        while self.lines and (step := _step(value, rest)):
            key, rest = step
            found = self.lines.get(value, key) or found
            value = value[key]
        return found


def _step(value: Any, place: str) -> tuple[Any, str] | None:
    """The key or index that a path goes through first, and the rest of it; keys may have dots in them."""
    if isinstance(value, list):
        index = re.match(r"\[([0-9]{1,9})\]", place)
        return (int(index[1]), place[index.end() :]) if index and int(index[1]) < len(value) else None
    name = place.removeprefix(".")
    keys = [key for key in value if name.startswith(key)] if name and isinstance(value, dict) else []
    whole = [key for key in keys if name[len(key) : len(key) + 1] in ("", ".", "[")]
    return (key := max(whole, key=len), name[len(key) :]) if whole else None
