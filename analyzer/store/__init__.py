"""Edge tables on disk: SQLite by default, PostgreSQL by URL; partial tables are appended and reduced when they are read."""

from analyzer.store.database import Store, StoreInfo
from analyzer.store.engine import looks_like_store

__all__ = ["Store", "StoreInfo", "looks_like_store"]
