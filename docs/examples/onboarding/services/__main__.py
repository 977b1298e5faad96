"""Runs one service: ``python -m services billing LEDGER SEED``.

It prints its address, and lives as long as its standard input is open: whoever started it need not
end it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from threading import Thread

from services import billing, credit, endpoint, identity, mail
from services.ledger import Ledger
from services.mischief import Mischief


def main(name: str, ledger_path: str, seed: str) -> None:
    """Serve until nobody holds the other end of standard input."""
    Thread(target=leave_with_parent, daemon=True).start()
    ledger, mischief = Ledger(Path(ledger_path)), Mischief(int(seed))
    if name == "mail":
        asyncio.run(mail.serve(ledger, mischief, int(seed)))
    else:
        service = {"identity": identity, "credit": credit, "billing": billing}[name]
        endpoint.serve(service.ACTION, service.decide, ledger, mischief)


def leave_with_parent() -> None:
    """Wait for the end of standard input, then leave at once."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
