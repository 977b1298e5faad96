"""What the user sees while the demo runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from folder import SERVICES
from services.ledger import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from folder import Folder

__all__ = ["Display", "requests_table"]


class Display:
    """Shows how far the run is."""

    def __init__(self, folder: Folder, *, applications: int, kills: int) -> None:
        """Begin to count the time."""
        self.console = Console(highlight=False)
        self._folder = folder
        self._began = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description:8}"), BarColumn(50), MofNCompleteColumn()
        )
        self._ended = self._bars.add_task("ended", total=applications)
        self._kills = self._bars.add_task("kill -9", total=kills)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show a table of what the services have recorded so far, if there is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._render, console=self.console, refresh_per_second=5, transient=True
        ):
            yield

    @property
    def elapsed_s(self) -> float:
        """Seconds since the display was made."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print a line, with the time."""
        self.console.print(f"{self.elapsed_s:6.1f} s  {text}", markup=False, soft_wrap=True)

    def ended(self, count: int) -> None:
        """Show how many onboardings have ended."""
        self._bars.update(self._ended, completed=count)

    def killed(self) -> None:
        """Show that the engine was killed once more."""
        self._bars.advance(self._kills)
        kills, ended = (self._bars.tasks[bar] for bar in (self._kills, self._ended))
        self.say(
            f"kill -9 ({kills.completed:.0f} of {kills.total:.0f}) with {ended.completed:,.0f} of "
            f"{ended.total:,.0f} ended; the engine starts again"
        )

    def _render(self) -> Group:
        requests = {
            service: Counter(entry.outcome for entry in self._folder.read_requests(service))
            for service in SERVICES
        }
        return Group(requests_table(requests), self._bars)


def requests_table(requests: Mapping[str, Counter[Outcome]]) -> Table:
    """Draw what the services have recorded: one row each, one column for each outcome."""
    table = Table(title="requests, by the services' own records", title_justify="left")
    table.add_column("service")
    for outcome in Outcome:
        table.add_column(outcome.value, justify="right")
    for service, counts in requests.items():
        table.add_row(service, *(f"{counts[outcome]:,}" for outcome in Outcome))
    return table
