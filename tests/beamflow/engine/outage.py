"""Workflows whose services are down until a test says otherwise, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowFailedError,
    WorkflowParkedError,
    step,
    workflow,
)
from beamflow.model.ids import DEAD_LETTERS

if TYPE_CHECKING:
    from beamflow import WorkflowHandle


healthy: set[str] = set()
"""What works by now."""


@step(retry=Retry(max_attempts=2, initial=0))
async def ship(order: str, pieces: int) -> str:
    if order not in healthy:
        raise ConnectionError(f"no way for {order}")
    return f"{pieces} shipped"


@workflow
async def sell(order: str, pieces: int) -> str:
    return await ship(order, pieces)


@step
async def reserve(what: str) -> None:
    pass


@reserve.compensation(retry=Retry(max_attempts=2, initial=0))
async def release(_none: None, what: str) -> None:
    if what not in healthy:
        raise ConnectionError(f"cannot release {what}")


@workflow
async def undo_me(what: str) -> None:
    await reserve(what)
    raise ValueError("changed my mind")


async def fails(handle: WorkflowHandle[Any], match: str | None = None) -> None:
    with pytest.raises(WorkflowFailedError, match=match):
        await handle.result()


async def parks(handle: WorkflowHandle[Any]) -> None:
    with pytest.raises(WorkflowParkedError):
        await handle.result()


async def letters_log(engine: Engine) -> list[type]:
    return [type(one.event) for one in await engine._services.store.read(DEAD_LETTERS)]
