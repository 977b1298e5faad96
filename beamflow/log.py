"""Logging: an event and its facts, silent unless the host has configured something.

Lines go to structlog when the host has configured it, else to the standard logger ``beamflow``,
which has a null handler. Nothing is imported, configured or printed on the host's behalf.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

__all__ = ["debug", "error", "info", "warning"]

_standard = logging.getLogger("beamflow")
_standard.addHandler(logging.NullHandler())


def debug(event: str, **facts: object) -> None:
    """Tell of the ordinary course."""
    _write(logging.DEBUG, event, facts)


def info(event: str, **facts: object) -> None:
    """Tell of what an operator wants to know."""
    _write(logging.INFO, event, facts)


def warning(event: str, **facts: object) -> None:
    """Tell of what went wrong and is being dealt with."""
    _write(logging.WARNING, event, facts)


def error(event: str, **facts: object) -> None:
    """Tell of what needs somebody."""
    _write(logging.ERROR, event, facts)


def _write(level: int, event: str, facts: dict[str, object]) -> None:
    structlog: Any = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        logger = structlog.get_logger("beamflow").bind(**facts)
        getattr(logger, logging.getLevelName(level).lower())(event)
    elif _standard.isEnabledFor(level):
        pairs = " ".join(f"{key}={value!r}" for key, value in facts.items())
        _standard.log(level, "%s %s", event, pairs)
