"""Delivers e-mail over SMTP; goes away now and then, and finds some mailboxes closed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from email import message_from_bytes
from random import Random
from typing import TYPE_CHECKING

from aiosmtpd.smtp import SMTP

from services.ledger import Outcome

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

    from services.ledger import Ledger
    from services.mischief import Mischief

__all__ = ["serve"]

CLOSED_MAILBOXES = 0.02
BUSY = 0.03
UP_S, DOWN_S = (5.0, 9.0), (1.0, 1.5)


class PostOffice:
    """Takes messages: the headers tell the key, the application and what the message is for."""

    def __init__(self, ledger: Ledger, mischief: Mischief) -> None:
        """Begin with nothing delivered."""
        self.first_message = asyncio.Event()
        self._ledger = ledger
        self._mischief = mischief
        self._delivered: set[str] = set()
        self._attempts = Counter[str]()

    async def handle_DATA(self, _smtp: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd's)
        """Deliver a message once, whatever happens to the sender."""
        self.first_message.set()
        content = envelope.content
        headers = message_from_bytes(content if isinstance(content, bytes) else b"")
        key, application = headers["Idempotency-Key"], headers["Application"]
        outcome, answer = self._deliver(key, headers["To"])
        self._ledger.record(key, application, headers["Keywords"], outcome)
        return answer

    def _deliver(self, key: str, recipient: str) -> tuple[Outcome, str]:
        self._attempts[key] += 1
        if self._mischief.luck("mailbox", recipient) < CLOSED_MAILBOXES:
            return Outcome.REFUSED, f"550 5.1.1 no mailbox {recipient} here"
        if self._mischief.luck("busy", key, self._attempts[key]) < BUSY:
            return Outcome.FAILED, "451 4.3.0 come again later"
        if key in self._delivered:
            return Outcome.DUPLICATE, "250 2.6.0 delivered before"
        self._delivered.add(key)
        return Outcome.DONE, "250 2.6.0 delivered"


async def serve(ledger: Ledger, mischief: Mischief, seed: int) -> None:
    """Take mail on a free port, whose address is printed first; the port is closed at times."""
    weather = Random(seed)
    office = PostOffice(ledger, mischief)
    with socket.socket() as claim:
        # bound but never listening: nobody else gets the port while it is closed
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claim.bind(("127.0.0.1", 0))
        host, port = claim.getsockname()
        loop = asyncio.get_running_loop()

        def session() -> SMTP:
            return SMTP(office, hostname="mail.example", enable_SMTPUTF8=True, loop=loop)

        uptime = 0.3
        while True:
            server = await loop.create_server(session, host, port, reuse_port=True)
            async with server:
                if not office.first_message.is_set():
                    print(f"{host}:{port}", flush=True)
                    await office.first_message.wait()
                await asyncio.sleep(uptime)
            await asyncio.sleep(weather.uniform(*DOWN_S))
            uptime = weather.uniform(*UP_S)
