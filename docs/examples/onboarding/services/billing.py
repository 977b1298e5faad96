"""Collects the premium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.endpoint import Refused

if TYPE_CHECKING:
    from services.mischief import Mischief

ACTION = "notify_billing"
CLOSED_ACCOUNTS = 0.02


def decide(body: dict[str, Any], mischief: Mischief) -> dict[str, Any]:
    """Write an invoice, unless the bank has closed the account."""
    if mischief.luck("account", body["iban"]) < CLOSED_ACCOUNTS:
        raise Refused(f"the account {body['iban']} is closed")
    return {"number": f"INV-{body['policy']}", "cents": body["cents"]}
