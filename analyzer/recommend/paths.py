"""Paths: many request paths to few patterns - numbers, UUIDs and hashes become classes where several were seen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

__all__ = ["MAX_PATH", "QUERY", "escaped", "is_path", "templates"]

MAX_PATH = 1024
"""Longest path that a rule is written for."""
QUERY = r"(\?.*)?"
"""What ends every pattern: the proxy matches the path with its query, and records are kept without."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{16,128}")
_NUMBER = re.compile(r"[0-9]{1,32}")
_VISIBLE = re.compile(r"/[!-~]*")
_META = re.compile(r"([\\.+*?()|\[\]{}^$])")


class _Class(NamedTuple):
    """A kind of path segment: `pattern` stands for all of it once `least` different values were seen in one place."""

    name: str
    least: int
    pattern: str


_Segment = str | _Class


def is_path(text: str) -> bool:
    """Whether a rule can be written for this path. A masked one is empty, and what HTTP never sends is no path."""
    return len(text) <= MAX_PATH and bool(_VISIBLE.fullmatch(text)) and "?" not in text and "#" not in text


def escaped(text: str) -> str:
    """`text` as a regular expression that matches it and nothing else."""
    return _META.sub(r"\\\1", text)


def templates(paths: Iterable[str], refused: Collection[str] = ()) -> tuple[str, ...]:
    """Regular expressions, sorted, that together match all of `paths` and none of `refused`, which has none of them.

    Only whole segments are generalised, only to the class of what was seen in that place, and only where enough different
    values were seen between the same neighbours; all else is taken literally. A pattern that would match a refused path
    gives way to the paths themselves.
    """
    shapes: dict[tuple[_Segment, ...], set[tuple[str, ...]]] = defaultdict(set)
    for path in paths:
        segments = tuple(path.split("/"))
        shapes[tuple(map(_shape, segments))].add(segments)
    found: set[str] = set()
    for shape, members in shapes.items():
        for pattern, covered in _generalised(shape, members):
            if any(re.fullmatch(pattern + QUERY, each) for each in refused):
                found.update(escaped("/".join(each)) + QUERY for each in covered)
            else:
                found.add(pattern + QUERY)
    return tuple(sorted(found))


def _shape(segment: str) -> _Segment:
    """The class of a segment, or the segment itself."""
    if _UUID.fullmatch(segment):
        digit = _digit(segment)
        return _Class("uuid", 2, f"{digit}{{8}}-{digit}{{4}}-{digit}{{4}}-{digit}{{4}}-{digit}{{12}}")
    if _NUMBER.fullmatch(segment):
        return _Class("number", 3, "[0-9]+")
    if _HEX.fullmatch(segment) and not segment.isalpha():
        return _Class("hash", 2, f"{_digit(segment)}{{{len(segment)}}}")
    return segment


def _digit(text: str) -> str:
    """The hexadecimal digits in the case they were seen in."""
    if text == text.lower():
        return "[0-9a-f]"
    return "[0-9A-F]" if text == text.upper() else "[0-9a-fA-F]"


def _generalised(
    shape: tuple[_Segment, ...], members: set[tuple[str, ...]]
) -> Iterator[tuple[str, set[tuple[str, ...]]]]:
    """Patterns with what they cover. A place with too few values is split by them, which leaves fewer values elsewhere."""
    pending = [(shape, members)]
    while pending:
        segments, group = pending.pop()
        scarce = next(
            (at for at, each in enumerate(segments) if isinstance(each, _Class) and _values(group, at) < each.least),
            None,
        )
        if scarce is None:
            yield "/".join(each.pattern if isinstance(each, _Class) else escaped(each) for each in segments), group
            continue
        by_value: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for member in group:
            by_value[member[scarce]].add(member)
        pending.extend(((*segments[:scarce], value, *segments[scarce + 1 :]), part) for value, part in by_value.items())


def _values(group: set[tuple[str, ...]], at: int) -> int:
    return len({member[at] for member in group})
