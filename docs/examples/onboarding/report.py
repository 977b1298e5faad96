"""The end of the run, for people: how it went, one workflow's timeline, and the proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from beamflow.model.events import CompensationStarted
from display import requests_table
from timeline import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from beamflow import Recorded
    from proof import Proof

__all__ = ["report"]

ENDINGS = {
    "issued": "one policy, confirmed and billed",
    "declined": "declined before anything was reserved",
    "undone": "failed for good, all of it undone, in the dead-letter queue",
    "broken": "none of these",
}


def report(console: Console, proof: Proof, compensated: Sequence[Recorded]) -> None:
    """Print everything."""
    console.print()
    console.print(requests_table(proof.requests))
    console.print()
    console.print(endings_table(proof))
    if compensated:
        console.print(
            f"\nOne that was undone: {compensated[0].stream}, {reason(compensated)}\n",
            markup=False,
            soft_wrap=True,
        )
        for line in draw(compensated):
            console.print(line, markup=False, soft_wrap=True)
    console.print("\nThe proof, from the services' own records\n")
    for line in proof.lines():
        style = "bold red" if line.startswith("FAIL") else None
        console.print(line, markup=False, soft_wrap=True, style=style)
    console.print(
        f"\nThe engine was killed {proof.kills} times. {proof.repeated_after_kill} steps ran twice "
        f"because a kill fell between effect\nand record, {proof.repeated_after_silence} because a "
        f"service kept its answer to itself. "
        f"{'Nothing came of it.' if proof.holds else 'Not all of it went well.'}",
        soft_wrap=True,
    )


def endings_table(proof: Proof) -> Table:
    """Draw how the accepted applications have ended."""
    table = Table(title="onboardings, by the services' own records", title_justify="left")
    table.add_column("how it ended")
    table.add_column("count", justify="right")
    for ending, meaning in ENDINGS.items():
        table.add_row(meaning, f"{proof.endings[ending]:,}")
    return table


def reason(history: Sequence[Recorded]) -> str:
    """Tell why a workflow was undone."""
    for recorded in history:
        if isinstance(recorded.event, CompensationStarted):
            error = recorded.event.error
            return f"{error.type.rpartition('.')[2]}: {error.message}"
    return "nothing to undo"
