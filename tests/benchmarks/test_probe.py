"""Steps tell that they have run, to whoever listens."""

from __future__ import annotations

import asyncio

from benchmarks import probe
from supervision.testing import settle


async def test_a_gate_lets_nobody_through_before_all_have_come() -> None:
    """And everybody then."""
    gate = probe.Gate(2)
    first = asyncio.create_task(gate.passed())
    await settle()
    assert not first.done()
    await gate.passed()
    await first


def test_probes_are_silent_when_nobody_listens() -> None:
    heard: list[tuple[str, int]] = []
    probe.listen(lambda key, stage: heard.append((key, stage)))
    probe.ran("a", 1)
    probe.listen(None)
    probe.ran("a", 2)
    assert heard == [("a", 1)]
