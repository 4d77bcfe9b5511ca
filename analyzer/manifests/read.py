"""Reading Kubernetes documents: YAML and JSON files, as the API server would read them, to plain values."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import yaml

from analyzer.errors import ManifestError
from analyzer.model.document import Document, Lines

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "load", "parse"]

MAX_BYTES = 10 * 1024 * 1024
"""Largest file that is read."""
MAX_DEPTH = 64
"""Deepest nesting of one document; a policy needs about twelve levels."""
MAX_NODES = 1_000_000
"""Most values in one document, aliases counted as often as they are used."""
SUFFIXES = (".yaml", ".yml", ".json")
"""What is read from a folder. A file that is named itself may have any suffix."""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_BLANK = re.compile(r"(?:\s|#[^\n]*(?:\n|$)|%[^\n]*(?:\n|$)|---(?=\s|$))*")


class _Merge(str):
    """The plain key ``<<``; a quoted one is a key like any other."""


_MERGE = _Merge("<<")

# How Kubernetes reads plain scalars (the YAML 1.1 of sigs.k8s.io/yaml): unlike PyYAML it knows y and n, 1e3 and 0o14,
# and neither base 60 nor dates.
_CONSTANTS: dict[str, Any] = {
    _MERGE: _MERGE,
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0[bB][01_]+|0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_STRING_TAGS = ("tag:yaml.org,2002:str", "!")

Problem = Callable[[ManifestError], None]
Values = list[tuple[int, Any]]
Read = Callable[[Lines | None], Values]


class _Refused(Exception):
    """Why one document cannot be read, and on which line of its chunk (from 0)."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def load(
    paths: Iterable[str | os.PathLike[str]],
    *,
    on_error: Problem | None = None,
    lines: bool = False,
    about: Sequence[str] = (),
    on_other: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """Read files, folders (recursively, in sorted order) and ``-``: several documents per file, `List` kinds unpacked.

    What cannot be read is handed to `on_error` as a ManifestError that names the place, and the rest is still read, other
    documents of the same file included. Without `on_error` the first such error is raised. With `lines`, documents know the
    line of each field.

    A repository holds more than manifests. With `about`, what cannot be read in a file of a folder is no error if none of these
    words occurs in the file: it is handed to `on_other`, once, by its name.
    """
    report = on_error or _raise
    for path in (os.fspath(each) for each in paths):
        for file in _files(path, report):
            try:
                raw = _raw(file)
            except ManifestError as error:
                report(error)
                continue
            if file == path or not about or any(word.encode() in raw for word in about):
                yield from _parsed(raw, file, report, lines)
                continue
            failed: list[ManifestError] = []
            yield from _parsed(raw, file, failed.append, lines)
            if failed and on_other:
                on_other(file)


def _parsed(raw: bytes, path: str, report: Problem, lines: bool) -> Iterator[Document]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report(ManifestError(f"not UTF-8 at byte {error.start}", where=path))
        return
    yield from parse(text, path, on_error=report, lines=lines)


def parse(text: str, path: str = "", *, on_error: Problem | None = None, lines: bool = False) -> Iterator[Document]:
    """The objects in `text`; `path` only names the place. Errors and `lines` as in `load`."""
    report = on_error or _raise
    place = path or "input"
    index = 0
    for line, read in _chunks(text, path):
        marks = Lines(line) if lines else None
        try:
            values = read(marks)
        except _Refused as error:
            template = "; it looks like a template: render it first, with `helm template` for example"
            report(ManifestError(f"{error}{template * ('{{' in text)}", where=f"{place}:{line + error.line}"))
            continue
        for offset, value in values:
            for item in _objects(value):
                if isinstance(item, dict):
                    yield Document(item, path, index, line + offset, lines=marks)
                else:
                    report(ManifestError("not a Kubernetes object", where=f"{place}:{line + offset}"))
                index += 1


def _raise(error: ManifestError) -> None:
    raise error


def _files(path: str, report: Problem) -> Iterator[str]:
    if path == "-" or not os.path.isdir(path):
        yield path
        return
    failed: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=failed.append):
        folders.sort()
        for name in sorted(names):
            if name.endswith(SUFFIXES):
                yield os.path.join(folder, name)
    for error in failed:
        report(ManifestError(f"cannot be listed: {error.strerror}", where=str(error.filename)))


def _raw(path: str) -> bytes:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", where=path) from None
    if len(raw) > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES // 1024 // 1024} MB", where=path, hint="split the file")
    return raw


def _chunks(text: str, path: str) -> Iterator[tuple[int, Read]]:
    """The documents of a file as (first line, how to read it). A `---` at the start of a line always separates documents, so
    a broken one does not spoil its neighbours."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            values = _json(text)
        except _Refused as error:
            if path.endswith(".json"):
                yield 1, partial(_refuse, error)
                return
        else:
            yield 1, lambda _: values
            return
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    line = 1
    for start, end in pairwise(starts):
        chunk = text[start:end]
        blank = _BLANK.match(chunk)
        if blank and blank.end() < len(chunk):
            yield line, partial(_yaml, chunk, chunk.count("\n", 0, blank.end()))
        line += chunk.count("\n")


def _refuse(error: _Refused, marks: Lines | None) -> Values:
    raise error


def _objects(value: Any) -> Iterator[Any]:
    """The object itself, or the items of a `List`. Items of a typed list may lack their kind (the API writes it once)."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list)):
        if value is not None:
            yield value
        return
    for item in value["items"]:
        if isinstance(item, dict) and kind != "List":
            yield {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
        else:
            yield item


def _json(text: str) -> Values:
    """All JSON values of `text`, one after the other, as kubectl and JSON Lines write them."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
    values: Values = []
    position = line = 0
    while True:
        start = re.compile(r"\s*").match(text, position).end()  # type: ignore[union-attr]
        line += text.count("\n", position, start)
        if start == len(text):
            return values
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise _Refused(f"not JSON: {error.msg}", error.lineno - 1) from None
        except ValueError as error:
            raise _Refused(f"not JSON: {error}", line) from None
        except RecursionError:
            raise _Refused("nested too deeply", line) from None
        _bounded(value, line)
        values.append((line, value))
        line += text.count("\n", start, position)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!a:.80} is there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _bounded(value: Any, line: int) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        lists = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [item for each in lists for item in each]
    if level:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels", line)


class _Frame:
    """A mapping or sequence that is being built. `size` counts the values inside, as often as they are used."""

    __slots__ = ("anchor", "key", "key_line", "line", "merges", "size", "target")

    def __init__(self, target: dict[str, Any] | list[Any], anchor: str | None, line: int) -> None:
        self.target, self.anchor, self.size, self.line, self.key_line = target, anchor, 1, line, line
        self.key: str | None = None
        self.merges: list[Any] = []

    def put(self, key: str, value: Any, line: int) -> None:
        assert isinstance(self.target, dict)
        if key is _MERGE:
            self.merges.extend(value if isinstance(value, list) else [value])
        elif key in self.target:
            raise _Refused(f"the key {key!a:.80} is there twice", line)
        else:
            self.target[key] = value

    def finish(self, line: int) -> None:
        """Own keys win over merged ones, wherever they stand."""
        for merged in self.merges:
            if not isinstance(merged, dict) or not isinstance(self.target, dict):
                raise _Refused("only mappings can be merged with <<", line)
            for key, value in merged.items():
                self.target.setdefault(key, value)


class _Builder:
    """Builds values from parser events: no recursion, so that neither depth nor aliases can exhaust anything."""

    def __init__(self, marks: Lines | None = None) -> None:
        self.marks = marks
        self.done: list[Any] = []
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.size = 0

    def feed(self, event: yaml.Event) -> None:
        line = event.start_mark.line if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent):
            self._value(_scalar(event, line), 1, event.anchor, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.stack) >= MAX_DEPTH:
                raise _Refused(f"nested deeper than {MAX_DEPTH} levels", line)
            if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
                raise _Refused(f"the tag {event.tag!a:.80} is not known", line)
            empty: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.stack.append(_Frame(empty, event.anchor, line))
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self.stack.pop()
            frame.finish(line)
            self._value(frame.target, frame.size, frame.anchor, frame.line, counted=True)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _Refused(f"the alias {event.anchor!a:.80} points to nothing, or into itself", line)
            self._value(*self.anchors[event.anchor], None, line)
        elif isinstance(event, yaml.DocumentEndEvent):
            # Aliases can nest deeper than the text does.
            if self.anchors:
                _bounded(self.done[-1], line)
            self.anchors.clear()
            self.size = 0

    def _value(self, value: Any, size: int, anchor: str | None, line: int, *, counted: bool = False) -> None:
        self.size += 0 if counted else size
        if self.size > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values, aliases counted as often as they are used", line)
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        if not self.stack:
            self.done.append(value)
            return
        frame = self.stack[-1]
        frame.size += size
        if isinstance(frame.target, dict) and frame.key is None:
            frame.key, frame.key_line = _key(value, line), line
            return
        value = str(value) if value is _MERGE else value
        if self.marks is not None:
            listed = isinstance(frame.target, list)
            self.marks.put(
                frame.target, len(frame.target) if listed else frame.key or "", line if listed else frame.key_line
            )
        if isinstance(frame.target, list):
            frame.target.append(value)
        elif frame.key is not None:
            frame.put(frame.key, value, line)
            frame.key = None


def _key(value: Any, line: int) -> str:
    if isinstance(value, dict | list):
        raise _Refused("a key must be a string", line)
    return value if isinstance(value, str) else json.dumps(value)


def _yaml(chunk: str, offset: int, marks: Lines | None) -> Values:
    builder = _Builder(marks)
    try:
        for event in yaml.parse(chunk, Loader=yaml.CSafeLoader):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        # libyaml looks ahead, and has had a limit of its own, of a thousand, since 0.2.6.
        if "nesting depth" in (error.problem or ""):
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", line) from None
        raise _Refused(f"not YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise _Refused(f"not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise _Refused("nested too deeply") from None
    return [(offset, value) for value in builder.done]


def _scalar(event: yaml.ScalarEvent, line: int) -> Any:
    text: str = event.value
    if event.tag is not None:
        if event.tag not in _STRING_TAGS:
            raise _Refused(f"the tag {event.tag!a:.80} is not known", line)
        return text
    if not event.implicit[0]:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _number(text) if text[0] in "+-.0123456789" and len(text) < 64 else text


def _number(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "").lower()
        octal = digits.lstrip("+-")[:2].isdigit() and digits.lstrip("+-").startswith("0")
        try:
            return int(digits, 8 if octal else 0)
        except ValueError:
            return text
    if _FLOAT.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return text
