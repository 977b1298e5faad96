"""What tests of applications and of stores are made with."""

from __future__ import annotations

from beamflow.testing.chaos_engine import ChaosEngine, ChaosHandle, Ending
from beamflow.testing.faulty_store import EngineFault

__all__ = ["ChaosEngine", "ChaosHandle", "Ending", "EngineFault"]
