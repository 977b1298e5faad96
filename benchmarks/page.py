"""The figures of the docs: ``python -m benchmarks page`` writes them anew, from the last run.

Tables and goals go into their place in the page, plots beside it, and the run itself becomes the
baseline that later ones are compared with: the page and the baseline are always of one run. What
takes long is of the last run of each part, and says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import scale
from benchmarks._report import markdown
from benchmarks.environments import ROOT
from benchmarks.figures import TITLES
from benchmarks.goals import judged
from benchmarks.results import Results
from benchmarks.workflows import BASELINE, LATEST, table

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGE", "PICTURES", "main", "rendered"]

PAGE = ROOT / "docs" / "explanation" / "performance.md"
PICTURES = PAGE.with_suffix("")
BEGIN, END = "<!-- figures: written by `make bench ARGS=page` -->", "<!-- end of figures -->"
PLOT_OF = {
    "A": ("throughput", "workflows a second, by engine"),
    "alone": ("latency", "the distribution of the latency of one workflow alone"),
    "C": ("signals", "the distribution of the time from a signal to the continuation"),
    "D": ("growth", "what a step costs, by its number in the workflow"),
    "crowds": ("crowds", "workflows a second, by how many are open"),
}


def main(argv: list[str]) -> None:
    """Write the page, its plots and the baseline."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=LATEST, help="what a run has kept")
    results = Results.read(parser.parse_args(argv).run)
    results.long = Results.read(BASELINE).long | results.long | scale.kept()
    results.write(BASELINE)
    kept = Results.read(BASELINE)
    PAGE.write_text(placed(PAGE.read_text(), rendered(kept)))
    PICTURES.mkdir(exist_ok=True)
    from benchmarks.plots import drawn  # noqa: PLC0415 - only this needs what draws

    for name, svg in drawn(kept).items():
        (PICTURES / f"{name}.svg").write_text(svg)
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} and its plots are of {kept.when}\n")


def placed(page: str, figures: str) -> str:
    """Return a page with its figures replaced."""
    place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return place.sub(lambda _: f"{BEGIN}\n\n{figures}\n{END}", page, count=1)


def rendered(results: Results) -> str:
    """Return the figures of a run as Markdown."""
    return "\n".join(_parts(results))


def _parts(results: Results) -> Iterator[str]:
    of_the_load = "" if results.scale == 1 else f", with {results.scale:g} of the load"
    yield f"All of one run on {results.when}: {results.machine}{of_the_load}.\n"
    yield "### Goals\n"
    yield markdown(("", "goal", "figure", "met"), list(judged(results)))
    if results.long:
        parts = "; ".join(
            f"{name} on {part.when}" + (f", {part.machine}" * (part.machine != results.machine))
            for name, part in results.long.items()
        )
        yield f"Those of a million workflows are of runs by themselves (`make bench-scale`): {parts}.\n"
    yield "### Who was measured\n"
    yield markdown(
        ("", "Python", "what its defaults keep"),
        [(one.name, one.python or "-", one.durability) for one in results.parties.values()],
    )
    for workload, title in TITLES.items():
        header, lines, below = table(results, workload)
        if not lines and not below:
            continue
        yield f"### {title}\n"
        if workload in PLOT_OF:
            name, what = PLOT_OF[workload]
            yield f"![{what[0].upper()}{what[1:]}]({PAGE.stem}/{name}.svg)\n"
        yield markdown(header, lines)
        yield from (f"{line}\n" for line in below)
