"""How the steps reach the services: HTTP, SMTP and a file, at the addresses in the environment."""

from __future__ import annotations

import asyncio
import functools
import os
from collections import defaultdict
from email.mime.text import MIMEText
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiosmtplib
import httpx
import msgspec

from services.policies import PolicyBook

if TYPE_CHECKING:
    from application import Application

__all__ = ["MailboxClosed", "PaymentDeclined", "ask", "open_policy_book", "send"]

T = TypeVar("T")

REFUSED = 422
lines: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(10))
"""How many requests each service is bothered with at once."""


class PaymentDeclined(Exception):  # noqa: N818 (an answer, not a defect)
    """The bank will never pay this."""


class MailboxClosed(Exception):  # noqa: N818 (an answer, not a defect)
    """Nothing can ever be delivered there."""


async def ask(service: str, question: object, answer: type[T], *, key: str) -> T:
    """Post a question to a service and read its answer.

    Raises:
        PaymentDeclined: the answer is no.
        httpx.HTTPError: there is no answer; it may be worth another attempt.
    """
    async with lines[service]:
        response = await client(service).post(
            "/", content=msgspec.json.encode(question), headers={"Idempotency-Key": key}
        )
    if response.status_code == REFUSED:
        raise PaymentDeclined(response.json()["reason"])
    response.raise_for_status()
    return msgspec.json.decode(response.content, type=answer)


async def send(purpose: str, to: Application, *, subject: str, text: str, key: str) -> None:
    """Send an e-mail.

    Raises:
        MailboxClosed: the mail server has refused it for good.
        aiosmtplib.SMTPException: it may be worth another attempt.
    """
    message = MIMEText(text)
    message["From"] = "Onboarding <onboarding@insurance.example>"
    message["To"] = to.email
    message["Subject"] = subject
    message["Keywords"] = purpose
    message["Application"] = to.id
    message["Idempotency-Key"] = key
    host, port = os.environ["MAIL_ADDRESS"].split(":")
    async with lines["mail"]:
        try:
            await aiosmtplib.send(
                message,
                hostname=host,
                port=int(port),
                local_hostname="insurance.example",
                start_tls=False,
                timeout=2.0,
            )
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise MailboxClosed(error.message) from error
            raise


@functools.cache
def client(service: str) -> httpx.AsyncClient:
    """Return this process's client of a service; its timeout is longer than that of any step."""
    return httpx.AsyncClient(base_url=os.environ[f"{service.upper()}_URL"], timeout=60.0)


@functools.cache
def open_policy_book() -> PolicyBook:
    """Return the policy book of this process."""
    return PolicyBook(Path(os.environ["POLICY_BOOK"]))
