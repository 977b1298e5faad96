"""The steps that most workflows of the corpus share."""

from __future__ import annotations

import asyncio

from beamflow import Retry, step
from tests.corpus.world import effect, seconds

__all__ = ["STUBBORN", "do", "do_slowly", "refuse", "reserve"]

STUBBORN = Retry(max_attempts=5, initial=seconds(1), max=seconds(2))


@step(retry=STUBBORN)
async def do(what: str) -> str:
    """Do something at once."""
    return effect(what)


@step(retry=STUBBORN)
async def do_slowly(what: str) -> str:
    """Do something that takes ten seconds."""
    await asyncio.sleep(seconds(10))
    return effect(what)


@step
async def refuse(what: str) -> None:
    """Fail for good."""
    raise ValueError(what)


@step(retry=STUBBORN)
async def reserve(what: str) -> str:
    """Do what can be undone."""
    return effect("reserve", what)


@reserve.compensation(retry=STUBBORN)
async def release(reserved: str, what: str) -> None:
    """Undo it."""
    assert reserved == f"reserve {what}"
    effect("release", what)
