"""Writes ``applications.csv``: the same 1,000 applications, and eight spoilt rows, every time."""

from __future__ import annotations

import csv
import unicodedata
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 1_815
APPLICATIONS = 1_000
COLUMNS = (
    "id received first_name last_name date_of_birth street postcode city email iban plan income"
).split()

FIRST_NAMES = (
    "Ada Aylin Anna Antonia Bärbel Birgit Carla Charlotte Clara Daniela Elena Elif Emilia Emma "
    "Fatma Franziska Frieda Greta Hannah Ida Ines Johanna Julia Katharina Lara Lea Lena Leonie "
    "Lina Luisa Magda Maria Marie Mia Nele Nina Olga Paula Petra Pia Renate Rosa Sabine Sarah "
    "Sofia Susanne Theresa Ursula Valentina Zeynep Adrian Ahmet Alexander Andreas Anton Ben "
    "Bernd Björn Can Christian Daniel David Dieter Elias Emil Felix Finn Florian Georg Günther "
    "Hannes Hasan Heinrich Henri Jakob Jan Jonas Jörg Julian Jürgen Karl Konstantin Lars Leon "
    "Levi Lukas Matteo Max Mehmet Michael Moritz Niklas Noah Oskar Paul Peter Rafael Samuel "
    "Stefan Theo Thomas Tim Uwe Viktor Wolfgang Yusuf"
).split()
LAST_NAMES = (
    "Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch "
    "Bauer Richter Klein Wolf Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann "
    "Lange Werner Schmitz Krause Meier Lehmann Schmid Schulze Maier Köhler Herrmann König Walter "
    "Mayer Huber Kaiser Fuchs Peters Lang Scholz Möller Weiß Jung Hahn Schubert Vogel Friedrich "
    "Keller Günther Frank Berger Winkler Roth Beck Lorenz Baumann Franke Albrecht Schuster Simon "
    "Ludwig Böhm Winter Kraus Martin Schumacher Krämer Vogt Stein Jäger Otto Sommer Groß Seidel "
    "Heinrich Brandt Haas Schreiber Graf Dietrich Ziegler Kuhn Kühn Pohl Engel Horn Busch Thomas "
    "Sauer Arnold Wolff Pfeiffer Yılmaz Kaya Demir Nowak Kowalski Rossi Nguyen Petrović Ivanov"
).split()
STREETS = (
    "Hauptstraße Bahnhofstraße Gartenweg Lindenallee Schulstraße Goethestraße Bergstraße Am_Anger "
    "Kirchgasse Mozartstraße Birkenweg Rosenstraße Mühlenweg Schillerstraße Ringstraße Waldweg "
    "Kastanienallee Brunnengasse Feldstraße Uferpromenade"
).split()
CITIES = (
    ("10115", "Berlin"), ("20095", "Hamburg"), ("80331", "München"), ("50667", "Köln"),
    ("60311", "Frankfurt am Main"), ("70173", "Stuttgart"), ("40213", "Düsseldorf"),
    ("04109", "Leipzig"), ("44135", "Dortmund"), ("28195", "Bremen"), ("01067", "Dresden"),
    ("30159", "Hannover"), ("90402", "Nürnberg"), ("47051", "Duisburg"), ("53111", "Bonn"),
    ("79098", "Freiburg im Breisgau"), ("18055", "Rostock"), ("99084", "Erfurt"),
    ("93047", "Regensburg"), ("52062", "Aachen"),
)  # fmt: skip
MAIL_HOSTS = ("example.org", "example.net", "example.com", "post.example", "mail.example")
TRANSLITERATION = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ı": "i"})

PLANS = ("basic", "comfort", "premium")

Row = dict[str, str]
SPOILERS: tuple[Callable[[Row, Row], Row], ...] = (
    lambda row, _: row | {"date_of_birth": "1987-02-30"},
    lambda row, _: row | {"plan": "platinum"},
    lambda row, _: row | {"email": row["email"].replace("@", " at ")},
    lambda row, _: row | {"income": "n/a"},
    lambda row, _: row | {"date_of_birth": "2012-06-01"},
    lambda row, _: row | {"iban": f"{row['iban'][:-1]}{(int(row['iban'][-1]) + 1) % 10}"},
    lambda row, _: dict(list(row.items())[:7]),
    lambda row, neighbour: row | {"id": neighbour["id"]},
)
"""What can be wrong with a row, given the row and the one above it."""


def main(target: TextIO) -> None:
    """Write the header, then the applications with the spoilt rows among them."""
    random = Random(SEED)
    count = APPLICATIONS + len(SPOILERS)
    rows = [application(random, number) for number in range(1, count + 1)]
    places = [7, *sorted(random.sample(range(40, count), len(SPOILERS) - 1))]
    for spoil, place in zip(SPOILERS, places, strict=True):
        rows[place] = spoil(rows[place], rows[place - 1])
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.values() for row in rows)


def application(random: Random, number: int) -> Row:
    """Make up one applicant."""
    first_name, last_name = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    received = date(2026, 3, 2) + timedelta(minutes=25 * number)
    postcode, city = random.choice(CITIES)
    income = min(round(random.lognormvariate(10.55, 0.45), -2), 400_000)
    address = f"{ascii_name(first_name)}.{ascii_name(last_name)}{number}"
    return {
        "id": f"APP-{number:05}",
        "received": received.isoformat(),
        "first_name": first_name,
        "last_name": last_name,
        "date_of_birth": birthday(random, received).isoformat(),
        "street": f"{random.choice(STREETS).replace('_', ' ')} {random.randint(1, 140)}",
        "postcode": postcode,
        "city": city,
        "email": f"{address}@{random.choice(MAIL_HOSTS)}",
        "iban": iban(random),
        "plan": random.choices(PLANS, weights=(50, 35, income / 2_000))[0],
        "income": str(int(income)),
    }


def birthday(random: Random, received: date) -> date:
    """Between 18 and 80 years ago, most of them in the middle."""
    return received - timedelta(days=int(random.triangular(18 * 365.25 + 1, 80 * 365.25, 35 * 365)))


def iban(random: Random) -> str:
    """A German account number with the check digits that it must have."""
    account = f"{random.choice((100, 200, 370, 500, 700))}{random.randrange(10**15):015}"
    check = 98 - int(account + "131400") % 97  # D is 13, E is 14
    return f"DE{check:02}{account}"


def ascii_name(name: str) -> str:
    """A name as it stands in an e-mail address."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(TRANSLITERATION))
    return plain.encode("ascii", "ignore").decode()


if __name__ == "__main__":
    with Path(__file__).with_name("applications.csv").open("w", encoding="utf-8") as file:
        main(file)
