"""Runs cells: each in a process of its own, which costs a time limit when it hangs, never the run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from benchmarks.environments import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contenders import Load
    from benchmarks.environments import Environment

__all__ = ["ran"]

ERROR = re.compile(r"[\w.]+(Error|Exception|Timeout)\b")


def ran(
    environment: Environment,
    contender: str,
    workload: str,
    load: Load,
    *,
    limit_s: float,
    directory: Path | None = None,
) -> dict[str, Any]:
    """Run one cell and return what it has printed; ``{"why": …}`` if that is nothing of use."""
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as scratch:
        command = [str(environment.python), "-m", "benchmarks.cell", contender, workload]
        command += [f"--count={load.count}", f"--open={load.open}", f"--loop={environment.loop}"]
        command += [f"--dir={scratch}"]
        variables = {**os.environ, **environment.variables, "PYTHONPATH": str(ROOT)}
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            began = time.monotonic()
            try:
                process = subprocess.Popen(  # noqa: S603 - a program of ours, in an environment of ours
                    command,
                    cwd=ROOT,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                return {"why": f"failed: {error}"}
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return {"why": f"did not end within {limit_s:.0f} s"}
            finally:
                _end(process)
            output.seek(0)
            errors.seek(0)
            result = _read(output.read(), errors.read())
    return {"seconds": time.monotonic() - began, **result}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started: they are of its own session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(output: str, errors: str) -> dict[str, Any]:
    """Return the last JSON that was printed; whatever an engine prints besides is passed over."""
    for line in reversed(output.splitlines()):
        with suppress(ValueError):
            result = json.loads(line)
            if isinstance(result, dict):
                return result
    said = [line.strip(" |+-") for line in errors.splitlines() if line.strip(" |+-")]
    named = [line for line in said if ERROR.match(line)]
    return {"why": f"failed: {(named or said)[-1][:160]}" if said else "failed without a word"}
