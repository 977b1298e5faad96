"""How the steps reach the services: HTTP, SMTP and a file, at the addresses in the environment."""

from __future__ import annotations

import asyncio
import functools
import os
from email.message import EmailMessage
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
calls, deliveries = asyncio.Semaphore(40), asyncio.Semaphore(20)
"""How many at once the services are bothered with, over HTTP and over SMTP."""


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
    async with calls:
        response = await http().post(
            os.environ[f"{service.upper()}_URL"],
            content=msgspec.json.encode(question),
            headers={"Idempotency-Key": key},
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
    message = EmailMessage()
    message["From"] = "Onboarding <onboarding@insurance.example>"
    message["To"] = to.email
    message["Subject"] = subject
    message["Keywords"] = purpose
    message["Application"] = to.id
    message["Idempotency-Key"] = key
    message.set_content(text)
    host, port = os.environ["MAIL_ADDRESS"].split(":")
    async with deliveries:
        try:
            await aiosmtplib.send(message, hostname=host, port=int(port), start_tls=False)
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise MailboxClosed(error.message) from error
            raise


@functools.cache
def http() -> httpx.AsyncClient:
    """Return the client of this process; its timeout is longer than that of any step."""
    return httpx.AsyncClient(timeout=60.0)


@functools.cache
def open_policy_book() -> PolicyBook:
    """Return the policy book of this process."""
    return PolicyBook(Path(os.environ["POLICY_BOOK"]))
