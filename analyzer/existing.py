"""Living with files that are there: which documents are ours, where new ones go, and what changes - planned before anything is
written, so that it can be shown first."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from analyzer.errors import ManifestError, OutputError
from analyzer.manifests import Document, dump, load, parse
from analyzer.roundtrip import appended, replaced

__all__ = ["KUSTOMIZATION", "Change", "Plan", "Ref", "is_managed", "kustomized", "plan", "ref_of"]

MANAGED_BY = ("app.kubernetes.io/managed-by", "hubble-analyzer")
KUSTOMIZATION = "kustomization.yaml"
RENAMED = "-recommended"
"""Appended to the name of a policy of ours when people have one of the same name: of two, the later would replace the earlier."""


class Ref(NamedTuple):
    """What makes two documents the same object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One file as it is (None: not there) and as it is to be. `path` may be written to as it is."""

    path: str
    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after

    def diff(self) -> str:
        """A unified diff, empty without a change."""
        old, new = ("/dev/null" if self.before is None else f"a/{self.path.lstrip('/')}"), f"b/{self.path.lstrip('/')}"
        before, after = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        lines = difflib.unified_diff(list(before), list(after), old, new)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written. `changes` has every file that documents go to, unchanged ones included; `left` names documents of
    ours that are not recommended any more (they stay); `problems` says what could not be placed; `renamed` what is called
    otherwise since its name is taken."""

    changes: tuple[Change, ...] = ()
    left: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()

    def diff(self) -> str:
        """All changes, as one diff."""
        return "".join(change.diff() for change in self.changes)


def is_managed(data: Mapping[str, Any]) -> bool:
    """Whether a document carries our label: such a one is written anew, every other is left alone."""
    key, value = MANAGED_BY
    labels = _mapping(_mapping(data.get("metadata")).get("labels"))
    return labels.get(key) == value


def ref_of(data: Mapping[str, Any]) -> Ref:
    """Kind, namespace and name of a document."""
    meta = _mapping(data.get("metadata"))
    return Ref(str(data.get("kind", "")), str(meta.get("namespace") or ""), str(meta.get("name") or ""))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def plan(documents: Sequence[Document], folder: str, existing: Iterable[str] = ()) -> Plan:
    """Where `documents` go: those that exist below `existing` or `folder` to where they are, the rest below `folder`.

    Documents of other people keep their place, their bytes and their names. Raises ManifestError for a file that has to be
    written to and cannot be read.
    """
    there = _There([*existing, *([folder] if os.path.isdir(folder) else [])])
    texts: dict[str, str | None] = {}
    afters: dict[str, str] = {}
    problems: list[str] = []
    renamed: list[str] = []
    placed: set[Ref] = set()
    for wanted in documents:
        document = there.named(wanted)
        ref = ref_of(document.data)
        if document is not wanted:
            renamed.append(f"{ref_of(wanted.data)} is somebody's own, so the recommended one is called {ref.name}")
        placed.add(ref)
        found = there.managed.get(ref)
        path = found.path if found else os.path.join(folder, *_inside(document.path))
        if path not in texts:
            texts[path] = _read(path)
            afters[path] = texts[path] or ""
        if found is None:
            there.check(path)
            afters[path] = appended(afters[path], document)
            continue
        line = _line(afters[path], ref)
        made = replaced(afters[path], line, document) if line else None
        if made is None:
            problems.append(f"{path}:{found.line}: {ref} stands in JSON or in a list; change it by hand")
        else:
            afters[path] = made
    changes = tuple(Change(path, texts[path], afters[path]) for path in texts)
    left = tuple(f"{each.path}: {ref}" for ref, each in sorted(there.managed.items()) if ref not in placed)
    return Plan(changes, left, tuple(problems), tuple(renamed))


class _There:
    """The documents that exist, by what they are."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.managed: dict[Ref, Document] = {}
        self._others: set[Ref] = set()
        self._broken: dict[str, str] = {}
        self._files: set[str] = set()
        real: set[tuple[str, int]] = set()
        for document in load((path for path in paths if path != "-"), on_error=self._note):
            key = os.path.realpath(document.path), document.index
            if key in real:
                continue
            real.add(key)
            ref = ref_of(document.data)
            if is_managed(document.data):
                self.managed.setdefault(ref, document)
            else:
                self._others.add(ref)

    def _note(self, error: ManifestError) -> None:
        # A place is "path:line"; the line is needed for nothing here.
        path, _, line = error.where.rpartition(":")
        self._broken[path if line.isdigit() else error.where] = error.message

    def check(self, path: str) -> None:
        """Raise ManifestError if `path` holds what cannot be read."""
        if path in self._broken:
            raise ManifestError(
                self._broken[path], hint="mend the file or move it away: a policy is to be written into it"
            )

    def named(self, document: Document) -> Document:
        """The document, under another name if people have one of this name."""
        ref = ref_of(document.data)
        if ref not in self._others:
            return document
        number, name = 1, ref.name + RENAMED
        while ref._replace(name=name) in self._others:
            number += 1
            name = f"{ref.name}{RENAMED}-{number}"
        path = PurePosixPath(document.path)
        data = {**document.data, "metadata": {**document.data["metadata"], "name": name}}
        return replace(document, data=data, path=str(path.with_name(f"{name}{path.suffix}")))


def _inside(path: str) -> tuple[str, ...]:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise OutputError(f"{path} leads out of the folder")
    return relative.parts


def _line(text: str, ref: Ref) -> int:
    """Where a document of ours begins in a text that may have changed since it was read; 0 if it is not there."""
    for document in parse(text, on_error=lambda error: None):
        if ref_of(document.data) == ref and is_managed(document.data):
            return document.line
    return 0


def _read(path: str) -> str | None:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"not UTF-8 at byte {error.start}", where=path, hint="mend the file or move it away"
        ) from None
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", where=path) from None


def kustomized(folder: str, paths: Iterable[str]) -> Change:
    """The folder's kustomization with all of `paths` (files below it) among its resources; everything else in it stays.

    Raises ManifestError if there is one that cannot be read.
    """
    path = os.path.join(folder, KUSTOMIZATION)
    before = _read(path)
    listed = sorted({PurePosixPath(os.path.relpath(each, folder).replace(os.sep, "/")) for each in paths})
    if before is None or not before.strip():
        data = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [str(each) for each in listed],
        }
        return Change(path, before, dump([data]))
    documents = list(parse(before, path))
    resources = documents[0].data.get("resources") if documents else None
    have = [str(each) for each in resources] if isinstance(resources, list) else []
    known = {PurePosixPath(each) for each in have}
    more = [str(each) for each in listed if not known & {each, *each.parents}]
    if not more:
        return Change(path, before, before)
    changed = (
        replaced(before, documents[0].line, Document({**documents[0].data, "resources": [*have, *more]}))
        if documents
        else None
    )
    if changed is None:
        raise ManifestError(
            "holds more than one document", where=path, hint="add the new policies to its resources by hand"
        )
    return Change(path, before, changed)
