"""What beamflow and supervision cost, measured."""

from __future__ import annotations
