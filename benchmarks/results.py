"""What one run of the suite has found: kept as JSON, read as medians, compared as ratios."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

from benchmarks.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Cell", "Part", "Party", "Results", "compared"]

DIGITS = 5


class Party(msgspec.Struct, kw_only=True):
    """One contender, as it was measured."""

    title: str
    durability: str
    version: str = ""
    python: str = ""

    @property
    def name(self) -> str:
        """The title with its version."""
        return f"{self.title} {self.version}".strip()


class Cell(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One workload of one contender."""

    rounds: list[dict[str, float]] = []
    """The figures of each round."""
    curves: dict[str, list[tuple[float, float]]] = {}
    """What is drawn, of the last round."""
    why: str = ""
    """Why there are no figures, if there are none."""

    def figure(self, name: str) -> float | None:
        """Return the median of a figure, None if there is none."""
        values = [one[name] for one in self.rounds if name in one]
        return median(values) if values else None


class Part(msgspec.Struct, kw_only=True):
    """A part of what takes long, as it was measured by itself."""

    when: str
    machine: str
    count: int
    """How many workflows."""
    figures: dict[str, float]


class Results(msgspec.Struct, kw_only=True):
    """All of a run.

    Attributes:
        when: date of the run.
        machine: what it was made on.
        scale: the load, 1 for the whole.
        parties: who took part, by name, in the order of the tables.
        cells: by contender, then by workload.
        long: the parts of `benchmarks.scale`, each by its name and of a run of its own.
    """

    when: str
    machine: str
    scale: float = 1.0
    parties: dict[str, Party] = {}
    cells: dict[str, dict[str, Cell]] = {}
    long: dict[str, Part] = {}

    @classmethod
    def read(cls, file: Path) -> Results:
        """Read what `write` has written."""
        return msgspec.json.decode(file.read_bytes(), type=cls)

    def write(self, file: Path) -> None:
        """Write it, a line for each cell, with as many digits as mean something."""
        file.parent.mkdir(parents=True, exist_ok=True)
        run = msgspec.to_builtins(self)
        contenders = ",\n".join(
            f"{_json(name)}:{{\n{_members(cells)}\n}}" for name, cells in run.pop("cells").items()
        )
        file.write_text(f'{{{_members(run)},\n"cells":{{\n{contenders}\n}}}}\n')

    def figure(self, contender: str, workload: str, figure: str) -> float | None:
        """Return the median of a figure, None if it was not measured."""
        cell = self.cells.get(contender, {}).get(workload)
        return None if cell is None else cell.figure(figure)

    def ratio(self, contender: str, other: str, workload: str, figure: str) -> float | None:
        """Return how many times a contender's figure is another one's."""
        return _ratio(
            self.figure(contender, workload, figure), self.figure(other, workload, figure)
        )


def compared(now: Results, before: Results) -> Iterator[tuple[str, str, str, float, float, float]]:
    """Yield contender, workload, figure, what it was, what it is and the ratio, where both are."""
    for contender, workloads in now.cells.items():
        for workload in workloads:
            for figure in FIGURES[workload]:
                was = before.figure(contender, workload, figure.name)
                now_is = now.figure(contender, workload, figure.name)
                ratio = _ratio(now_is, was)
                if was is not None and now_is is not None and ratio is not None:
                    yield contender, workload, figure.name, was, now_is, ratio


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else value / of


def _members(of: dict[str, object]) -> str:
    return ",\n".join(f"{_json(key)}:{_json(_rounded(value))}" for key, value in of.items())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _rounded(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.{DIGITS}g}")
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value
