"""The plots of the docs, as SVG that reads well on white and on black."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks._report import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from benchmarks.results import Results

__all__ = ["PLOTS", "drawn"]

INK = "#7d8590"
"""Of all text and lines: as far from white as from black."""
COLOURS = {
    "beamflow": "#e8590c",
    "memory": "#f59f00",
    "uvloop": "#d6336c",
    "newer": "#c2255c",
    "dbos": "#1c7ed6",
    "edda": "#37b24d",
    "langgraph": "#ae3ec9",
    "prefect": "#1098ad",
    "restate": "#f03e3e",
    "floor": "#868e96",
    "tasks": "#adb5bd",
}
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "beamflow",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def drawn(results: Results) -> dict[str, str]:
    """Return each plot as SVG, by its name; the same results give the same bytes."""
    return {name: _svg(draw, results) for name, draw in PLOTS.items()}


def _throughput(axes: Axes, results: Results) -> None:
    found = {
        name: value
        for name in results.parties
        if (value := results.figure(name, "A", "workflows_s")) is not None
    }
    names = sorted(found, key=lambda name: found[name])
    bars = axes.barh(
        [results.parties[name].title for name in names],
        [found[name] for name in names],
        color=[COLOURS[name] for name in names],
    )
    axes.bar_label(bars, [shown(found[name], "{:,.0f}") for name in names], padding=3)
    if names:
        axes.set_xscale("log")
    axes.set_xlabel("workload A: workflows of five steps a second (logarithmic)")
    axes.margins(x=0.15)
    axes.grid(visible=True, axis="x")


def _latency(axes: Axes, results: Results) -> None:
    _curves(axes, results, "alone", "alone")
    axes.set_xlabel("percentage of the workflows that do not take longer")
    axes.set_ylabel("five steps, one workflow alone, ms")


def _signals(axes: Axes, results: Results) -> None:
    _curves(axes, results, "C", "signal")
    axes.set_xlabel("percentage of the signals that do not take longer")
    axes.set_ylabel("signal to continuation, ms")


def _growth(axes: Axes, results: Results) -> None:
    _curves(axes, results, "D", "long")
    axes.set_xlabel("number of the step in its workflow")
    axes.set_ylabel("cost of a step, µs")


def _crowds(axes: Axes, results: Results) -> None:
    _curves(axes, results, "crowds", "crowds")
    if axes.lines:
        axes.set_xscale("log")
    axes.set_xlabel("workflows open at a time")
    axes.set_ylabel("workload A, workflows/s")


PLOTS: dict[str, Callable[[Axes, Results], None]] = {
    "throughput": _throughput,
    "latency": _latency,
    "signals": _signals,
    "growth": _growth,
    "crowds": _crowds,
}


def _curves(axes: Axes, results: Results, workload: str, curve: str) -> None:
    for name, cells in results.cells.items():
        points = cells[workload].curves.get(curve) if workload in cells else None
        if points:
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=COLOURS[name],
                label=results.parties[name].title,
                linewidth=2.2 if name == "beamflow" else 1.3,
            )
    axes.grid(visible=True)
    if axes.lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _svg(draw: Callable[[Axes, Results], None], results: Results) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        draw(figure.subplots(), results)
        written = StringIO()
        figure.savefig(
            written, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())
