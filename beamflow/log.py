"""Logging: one bound logger per place, silent unless the host has configured something.

Lines go to structlog when the host has configured it, else to the standard logger ``beamflow``,
which has a null handler. Nothing is imported, configured or printed on the host's behalf.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

__all__ = ["Logger"]

_standard = logging.getLogger("beamflow")
_standard.addHandler(logging.NullHandler())


class Logger:
    """Writes an event with its facts, and with those it is bound to.

    Args:
        bound: facts that every line carries, such as ``workflow_id``.
    """

    __slots__ = ("_bound",)

    def __init__(self, **bound: object) -> None:
        """Bind facts."""
        self._bound = bound

    def bind(self, **more: object) -> Logger:
        """Return a logger that carries more facts."""
        return Logger(**(self._bound | more))

    def debug(self, event: str, **facts: object) -> None:
        """Tell of the ordinary course."""
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Tell of what an operator wants to know."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Tell of what went wrong and is being dealt with."""
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Tell of what needs somebody."""
        self._write(logging.ERROR, event, facts)

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        structlog: Any = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            logger = structlog.get_logger("beamflow").bind(**(self._bound | facts))
            getattr(logger, logging.getLevelName(level).lower())(event)
        elif _standard.isEnabledFor(level):
            pairs = " ".join(f"{key}={value!r}" for key, value in (self._bound | facts).items())
            _standard.log(level, "%s %s", event, pairs)
