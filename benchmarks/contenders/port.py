"""What an engine must be able to do to be measured.

This and all that a contender imports of ours needs nothing but the standard library: it runs in the
environment of the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["BRANCHES", "IO_S", "LONG", "PARALLEL", "STEPS", "Contender"]

STEPS = 5
PARALLEL = 20
LONG = 1_000
BRANCHES = 10
IO_S = 0.010


class Contender:
    """An engine, as the workloads see it.

    A workflow is of one of these kinds, and takes its own key as its argument. A step takes the key
    and its number, calls ``probe.ran`` with both, and returns its number. What an engine has no
    means for is left out, and stands in its entry with the reason.

    - ``five``: 5 steps, one after the other
    - ``parallel``: 20 steps at once
    - ``waits``: waits for a signal, then one step
    - ``long``: 1,000 steps, one after the other
    - ``tree``: starts 10 children and waits for them, each of which starts 10 with one step each
    - ``io``: 5 steps, one after the other, that sleep for 10 ms
    - ``gated``: 5 steps, one after the other, the first of which waits for ``probe.gate``
    """

    async def open(self, directory: Path) -> None:
        """Start the engine, its files in ``directory``."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop the engine in order."""

    async def start(self, kind: str, key: str) -> None:
        """Start a workflow; return when the engine has acknowledged it, if it does that."""
        raise NotImplementedError

    async def ended(self, key: str) -> None:
        """Wait for the end of a workflow that was started."""
        raise NotImplementedError

    async def run(self, kind: str, key: str) -> None:
        """Start a workflow and wait for its end, in the engine's shortest way."""
        await self.start(kind, key)
        await self.ended(key)

    async def signal(self, key: str) -> None:
        """Send a workflow of the kind ``waits`` what it waits for; return when that is acknowledged."""
        raise NotImplementedError

    async def resume(self, keys: Sequence[str]) -> None:
        """After a crash, do what a host must do for its workflows to go on; nothing for most."""

    def pids(self) -> tuple[int, ...]:
        """Return the processes of the engine besides this one."""
        return ()
