"""Edge tables on disk: SQLite by default, PostgreSQL by URL; partial tables are appended and reduced when they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.store.names import looks_like_store

if TYPE_CHECKING:
    from analyzer.store.database import Store, StoreInfo

__all__ = ["Store", "StoreInfo", "looks_like_store"]


def __getattr__(name: str) -> Any:
    """`Store` and `StoreInfo`, loaded when they are asked for: a command on a file should not wait for the database library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analyzer.store import database

    return getattr(database, name)
