"""Logging: to structlog where the host has configured it, else to a logger that is silent."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import LogCapture

from beamflow import log

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What a host that has configured structlog gets to see."""
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture.entries
    structlog.reset_defaults()


def test_structlog_gets_event_level_and_facts(lines: list[MutableMapping[str, Any]]) -> None:
    """Each as a field of its own."""
    log.warning("step_failed", workflow_id="w", step="pay", attempt=2)
    assert lines == [
        {
            "event": "step_failed",
            "log_level": "warning",
            "workflow_id": "w",
            "step": "pay",
            "attempt": 2,
        }
    ]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_standard_logger_gets_pairs(level: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where structlog is not configured."""
    with caplog.at_level(logging.DEBUG, logger="beamflow"):
        getattr(log, level)("x", step="b", number=1)
    assert caplog.record_tuples == [
        ("beamflow", logging.getLevelNamesMapping()[level.upper()], "x step='b' number=1")
    ]


def test_it_is_silent_unless_the_host_wants_it() -> None:
    """No handler of last resort, nothing on stdout or stderr."""
    code = "from beamflow import log; log.error('x', b=2)"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (run.stdout, run.stderr) == ("", "")
