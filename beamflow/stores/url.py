"""From a URL to a store, without importing any store but that one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, unquote

from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from beamflow.stores.base import Store

__all__ = ["open_store"]

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
    if not isinstance(url, str):
        raise DefinitionError(f"a store is named by a URL, not {url!r}: {_ADVICE}")
    scheme, _, place = url.partition("://")
    if url == "memory://":
        return _made("beamflow.stores.memory", "MemoryStore", clock=clock)
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
    return _made("beamflow.stores.sqlite", "SQLiteStore", path, clock=clock, durability=durability)


def _made(module: str, name: str, *arguments: object, **options: object) -> Store:
    return cast("Store", getattr(import_module(module), name)(*arguments, **options))
