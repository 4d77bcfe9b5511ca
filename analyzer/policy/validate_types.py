"""The words in which a schema is written down: a value's type with its limits. Every word is plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANYTHING",
    "FLAG",
    "TEXT",
    "Anything",
    "Flag",
    "IntOrText",
    "ListOf",
    "MapOf",
    "Record",
    "Text",
    "Type",
    "Whole",
]

Complaints = Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]
"""What is wrong with an object beyond its fields' types: (field inside it, message)."""


@dataclass(frozen=True, slots=True)
class Anything:
    """A value that is not looked at."""


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string: one of `words`, or of `least` to `most` characters (0 is without a limit) that pass `test`; `meant` says in words
    what passes."""

    words: tuple[str, ...] = ()
    most: int = 0
    least: int = 0
    test: Callable[[str], bool] | None = None
    meant: str = ""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds, both allowed."""

    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class IntOrText:
    """A whole number or a string."""

    number: Whole
    text: Text


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; `most` 0 is without a limit, `unique` forbids equal elements, with `nulls` a null is an empty element."""

    each: Type
    least: int = 0
    most: int = 0
    unique: bool = False
    nulls: bool = False


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with keys of the user's choice."""

    each: Type
    key: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An object with fixed fields: all of `required`, exactly one of `one_of`, at least one of `any_of`."""

    fields: Mapping[str, Type]
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    complaints: Complaints | None = field(default=None, compare=False)


Type = Anything | Flag | Text | Whole | IntOrText | ListOf | MapOf | Record
ANYTHING, FLAG, TEXT = Anything(), Flag(), Text()
