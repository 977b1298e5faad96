"""Applications: what a customer hands in, and how the file of them is read."""

from __future__ import annotations

import csv
import enum
from datetime import date
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Application", "Plan", "Refusal", "read_applications"]

OF_AGE = 18


class Plan(enum.Enum):
    """What the customer wants to be covered for."""

    BASIC = "basic"
    COMFORT = "comfort"
    PREMIUM = "premium"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """One application, as the file has it.

    Whoever holds one knows that it is well formed: a row that is not never becomes one.
    """

    id: str
    received: date
    first_name: str
    last_name: str
    date_of_birth: date
    street: str
    postcode: str
    city: str
    email: str
    iban: str
    plan: Plan
    income: int
    """Euros a year."""

    def __post_init__(self) -> None:
        """Refuse what the types alone let pass."""
        if not self.id.strip():
            raise ValueError("the id is missing")
        if self.age < OF_AGE:
            raise ValueError(f"the applicant is {self.age}, not {OF_AGE} or older")
        name, _, domain = self.email.partition("@")
        if not name or "." not in domain:
            raise ValueError(f"{self.email!r} is no e-mail address")
        if not is_iban(self.iban):
            raise ValueError(f"the check digits of IBAN {self.iban} are wrong")
        if self.income < 0:
            raise ValueError(f"an income of {self.income} is below zero")

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"

    @property
    def age(self) -> int:
        """Full years on the day the application came in."""
        born, day = self.date_of_birth, self.received
        return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


class Refusal(msgspec.Struct, frozen=True):
    """A row that is no application: where it stands in the file, and what is wrong with it."""

    row: int
    reason: str


def read_applications(path: Path, limit: int | None = None) -> Iterator[Application | Refusal]:
    """Read the rows, each an application or a refusal, until ``limit`` of them were accepted.

    Rows are numbered as an editor does it, the header is row 1. An id that was accepted before is
    refused.
    """
    accepted: set[str] = set()
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            if len(accepted) == limit:
                return
            try:
                application = msgspec.convert(row, Application, strict=False)
            except msgspec.ValidationError as error:
                yield Refusal(rows.line_num, str(error))
                continue
            if application.id in accepted:
                yield Refusal(rows.line_num, f"{application.id} is already taken")
                continue
            accepted.add(application.id)
            yield application


def is_iban(text: str) -> bool:
    """Tell whether the check digits fit (ISO 13616: the number is 1 modulo 97)."""
    if not text.isalnum() or not text.isascii():
        return False
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1
