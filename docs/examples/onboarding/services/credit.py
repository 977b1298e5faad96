"""Tells how far somebody can be trusted with a bill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.mischief import Mischief

ACTION = "check_credit"
LOWEST, HIGHEST = 300, 850


def decide(body: dict[str, Any], mischief: Mischief) -> dict[str, Any]:
    """Score by luck, and a little by income."""
    luck = mischief.luck("credit", body["application"])
    comfort = min(body["income"], 100_000) / 100_000
    return {"score": round(LOWEST + (HIGHEST - LOWEST) * luck ** (0.5 - 0.25 * comfort))}
