"""Writing Kubernetes documents: plain values to YAML that Kubernetes reads back as the same values, the same bytes each time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml

from analyzer.model.document import Document

__all__ = ["dump"]

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})

# Events go straight to the emitter: representing values as nodes first takes twice as long again.
_BEGIN = (yaml.StreamStartEvent(encoding=None), yaml.DocumentStartEvent(explicit=False))
_END = (yaml.DocumentEndEvent(explicit=False), yaml.StreamEndEvent())
_OPEN = {
    dict: yaml.MappingStartEvent(None, None, True, flow_style=False),
    list: yaml.SequenceStartEvent(None, None, True, flow_style=False),
}
_CLOSE = {dict: yaml.MappingEndEvent(), list: yaml.SequenceEndEvent()}
_WIDTH = 2**31 - 1
"""Lines are never folded."""


def dump(documents: Iterable[Mapping[str, Any] | Document]) -> str:
    """YAML for `documents`: block style, keys in the order given, the same bytes each time, strings that Kubernetes reads back
    as strings. A `Document` is written with its header as comments. Raises TypeError for a value that JSON does not know."""
    return "---\n".join(_one(each) for each in documents)


def _one(document: Mapping[str, Any] | Document) -> str:
    data, header = (document.data, document.header) if isinstance(document, Document) else (document, ())
    text = io.StringIO()
    dumper = yaml.CSafeDumper(text, width=_WIDTH)
    try:
        for first in _BEGIN:
            dumper.emit(first)
        _value(data, dumper.emit)
        for last in _END:
            dumper.emit(last)
    finally:
        dumper.dispose()
    return "".join(f"# {_comment(line)}".rstrip() + "\n" for line in header) + text.getvalue()


def _value(value: Any, emit: Callable[[yaml.Event], None]) -> None:
    if isinstance(value, str):
        emit(_string(value))
    elif isinstance(value, Mapping):
        emit(_OPEN[dict])
        for key, item in value.items():
            emit(_string(key))
            _value(item, emit)
        emit(_CLOSE[dict])
    elif isinstance(value, list | tuple):
        emit(_OPEN[list])
        for item in value:
            _value(item, emit)
        emit(_CLOSE[list])
    else:
        emit(_plain(_other(value)))


def _other(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text: str = yaml.representer.SafeRepresenter().represent_float(value).value
        return text
    raise TypeError(f"{type(value).__name__} is no value of a Kubernetes object")


@lru_cache(maxsize=4096)
def _string(text: str) -> yaml.ScalarEvent:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return _plain(text)
    # Half of a surrogate pair can be neither encoded nor escaped.
    whole = text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return yaml.ScalarEvent(None, None, (False, True), whole, style='"')


def _plain(text: str) -> yaml.ScalarEvent:
    return yaml.ScalarEvent(None, None, (True, False), text)


def _comment(line: str) -> str:
    """One line of visible ASCII: a comment must not end early, and YAML forbids control characters even there."""
    return line.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
