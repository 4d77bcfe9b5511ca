"""Writing policies to a folder: inside of it, whole or not at all, and nothing that is not ours is touched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from analyzer.cli.progress import note
from analyzer.errors import AnalyzerError, OutputError
from analyzer.manifests import Document, dump, load
from analyzer.report import markdown
from analyzer.report.model import Report

__all__ = ["REPORT_FILE", "left_over", "make_folder", "save_proposal", "write_documents", "write_text"]

REPORT_FILE = "REPORT.md"
MANAGED_BY = ("app.kubernetes.io/managed-by", "hubble-analyzer")


def save_proposal(folder: Path, documents: Sequence[Document], report: Report) -> None:
    """Write the policies and the report, and warn of policies from an earlier run. Raises OutputError."""
    written = write_documents(folder, documents)
    write_text(folder, REPORT_FILE, markdown.render(report))
    old = left_over(folder, written)
    if old:
        listed = ", ".join(str(path.relative_to(folder)) for path in old[:5]) + (", ..." if len(old) > 5 else "")
        note(f"Warning: {len(old)} policies of an earlier run are still in {folder} and not recommended now: {listed}")


def write_documents(folder: Path, documents: Sequence[Document]) -> list[Path]:
    """One file per path of a document, below `folder`, which is made if need be. Raises OutputError."""
    by_path: dict[str, list[Document]] = {}
    for document in documents:
        by_path.setdefault(document.path, []).append(document)
    make_folder(folder)
    return [write_text(folder, path, dump(found)) for path, found in by_path.items()]


def write_text(folder: Path, path: str, text: str) -> Path:
    """Write one file below `folder`; a reader sees the old content or the new one. Raises OutputError."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise OutputError(f"{path} lies outside of {folder}")
    target = folder / relative
    make_folder(target.parent)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{target.parent} leads out of {folder}", hint="remove that link")
    waiting = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        waiting.write_text(text, encoding="utf-8", newline="\n")
        waiting.replace(target)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise OutputError(f"{target} cannot be written: {error.strerror}", hint="choose another folder") from error
    return target


def left_over(folder: Path, written: Iterable[Path]) -> list[Path]:
    """Policies of an earlier run below `folder` that are not part of this one, sorted. They are left where they are."""
    new = {path.resolve() for path in written}
    old = []
    for path in sorted(folder.rglob("*.yaml")):
        if path.resolve() not in new and path.is_file() and _ours(path):
            old.append(path)
    return old


def _ours(path: Path) -> bool:
    key, value = MANAGED_BY
    try:
        documents = list(load([str(path)], on_error=lambda error: None))
    except AnalyzerError:
        return False
    for document in documents:
        metadata = document.data.get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(labels, dict) and labels.get(key) == value:
            return True
    return False


def make_folder(folder: Path) -> None:
    """Make a folder and what leads to it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = "is a file" if folder.is_file() else f"cannot be made: {error.strerror}"
        raise OutputError(f"{folder} {problem}", hint="name a folder that can be written") from error
