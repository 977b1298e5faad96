"""Onboards 1,000 customers while the engine is killed again and again, and proves it went well."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from demo import run_demo
from nemesis import EngineDiedError
from services.launch import ServiceError

MOST = 1_000
"""As many applications are there."""


def main() -> int:
    """Run the demo; 0 if the proof holds, 1 if not, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="onboarding", description=__doc__)
    parser.add_argument(
        "--applications", type=int, default=MOST, metavar="N", help=f"how many, {MOST:,} at most"
    )
    parser.add_argument("--kills", type=int, default=12, metavar="N", help="how often to kill -9")
    parser.add_argument("--seed", type=int, default=1, help="of the kills and of the bad luck")
    parser.add_argument("--folder", type=Path, help="an empty folder to keep the records in")
    options = parser.parse_args()
    if not 1 <= options.applications <= MOST:
        parser.error(f"--applications is {options.applications}, not between 1 and {MOST:,}")
    if options.kills < 0:
        parser.error(f"--kills is {options.kills}, which is below 0")
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="beamflow-onboarding-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    run = run_demo(
        folder, seed=options.seed, applications=options.applications, kills=options.kills
    )
    try:
        holds = asyncio.run(run)
    except (EngineDiedError, ServiceError) as error:
        print(f"\nThe run was broken off: {error}.")
        holds = False
    except TimeoutError:
        print("\nThe run was broken off: some onboardings do not end.")
        holds = False
    except KeyboardInterrupt:
        print(f"\nThe run was broken off by hand. What there is of records is in {folder}")
        return 130
    if holds and not options.folder:
        shutil.rmtree(folder)
    else:
        print(f"\nThe records are in {folder}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
