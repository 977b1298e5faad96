"""Runs the demo's services and its engine, and kills the engine when so many have ended.

``python demo_stopped.py FOLDER CODE APPLICATIONS [ENDED]``: the engine's program is that in CODE;
without ENDED it comes to its own end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

DEMO = Path(__file__).resolve().parents[2] / "docs" / "examples" / "onboarding"
sys.path.insert(0, str(DEMO))

from demo import take_in  # noqa: E402 - found only now
from folder import Folder  # noqa: E402
from services.launch import launch  # noqa: E402
from told import Told  # noqa: E402


async def main(folder: Folder, code: Path, moment: int | None) -> None:
    async with asyncio.timeout(100), launch(folder, 1) as addresses:
        engine = await asyncio.create_subprocess_exec(
            sys.executable,
            str(code / "intake.py"),
            str(folder.applications),
            folder.store,
            env=os.environ | addresses,
            stdout=asyncio.subprocess.PIPE,
        )
        assert engine.stdout is not None
        ended = 0
        async for line in engine.stdout:
            if not line.endswith(b"\n"):
                break  # the kill fell into the middle of it
            ended += bool(msgspec.json.decode(line, type=Told).ended)
            if moment is not None and ended >= moment:
                engine.kill()
        await engine.wait()


if __name__ == "__main__":
    place = Folder(Path(sys.argv[1]))
    take_in(place, int(sys.argv[3]))
    asyncio.run(main(place, Path(sys.argv[2]), int(sys.argv[4]) if len(sys.argv) > 4 else None))
