"""Workflows a second, latency, memory, disk, recovery: beamflow beside its peers, in one run.

Each workload of each contender runs in a process of its own, in the contender's own environment;
rounds of all are interleaved, so that whatever else the machine does meets all of them; figures are
medians over the rounds. Peers have their own default durability, and as much work as fits a few
seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import scale
from benchmarks._report import machine, rows, shown
from benchmarks.contenders import CONTENDERS, Load
from benchmarks.environments import CACHE, ROOT, NotHereError, environment
from benchmarks.figures import FIGURES, TITLES
from benchmarks.goals import judged
from benchmarks.results import Cell, Party, Results, compared
from benchmarks.runs import ran

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.contenders import Entry
    from benchmarks.environments import Environment

__all__ = ["BASELINE", "LATEST", "main", "measured", "table"]

LATEST = CACHE / "latest.json"
BASELINE = ROOT / "benchmarks" / "baseline.json"
QUICK = 0.1
CHANGED = 0.1
"""A ratio to the baseline that differs from 1 by more than this is shown."""


def main(argv: list[str]) -> None:
    """Measure, print, keep."""
    arguments = _arguments(argv)
    load = QUICK if arguments.quick else arguments.scale
    rounds = 1 if arguments.quick else arguments.rounds
    results = Results(when=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine(), scale=load)
    try:
        for line in measured(
            results,
            contenders=arguments.contenders,
            workloads=arguments.workloads,
            rounds=rounds,
            budget_s=arguments.minutes * 60,
            limit_s=arguments.limit,
            directory=arguments.dir,
        ):
            sys.stderr.write(f"{line}\n")
    except KeyboardInterrupt:
        sys.stderr.write("stopped: here is what there is\n")
    results.long = scale.kept()
    results.write(arguments.out)
    _print(results)
    if arguments.baseline.exists():
        _print_changes(results, Results.read(arguments.baseline))
    sys.stdout.write(
        f"\nkept in {arguments.out}; `make bench ARGS=page` makes the page of the docs\n"
    )


def measured(
    results: Results,
    *,
    contenders: list[str],
    workloads: list[str],
    rounds: int,
    budget_s: float,
    limit_s: float,
    directory: Path | None,
) -> Iterator[str]:
    """Fill in results, round by round; yields what to tell whoever waits."""
    places: dict[str, Environment] = {}
    for name in contenders:
        entry = CONTENDERS[name]
        results.parties[name] = Party(title=entry.title, durability=entry.durability)
        results.cells[name] = {
            workload: Cell(why=entry.lacks.get(workload, ""))
            for workload in workloads
            if workload in entry.loads or workload in entry.lacks
        }
        try:
            places[name] = environment(entry.environment)
        except NotHereError as reason:
            yield f"{entry.title}: not run here: {reason}"
            for one in results.cells[name].values():
                one.why = f"not run here: {reason}"
    began = time.monotonic()  # what was installed was installed for later runs too
    for number in range(rounds):
        for workload in workloads:
            for name, place in places.items():
                cell = results.cells[name].get(workload)
                if cell is None or cell.why or not _takes_part(CONTENDERS[name], workload, number):
                    continue
                if number and time.monotonic() - began > budget_s:
                    continue
                load = _scaled(CONTENDERS[name].loads[workload], results.scale)
                result = ran(place, name, workload, load, limit_s=limit_s, directory=directory)
                _keep(results.parties[name], cell, result)
                took = result.get("seconds")
                told = result.get("why") or f"{took:.1f} s"
                yield f"round {number + 1}, {workload}, {CONTENDERS[name].title}: {told}"


def table(results: Results, workload: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Return a workload's table: the header, its lines, and what stands below it."""
    figures = FIGURES[workload]
    lead = figures[0]
    header = ["", *(figure.title for figure in figures), "times beamflow's", "n", "rounds"]
    lines, below = [], []
    for name, cells in results.cells.items():
        cell, party = cells.get(workload), results.parties[name]
        if cell is None:
            continue
        if not cell.rounds:
            if cell.why:
                below.append(f"{party.name}: {cell.why}.")
            continue
        ratio = results.ratio(name, "beamflow", workload, lead.name)
        lines.append(
            [
                party.name,
                *(shown(cell.figure(figure.name), figure.form) for figure in figures),
                shown(ratio, "{:.3g}x"),
                _work(cell),
                str(len(cell.rounds)),
            ]
        )
    return header, lines, below


def _takes_part(entry: Entry, workload: str, number: int) -> bool:
    rounds = entry.rounds if workload in {"A", "alone"} else entry.other_rounds
    return number < rounds


def _scaled(load: Load, scale: float) -> Load:
    return Load(max(1, round(load.count * scale)), max(1, round(load.open * scale)))


def _keep(party: Party, cell: Cell, result: dict[str, object]) -> None:
    """Add a round to a cell, or why there is none."""
    party.version = str(result.get("version", party.version))
    party.python = str(result.get("python", party.python))
    why = result.get("why")
    if why:
        cell.why = str(why)
        return
    cell.rounds.append({k: v for k, v in result.items() if isinstance(v, int | float)})
    curves = result.get("curves")
    if isinstance(curves, dict):
        cell.curves = curves


def _work(cell: Cell) -> str:
    """Say how many workflows were run, and how many at a time where that was more than one."""
    count, window = cell.figure("count"), cell.figure("window")
    at_a_time = f" ({window:,.0f} open)" if window and window > 1 else ""
    return f"{count:,.0f}{at_a_time}"


def _print(results: Results) -> None:
    sys.stdout.write(f"\n{results.when}, {results.machine}\n")
    if results.scale != 1:
        sys.stdout.write(
            f"with {results.scale:g} of the load: figures to look at, not to compare\n"
        )
    sys.stdout.write("\n")
    rows(("", "keeps"), [(one.name, one.durability) for one in results.parties.values()])
    for workload, title in TITLES.items():
        header, lines, below = table(results, workload)
        if lines or below:
            sys.stdout.write(f"\n{title}\n\n")
            rows(header, lines)
            sys.stdout.writelines(f"  {line}\n" for line in below)
    if "beamflow" in results.cells:
        sys.stdout.write("\nGoals\n\n")
        rows(("", "goal", "figure", "met"), list(judged(results)))


def _print_changes(now: Results, before: Results) -> None:
    """Print what is not as it was, of beamflow and of the floor, which tells the machines apart."""
    sys.stdout.write(f"\nBeside {before.when} on {before.machine}, where it differs\n\n")
    lines = [
        (
            f"{now.parties[name].title}, {workload}: {figure}",
            f"{was:,.4g}",
            f"{value:,.4g}",
            f"{ratio:.2f}x",
        )
        for name, workload, figure, was, value, ratio in compared(now, before)
        if abs(ratio - 1) > CHANGED
    ]
    rows(("", "then", "now", "ratio"), lines)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks workflows", description=__doc__)
    parser.add_argument("--contenders", type=_names(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--workloads", type=_names(FIGURES), default=list(FIGURES))
    parser.add_argument("--rounds", type=int, default=5, help="figures are medians over these")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the load")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the load")
    parser.add_argument("--minutes", type=float, default=7.0, help="no further rounds after these")
    parser.add_argument("--limit", type=float, default=45.0, help="seconds for each process")
    parser.add_argument("--dir", type=Path, help="where the engines' files are made")
    parser.add_argument("--out", type=Path, default=LATEST, help="where the figures are kept")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="what to compare with")
    return parser.parse_args(argv)


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return [name for name in known if name in chosen]

    return names
