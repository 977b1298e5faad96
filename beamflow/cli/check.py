"""``beamflow check``: would everything that is open go on with the code at hand?"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from beamflow.cli.output import plain, say, say_json
from beamflow.cli.target import workflows_of
from beamflow.engine.check import Verdict, check
from beamflow.model.events import DeadLetterReason
from beamflow.stores.url import open_reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from beamflow.engine.definitions import Definitions

__all__ = ["Report", "check_command"]

_IDS_SHOWN = 5
_WORDS = {
    DeadLetterReason.NONDETERMINISM: "would diverge",
    DeadLetterReason.CODE_GONE: "code is gone",
    DeadLetterReason.UNDECODABLE: "data does not fit",
    DeadLetterReason.CORRUPT_LOG: "log is damaged",
    DeadLetterReason.HOST_LOOP: "would touch the host's loop",
    DeadLetterReason.POISON: "would crash",
}


class Report(msgspec.Struct, kw_only=True):
    """What a check has found; written as it is with ``--json``."""

    checked: int = 0
    """How many workflows are open."""
    problems: list[Verdict] = []
    """Those that would not go on."""
    lacking: dict[str, list[str]] = {}
    """By patch, the ids of those that keep to its old branch."""


def check_command(target: str, store: str, *, as_json: bool) -> int:
    """Check, and say what was found; 0 if all that is open would go on, else 1.

    Raises:
        BeamflowError: the target or the store cannot be used.
    """
    definitions = workflows_of(target)
    report = asyncio.run(_report(store, definitions))
    if as_json:
        say_json(report)
    else:
        _say(report)
    return 1 if report.problems else 0


async def _report(store: str, definitions: Definitions) -> Report:
    report = Report()
    async with open_reader(store) as reader:
        async for verdict in check(reader, definitions):
            report.checked += 1
            if verdict.problem is not None:
                report.problems.append(verdict)
            for patch in verdict.lacks:
                report.lacking.setdefault(patch, []).append(verdict.id)
    return report


def _say(report: Report) -> None:
    alike: dict[object, list[Verdict]] = defaultdict(list)
    for verdict in report.problems:
        alike[verdict.problem, verdict.workflow, verdict.version, verdict.place].append(verdict)
    for verdicts in alike.values():
        _say_problem(verdicts)
    for patch, ids in report.lacking.items():
        say(f"{len(ids)} open on the old branch of patch {plain(patch)!r}: {_some(ids)}")
    if report.problems:
        say(f"{len(report.problems)} of {report.checked} open workflows would not go on")
    else:
        say(f"all {report.checked} open workflows would go on")


def _say_problem(verdicts: Sequence[Verdict]) -> None:
    """Say once what several have in common, with the first of them as the example."""
    first = verdicts[0]
    assert first.problem is not None
    say(
        f"{plain(first.workflow)} (version {first.version}): {_WORDS[first.problem]}: "
        f"{_some([verdict.id for verdict in verdicts])}"
    )
    if first.problem is DeadLetterReason.NONDETERMINISM:
        say(f"  event {first.seq} of {plain(first.id)}")
        say(f"  recorded: {plain(first.recorded)}")
        say(f"  issued:   {plain(first.issued)}")
        if first.place:
            say(f"            at {plain(first.place)}")
    else:
        say(f"  {plain(first.message)}")


def _some(ids: Iterable[str]) -> str:
    shown = [plain(each) for each in ids]
    more = len(shown) - _IDS_SHOWN
    return ", ".join(shown[:_IDS_SHOWN]) + (f" and {more} more" if more > 0 else "")
