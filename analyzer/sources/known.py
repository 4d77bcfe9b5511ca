"""Known lines: the lines of a file are few, but for their time, uuid and ports. What was decoded once is found again by its bytes.

An exporter's line is cut where it differs from all others of its kind::

    {"flow":{"time":"<time>","uuid":"<uuid>"...,"l4":{"TCP":{"source_port":<port>,"destination_port":<port>...,"time":"<time>"}

What is left is remembered with the flow that the decoder made of the whole. A line whose rest is the same is that flow, with its
own time, uuid and ports. For this to hold of *every* such line, `keep` takes only lines in which nothing else can be meant:

- The line is JSON, or it would have no flow, and what was cut out is exactly what stood between the quotes of three strings, and in
  two numbers. So another line that is cut alike is the same JSON but for these values.
- There is no backslash, so every name is written as it is; and the names ``time`` (twice: of the flow and its envelope), ``uuid``,
  ``source_port`` and ``destination_port`` stand there once, and neither ``sourcePort``, ``destinationPort`` nor ICMP, whose type
  and code a flow has for ports. So no second value wins.
- The flow has the very time, uuid and ports that were cut out.

Beside its JSON, the decoder looks for other spellings of some names in the bytes of a line. If a uuid happens to look like one, it
takes longer and comes to the same.

The work is done in C (`known.c`), since looking a line up in Python takes as long as decoding it. Where that was not built, every
line is decoded.
"""

from __future__ import annotations

import os
from typing import Protocol

from analyzer.model.flow import Flow
from analyzer.sources.decode_slow import parse_time

try:
    from analyzer.sources import _known as compiled
except ImportError:  # nothing was there to compile it with
    compiled = None  # type: ignore[assignment]

__all__ = ["KnownLines", "compiled_lines", "second"]


class KnownLines(Protocol):
    """Lines met before. Bounded; not to be shared between threads."""

    def read(self, data: bytes, /) -> tuple[list[Flow | None], list[int]]:
        """The flow of each line in `data`, None where the line is not known; and of those, where they begin and end."""
        ...

    def keep(self, line: bytes, flow: Flow, /) -> bool:
        """Know a line without its line end from now on by its flow, whose form goes into all flows that are found again.
        False if the line is not one that can be known."""
        ...


def compiled_lines() -> KnownLines | None:
    """Lines to be known, or None where the C was not built."""
    return None if compiled is None else compiled.Known(Flow, second, os.urandom(compiled.SECRET))


def second(text: str) -> int:
    """Nanoseconds since the epoch of a time up to its second, or -1 if there is no such time."""
    try:
        return parse_time(f"{text}Z")
    except ValueError:
        return -1
