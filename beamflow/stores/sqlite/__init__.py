"""The store in one SQLite file: durable, without a server."""

from __future__ import annotations

from beamflow.stores.sqlite.reader import SQLiteReader
from beamflow.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteReader", "SQLiteStore"]
