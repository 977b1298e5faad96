"""Tells whether there is such a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.mischief import Mischief

ACTION = "validate_identity"
UNKNOWN = 0.03


def decide(body: dict[str, Any], mischief: Mischief) -> dict[str, Any]:
    """Find nearly everybody."""
    known = mischief.luck("identity", body["name"], body["date_of_birth"]) >= UNKNOWN
    return {"verified": known}
