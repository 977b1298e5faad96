"""Blocking functions of actors, in threads; what cannot be stopped is at least listed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from supervision.events import ThreadLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervision.runtime import Runtime

__all__ = ["in_thread"]

_T = TypeVar("_T")


async def in_thread(
    runtime: Runtime, path: str, incarnation: int, function: Callable[[], _T], name: str
) -> _T:
    """Do `Actor.run_blocking`.

    Args:
        runtime: What the tree shares.
        path: The actor's place in the tree.
        incarnation: Which life of it.
        function: What to run.
        name: What to call it.
    """
    left = ThreadLeft(path, incarnation, name)
    ended = False

    def work() -> _T:
        nonlocal ended
        try:
            return function()
        finally:
            ended = True
            with suppress(RuntimeError):  # the loop is closed, and nobody looks any more
                runtime.loop.call_soon_threadsafe(runtime.leftovers.discard, left)

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        if not ended:
            runtime.leftovers.add(left)
            runtime.tell(left)
        raise
