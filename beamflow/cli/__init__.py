"""The command line: ``beamflow check``, ``beamflow lint``."""

from __future__ import annotations
