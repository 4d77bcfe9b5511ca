"""What stores are called: paths and URLs. Knows no database, so that commands without a store need not load one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["POSTGRES", "SQLITE", "looks_like_store", "starts_as_sqlite"]

POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
SQLITE = "sqlite:///"
_MAGIC = b"SQLite format 3\0"


def looks_like_store(name: str) -> bool:
    """Whether a SOURCE is a store: a database URL, or a file that SQLite wrote."""
    if name.startswith((*POSTGRES, SQLITE)):
        return True
    try:
        return os.path.isfile(name) and starts_as_sqlite(Path(name))
    except (OSError, ValueError):
        return False


def starts_as_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database, by its first bytes. Raises OSError."""
    with path.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC
