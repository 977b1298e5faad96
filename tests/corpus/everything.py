"""The whole corpus: importing this collects it."""

from __future__ import annotations

from tests.corpus import (
    again,
    branches,
    children,
    control,
    letters,
    notes,
    rows,
    sagas,
    sharing,
    signals,
    steps,
    talking,
    undoing,
    waiting,
)
from tests.corpus.case import CASES, HELPERS

__all__ = ["CASES", "MODULES", "WORKFLOWS"]

MODULES = (
    again,
    branches,
    children,
    control,
    letters,
    notes,
    rows,
    sagas,
    sharing,
    signals,
    steps,
    talking,
    undoing,
    waiting,
)
WORKFLOWS = [*(case.workflow for case in CASES.values()), *HELPERS]
"""All definitions, as an engine is given them."""
