"""From a URL to a store, without importing any store but that one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, unquote

from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from beamflow.stores.base import Reader, Store

__all__ = ["open_reader", "open_store"]

_NO_FILE = ("/", ":memory:")
_ADVICE = (
    "write 'memory://', 'sqlite:///relative.db' or 'sqlite:////absolute.db', "
    "the latter two with '?durability=relaxed' if the last moments may be lost in a power cut"
)


def open_store(url: str, *, clock: Callable[[], int]) -> Store:
    """Make the store that a URL names; it is not opened yet.

    Args:
        url: ``memory://``, ``sqlite:///relative.db`` or ``sqlite:////absolute.db``, the latter two
            with ``?durability=full`` (the default) or ``?durability=relaxed``.
        clock: the time now, in microseconds since the Unix epoch.

    Raises:
        DefinitionError: the URL names no store; the message says what to write.
    """
    if url == "memory://":
        return cast("Store", _made("beamflow.stores.memory", "MemoryStore", clock=clock))
    path, durability = _file_of(url)
    options = {"clock": clock, "durability": durability}
    return cast("Store", _made("beamflow.stores.sqlite", "SQLiteStore", path, **options))


def open_reader(url: str) -> Reader:
    """Make what looks at the store that a URL names, beside whoever uses it.

    Raises:
        DefinitionError: the URL names no store that others than its engine can see.
    """
    if url == "memory://":
        raise DefinitionError("a store in memory ends with its engine: name a file")
    path, _ = _file_of(url)
    return cast("Reader", _made("beamflow.stores.sqlite", "SQLiteReader", path))


def _file_of(url: str) -> tuple[str, str]:
    """Return the path and the durability that a URL names; raises `DefinitionError`."""
    if not isinstance(url, str):
        raise DefinitionError(f"a store is named by a URL, not {url!r}: {_ADVICE}")
    scheme, _, place = url.partition("://")
    if scheme != "sqlite":
        raise DefinitionError(f"store URL {url!r} is not understood: {_ADVICE}")
    quoted, _, query = place.partition("?")
    path = unquote(quoted[1:])
    if quoted[:1] != "/" or "#" in quoted or "\0" in path or path.endswith(_NO_FILE) or not path:
        raise DefinitionError(f"store URL {url!r} names no file: {_ADVICE}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    durability = options.pop("durability", "full")
    if options or durability not in {"full", "relaxed"}:
        raise DefinitionError(f"store URL {url!r} has an option that does not exist: {_ADVICE}")
    return path, durability


def _made(module: str, name: str, *arguments: object, **options: object) -> object:
    return getattr(import_module(module), name)(*arguments, **options)
