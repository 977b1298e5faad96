"""``python -m benchmarks.cell CONTENDER WORKLOAD``: one workload of one contender, in this process.

The last line that it prints is JSON: the figures. It is started in the
environment of the contender by `benchmarks.workflows`, and needs nothing of ours there but the
standard library.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import CONTENDERS, made
from benchmarks.workloads import WORKLOADS, Figures

__all__ = ["measured"]


async def measured(name: str, workload: str, directory: Path, count: int, window: int) -> Figures:
    """Measure one workload of one contender."""
    figures = await WORKLOADS[workload](made(name), directory, count, window)
    return {"count": count, "window": window, **figures}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell", description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--open", type=int, default=1)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--dir", type=Path, help="where the engine's files are made")
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    os.environ["BENCH_CONTENDER"] = arguments.contender
    run = asyncio.run if arguments.loop == "asyncio" else import_module("uvloop").run
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        result = run(
            measured(
                arguments.contender,
                arguments.workload,
                arguments.dir or Path(scratch),
                arguments.count,
                arguments.open,
            )
        )
    result["python"] = platform.python_version()
    match CONTENDERS[arguments.contender].distribution:
        case "":
            result["version"] = ""
        case "python":
            result["version"] = platform.python_version()
        case distribution:
            result["version"] = version(distribution)
    sys.stdout.write(f"\n{json.dumps(result)}\n")
    sys.stdout.flush()
    os._exit(0)  # what an engine has left running is not waited for


if __name__ == "__main__":
    main()
