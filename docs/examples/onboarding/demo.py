"""The whole run: services up, engine killed again and again, records held against each other."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from application import Refusal, read_applications
from archive import archive
from display import Display
from folder import Folder
from nemesis import Nemesis
from proof import prove
from report import report
from services.launch import launch

__all__ = ["run_demo"]

HERE = Path(__file__).parent
LIMIT_S = 300.0


async def run_demo(path: Path, *, seed: int, applications: int, kills: int) -> bool:
    """Run everything in an empty folder; tell whether the proof holds."""
    folder = Folder(path)
    accepted = take_in(folder, applications)
    display = Display(folder, applications=accepted, kills=kills)
    for row in read_applications(folder.applications):
        if isinstance(row, Refusal):
            display.say(f"refused row {row.row}: {row.reason}")
    async with asyncio.timeout(LIMIT_S), launch(folder, seed) as addresses:
        display.say("the services are up: identity, credit and billing by HTTP, mail by SMTP")
        nemesis = Nemesis(
            [sys.executable, str(HERE / "intake.py"), str(folder.applications), folder.store],
            os.environ | addresses,
            Random(seed),
        )
        with display.live():
            await nemesis.run(folder, display, applications=accepted, kills=kills)
    display.say(f"all {accepted:,} onboardings have ended")
    compensated = await archive(folder)
    proof = prove(folder)
    report(display.console, proof, compensated)
    return proof.holds


def take_in(folder: Folder, applications: int) -> int:
    """Copy the head of the file, as far as it takes; return how many will be accepted."""
    source = HERE / "applications.csv"
    rows = list(read_applications(source, applications))
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    folder.applications.write_text("".join(lines[: len(rows) + 1]), encoding="utf-8")
    return sum(not isinstance(row, Refusal) for row in rows)
