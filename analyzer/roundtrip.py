"""Round trips: one document of a YAML file replaced in place - other documents byte for byte, comments and order kept."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from analyzer.errors import AnalyzerError
from analyzer.manifests import Document, dump, parse

__all__ = ["MARK", "appended", "chunks", "merged", "replaced"]

MARK = "hubble-analyzer:"
"""Begins the comment above a document that is written anew; its other lines are indented."""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_OURS = re.compile(rf"^# {re.escape(MARK)}[^\n]*\n(?:#  [^\n]*\n)*", re.MULTILINE)
_BARE_SEPARATOR = re.compile(r"---[ \t]*(?:#[^\n]*)?\n")
_COMMENT = re.compile(r"(?:^|[ \t])(#[^\n]*)$", re.MULTILINE)
_LIST = re.compile(r"^[\"']?kind[\"']?\s*:\s*[\"']?\w*List\b", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_INDENTED = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*\1 +- ", re.MULTILINE)


def chunks(text: str) -> list[tuple[int, str]]:
    """The documents of a YAML file with the line they begin on, from 1. Joined, they are the file again."""
    starts = sorted({0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)})
    return [(text.count("\n", 0, start) + 1, text[start:end]) for start, end in pairwise(starts)]


def replaced(text: str, line: int, document: Document, *, keep_comment: bool = False) -> str | None:
    """`text` with the document that `line` belongs to replaced by `document`, None if it cannot be replaced alone: in JSON, or
    in a list of objects. Nothing changes where it says the same already. With `keep_comment` the comment that we once wrote
    above it stays as it is."""
    newline = "\r\n" if "\r\n" in text else "\n"
    found = chunks(text.replace("\r\n", "\n"))
    at = max((n for n, (start, _) in enumerate(found) if start <= line), default=None)
    if at is None:
        return None
    made = _edited(found[at][1], document, keep_comment)
    if made is None:
        return None
    if made == found[at][1]:
        return text
    parts = [made if n == at else chunk for n, (_, chunk) in enumerate(found)]
    return "".join(parts).replace("\n", newline)


def appended(text: str, document: Document) -> str:
    """`text` with one more document at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    new = dump([document])
    if text.strip():
        text = text if text.endswith("\n") else text + newline
        new = new if text.rstrip().endswith("\n---") or text.strip() == "---" else "---\n" + new
    return text + new.replace("\n", newline)


def _edited(chunk: str, document: Document, keep_comment: bool) -> str | None:
    """One document's text with the new values. None unless it holds exactly one object, in YAML."""
    old = _only_object(chunk)
    if old is None or chunk.lstrip().startswith(("{", "[")) or _LIST.search(chunk):
        return None
    target = merged(old, document.data)
    if target == old:
        return chunk
    lead = separator.group() if (separator := _BARE_SEPARATOR.match(chunk)) else ""
    ours = _OURS.search(chunk)
    body = _OURS.sub("", chunk[len(lead) :], count=1)
    before = chunk[len(lead) : ours.start()] if ours and ours.start() >= len(lead) else ""
    made = _in_place(body, target) or dump([target])
    header = ours.group() if keep_comment and ours else _comment_lines(document)
    at = len(before) if made.startswith(before) else 0
    made = made[:at] + header + made[at:]
    kept = _with_comments(lead + made, _OURS.sub("", chunk))
    return kept if _only_object(kept) == target else lead + header + dump([target])


def _only_object(chunk: str) -> dict[str, Any] | None:
    try:
        found = list(parse(chunk))
    except AnalyzerError:
        return None
    return found[0].data if len(found) == 1 else None


def _comment_lines(document: Document) -> str:
    return dump([Document({"x": 0}, header=document.header)]).removesuffix("x: 0\n")


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What a managed document is to say: the new values, beside the labels, annotations and description people gave it.

    An annotation of ours that is not written any more goes.
    """
    made = dict(new)
    metadata: dict[str, Any] = dict(new.get("metadata", {}))
    for key, value in _mapping(old.get("metadata")).items():
        if key in ("labels", "annotations"):
            own = _mapping(metadata.get(key))
            theirs = {k: v for k, v in _mapping(value).items() if not k.startswith(ANNOTATIONS)}
            if theirs or own:
                metadata[key] = {**theirs, **own}
        else:
            metadata.setdefault(key, value)
    if metadata:
        made["metadata"] = metadata
    spec, described = _mapping(new.get("spec")), _mapping(old.get("spec"))
    if "description" in described and "description" not in spec:
        made["spec"] = {"description": described["description"], **spec}
    return made


ANNOTATIONS = "hubble-analyzer/"
"""Begins the keys of annotations that are written anew."""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _in_place(body: str, target: Mapping[str, Any]) -> str | None:
    """`body` changed to say `target`, its style and comments kept as far as possible; None if that fails."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 2**31 - 1
    if _INDENTED.search(body):
        yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    try:
        loaded = yaml.load(body)
        _change(loaded, target)
        yaml.dump(loaded, stream)
    except (
        YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        RecursionError,
        NotImplementedError,
    ):
        return None
    return stream.getvalue()


def _change(old: Any, new: Mapping[str, Any]) -> None:
    """Make the loaded mapping `old` say `new`. Equal parts are the same objects still, with their comments."""
    for key in [key for key in old if key not in new]:
        del old[key]
    for key, value in new.items():
        have = old.get(key)
        if isinstance(have, CommentedMap) and isinstance(value, Mapping):
            _change(have, value)
        elif isinstance(have, CommentedSeq) and isinstance(value, list):
            _change_list(have, value)
        elif key not in old or have != value or type(have) is bool:
            old[_written(key) if key not in old else key] = _written(value)


def _change_list(old: CommentedSeq, new: Sequence[Any]) -> None:
    """As `_change`, for a list: what is gone is removed, what is new is put in its place."""
    for at in reversed(range(len(old))):
        if old[at] not in new:
            del old[at]
    for at, value in enumerate(new):
        if at >= len(old) or old[at] != value:
            old.insert(at, _written(value))
    while len(old) > len(new):
        del old[len(old) - 1]


def _written(value: Any) -> Any:
    """New values in block style, strings quoted wherever Kubernetes might read something else."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        made = CommentedMap()
        for key, each in value.items():
            made[_written(key)] = _written(each)
        return made
    if isinstance(value, list):
        return CommentedSeq([_written(each) for each in value])
    return value


def _with_comments(made: str, old: str) -> str:
    """`made` with the comments of `old` that got lost beside what was removed: above the document."""
    lost = [comment for comment in dict.fromkeys(_comments(old)) if comment not in made]
    if not lost:
        return made
    lead = separator.group() if (separator := _BARE_SEPARATOR.match(made)) else ""
    return lead + "".join(f"{comment}\n" for comment in lost) + made[len(lead) :]


def _comments(text: str) -> Iterator[str]:
    """Comments, by their looks: a ``#`` after a blank, with no quote open before it."""
    for match in _COMMENT.finditer(text):
        start = text.rfind("\n", 0, match.start(1)) + 1
        before = text[start : match.start(1)]
        if before.count('"') % 2 == 0 and before.count("'") % 2 == 0:
            yield match.group(1).rstrip()
