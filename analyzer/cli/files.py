"""Writing policies to a folder: inside of it, whole or not at all, and nothing that is not ours is touched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from analyzer.cli.progress import note
from analyzer.errors import OutputError
from analyzer.existing import Change, Plan, kustomized, plan
from analyzer.manifests import Document
from analyzer.report import markdown
from analyzer.report.model import Report

__all__ = ["REPORT_FILE", "make_folder", "planned", "save_proposal", "tell", "write_text"]

REPORT_FILE = "REPORT.md"
APART = frozenset({"visibility", "_default-deny"})
"""Folders of policies that are applied for a while only, or last of all, and so belong to no kustomization."""


def planned(
    folder: Path, documents: Sequence[Document], existing: Sequence[str] = (), *, kustomize: bool = False
) -> Plan:
    """What writing `documents` would change: ours are updated where they stand, below `existing` or `folder`. Raises
    ManifestError, OutputError."""
    made = plan(documents, str(folder), existing)
    if not kustomize:
        return made
    seen = [change.path for change in made.changes if Path(change.path).is_relative_to(folder)]
    listed = [path for path in seen if not APART & set(Path(path).relative_to(folder).parts[:-1])]
    return replace(made, changes=(*made.changes, kustomized(str(folder), listed)))


def save_proposal(folder: Path, documents: Sequence[Document] | Plan, report: Report) -> None:
    """Write the policies and the report, and warn of policies from an earlier run. Raises OutputError, ManifestError."""
    made = documents if isinstance(documents, Plan) else planned(folder, documents)
    make_folder(folder)
    for change in made.changes:
        if change.changed:
            _write(folder, change)
    write_text(folder, REPORT_FILE, markdown.render(report))
    tell(made, folder)


def tell(made: Plan, folder: Path) -> None:
    """Say what a reader of the result would not see."""
    for words in (*made.renamed, *made.problems):
        note(f"Note: {words}")
    if made.left:
        listed = ", ".join(made.left[:5]) + (", ..." if len(made.left) > 5 else "")
        note(
            f"Warning: {len(made.left)} policies of an earlier run are still in {folder} and not recommended now: {listed}"
        )


def _write(folder: Path, change: Change) -> None:
    path = Path(change.path)
    if path.is_relative_to(folder):
        write_text(folder, path.relative_to(folder).as_posix(), change.after)
    else:
        _replace(path, change.after)


def write_text(folder: Path, path: str, text: str) -> Path:
    """Write one file below `folder`; a reader sees the old content or the new one. Raises OutputError."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise OutputError(f"{path} lies outside of {folder}")
    target = folder / relative
    make_folder(target.parent)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{target.parent} leads out of {folder}", hint="remove that link")
    return _replace(target, text)


def _replace(target: Path, text: str) -> Path:
    waiting = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        waiting.write_text(text, encoding="utf-8", newline="")
        waiting.replace(target)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise OutputError(f"{target} cannot be written: {error.strerror}", hint="choose another folder") from error
    return target


def make_folder(folder: Path) -> None:
    """Make a folder and what leads to it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = "is a file" if folder.is_file() else f"cannot be made: {error.strerror}"
        raise OutputError(f"{folder} {problem}", hint="name a folder that can be written") from error
