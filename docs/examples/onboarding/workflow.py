"""The onboarding of one customer: six steps, and how to undo two of them.

This is all there is to say about the business. That a step's result is recorded, that a failed
attempt is made again, that a crash in the middle resumes where it was and a failure for good is
undone in reverse order is beamflow's part.
"""

from __future__ import annotations

import asyncio

import msgspec

from application import Application, Plan
from beamflow import Retry, current_step, step, workflow
from partners import MailboxClosed, PaymentDeclined, ask, open_policy_book, send

__all__ = ["Declined", "Policy", "onboard"]

PATIENT = Retry(
    max_attempts=12,
    initial=0.1,
    max=1.0,
    give_up_on=(MailboxClosed, PaymentDeclined),
)


class Identity(msgspec.Struct, frozen=True):
    """What the identity service says."""

    verified: bool


class Credit(msgspec.Struct, frozen=True):
    """What the credit agency says."""

    score: int


class Premium(msgspec.Struct, frozen=True):
    """What the policy costs, in cents a month."""

    cents: int


class Reservation(msgspec.Struct, frozen=True):
    """A policy that is reserved for the customer."""

    number: str


class Invoice(msgspec.Struct, frozen=True):
    """A bill that will be collected."""

    number: str


class Policy(msgspec.Struct, frozen=True, tag=True):
    """How an onboarding ends well: a policy, confirmed and billed."""

    number: str
    premium: Premium
    invoice: str


class Declined(msgspec.Struct, frozen=True, tag=True):
    """How an onboarding ends before anything was reserved."""

    reason: str


@workflow
async def onboard(application: Application) -> Policy | Declined:
    """Take a customer on, or decline; what fails half-way is undone."""
    identity, credit = await asyncio.gather(
        validate_identity(application), check_credit(application)
    )
    if not identity.verified:
        return Declined("identity not verified")
    if credit.score < 400:
        return Declined(f"credit score {credit.score} is below 400")
    premium = await calculate_premium(application, credit)
    reservation = await reserve_policy(application, premium)
    await send_confirmation(application, reservation, premium)
    invoice = await notify_billing(application, reservation, premium)
    return Policy(reservation.number, premium, invoice.number)


@step(retry=PATIENT, timeout=2.0)
async def validate_identity(application: Application) -> Identity:
    """Ask whether there is such a person."""
    question = {
        "application": application.id,
        "name": application.name,
        "date_of_birth": application.date_of_birth,
    }
    return await ask("identity", question, Identity, key=current_step().idempotency_key)


@step(retry=PATIENT, timeout=2.0)
async def check_credit(application: Application) -> Credit:
    """Ask how far the customer can be trusted with a bill."""
    question = {"application": application.id, "income": application.income}
    return await ask("credit", question, Credit, key=current_step().idempotency_key)


@step
async def calculate_premium(application: Application, credit: Credit) -> Premium:
    """Look the premium up in today's tariff: recorded, so tomorrow's tariff changes nothing."""
    tariff = {Plan.BASIC: 1_900, Plan.COMFORT: 3_400, Plan.PREMIUM: 5_900}
    surcharge = 1.0 + max(application.age - 40, 0) / 100 + (850 - credit.score) / 1_000
    return Premium(round(tariff[application.plan] * surcharge))


@step(retry=PATIENT)
def reserve_policy(application: Application, premium: Premium) -> Reservation:
    """Reserve a policy in the policy book; a plain function, so it runs in a worker thread."""
    key = current_step().idempotency_key
    book = open_policy_book()
    return Reservation(book.reserve(key, application.id, application.plan.value, premium.cents))


@reserve_policy.compensation(retry=PATIENT)
def cancel_policy(reservation: Reservation, application: Application, premium: Premium) -> None:
    """Give the reserved policy back."""
    open_policy_book().cancel(current_step().idempotency_key, reservation.number)


@step(retry=PATIENT, timeout=5.0, raises=[MailboxClosed])
async def send_confirmation(
    application: Application, reservation: Reservation, premium: Premium
) -> None:
    """Tell the customer that the policy is theirs."""
    await send(
        "send_confirmation",
        application,
        subject=f"Your policy {reservation.number}",
        text=f"Dear {application.name},\n\nyou are covered, for {premium.cents / 100:.2f} euros "
        f"a month.\n",
        key=current_step().idempotency_key,
    )


@send_confirmation.compensation(retry=PATIENT, timeout=5.0)
async def withdraw_confirmation(
    confirmation: None, application: Application, reservation: Reservation, premium: Premium
) -> None:
    """Tell the customer that it did not work out."""
    await send(
        "withdraw_confirmation",
        application,
        subject=f"Your policy {reservation.number} is withdrawn",
        text=f"Dear {application.name},\n\nwe could not collect the premium and are sorry that we "
        f"must withdraw the policy.\n",
        key=current_step().idempotency_key,
    )


@step(retry=PATIENT, timeout=2.0, raises=[PaymentDeclined])
async def notify_billing(
    application: Application, reservation: Reservation, premium: Premium
) -> Invoice:
    """Have the premium collected."""
    order = {
        "application": application.id,
        "policy": reservation.number,
        "cents": premium.cents,
        "iban": application.iban,
    }
    return await ask("billing", order, Invoice, key=current_step().idempotency_key)
