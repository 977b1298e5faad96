"""From a URL to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beamflow.errors import DefinitionError
from beamflow.stores.memory import MemoryStore
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.url import open_store
from beamflow.testing.store_suite import StoreClock


def test_memory() -> None:
    """Each memory:// is a store of its own."""
    first, second = (open_store("memory://", clock=StoreClock()) for _ in range(2))
    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize(
    ("url", "path", "durability"),
    [
        ("sqlite:///app.db", "app.db", "full"),
        ("sqlite:///data/app.db", "data/app.db", "full"),
        ("sqlite:////var/lib/app.db", "/var/lib/app.db", "full"),
        ("sqlite:////var/lib/app.db?durability=relaxed", "/var/lib/app.db", "relaxed"),
        ("sqlite:///app.db?durability=full", "app.db", "full"),
        ("sqlite:///a%20b%3F%23%25.db", "a b?#%.db", "full"),
        ("sqlite:///ä.db", "ä.db", "full"),
    ],
)
def test_sqlite(url: str, path: str, durability: str) -> None:
    """Three slashes begin a relative path, four an absolute one; the query sets the durability."""
    store = open_store(url, clock=StoreClock())
    assert isinstance(store, SQLiteStore)
    assert store._path == Path(path)
    assert store._durability == durability


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.db",
        "/var/lib/app.db",
        "memory:",
        "memory://x",
        "memory://?durability=relaxed",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:////var/lib/",
        "sqlite://app.db",
        "sqlite:app.db",
        "sqlite:///app.db#part",
        "sqlite:///app.db?durability=none",
        "sqlite:///app.db?durability=",
        "sqlite:///app.db?speed=high",
        "sqlite:///a\0.db",
        "sqlite:///a%00.db",
        "sqlite:///:memory:",
        "sqlite://[x/app.db",
        "postgres://host/name",
        "SQLITE",
        None,
        Path("app.db"),
    ],
)
def test_what_names_no_store(url: object) -> None:
    """A URL that names no store is refused with what to write."""
    with pytest.raises(DefinitionError, match=r"write 'memory://', 'sqlite:///relative\.db'"):
        open_store(url, clock=StoreClock())  # type: ignore[arg-type]


def test_only_the_named_store_is_imported() -> None:
    """An engine in memory never loads SQLite."""
    script = (
        "import sys; from beamflow.stores.url import open_store;"
        "open_store('memory://', clock=lambda: 0);"
        "sys.exit('aiosqlite' in sys.modules or 'beamflow.stores.sqlite' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
