"""Starts the services, each in a process of its own, which no kill of the engine touches."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.policies import PolicyBook

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from folder import Folder

__all__ = ["ServiceError", "launch"]

ADDRESSES = {
    "identity": "IDENTITY_URL",
    "credit": "CREDIT_URL",
    "billing": "BILLING_URL",
    "mail": "MAIL_ADDRESS",
}


class ServiceError(Exception):
    """A service cannot be started."""


@asynccontextmanager
async def launch(folder: Folder, seed: int) -> AsyncIterator[dict[str, str]]:
    """Run the services; gives the environment variables that say where they are."""
    PolicyBook(folder.policies)
    processes = await asyncio.gather(*(start(folder, name, seed) for name in ADDRESSES))
    try:
        addresses = {"POLICY_BOOK": str(folder.policies)}
        for variable, process in zip(ADDRESSES.values(), processes, strict=True):
            assert process.stdout is not None
            addresses[variable] = (await process.stdout.readline()).decode().strip()
            if not addresses[variable]:
                raise ServiceError(f"a service has not come up: there is no {variable}")
        yield addresses
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()  # a service lives as long as its standard input is open
            await process.wait()


async def start(folder: Folder, name: str, seed: int) -> Process:
    """Start one service; the first line it prints is its address."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", name, folder.ledger(name), str(seed)),
        cwd=Path(__file__).parents[1],
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
