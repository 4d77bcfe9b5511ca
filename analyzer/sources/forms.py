"""Forms: what flows have in common, each kept once, so that whoever meets it again may know it by its `id`."""

from __future__ import annotations

from typing import Any

from analyzer.model.flow import Form, KeptForm

__all__ = ["LONGEST", "Forms"]

LONGEST = 4_096
"""Longest record whose form is kept, in bytes: what forms take of the memory is bounded with it."""
_ROOM = 32_768
_PLAIN = (1, False, None)
_new: Any = tuple.__new__


class Forms:
    """A bounded cache of forms by what they say; it starts over when it is full. Endpoints count by their `id`, since decoders
    intern them: a form holds on to its endpoints, so that no others can have theirs."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], KeptForm] = {}

    def of(self, values: tuple[Any, ...], size: int) -> Form:
        """The form of these values, in the order of its fields, read from a record of so many bytes. A form with a weight or a
        detail is not kept here: there are too many of them to be met again, unless a whole line is."""
        if values[12:] != _PLAIN or size > LONGEST:
            plain: Form = _new(Form, values)
            return plain
        key = (id(values[1]), id(values[2]), values[0], *values[3:12])
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _ROOM:
                self._kept.clear()
            found = self._kept[key] = _new(KeptForm, values)
        return found
