"""Who is measured, where it runs, how durable it is by itself, and how much work it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.contenders.port import Contender

__all__ = ["CONTENDERS", "Entry", "Load", "made"]


@dataclass(frozen=True)
class Load:
    """How much work: workflows (of ``tree``: roots), and how many of them are open at a time."""

    count: int
    open: int = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender.

    Attributes:
        title: its name in tables, without the version.
        place: module in here, and class.
        distribution: whose version is shown after the title; ``python`` for the interpreter's.
        environment: the environment it runs in; see `benchmarks.environments`.
        durability: what its defaults keep, and when.
        loads: what it is measured with. A peer gets as many workflows as fit a few seconds, and
            at a time a number that suits the way it commits.
        rounds: in how many rounds of five it takes part with A and alone.
        other_rounds: in how many with the other workloads.
        lacks: workloads that it has no means for, and why.
    """

    title: str
    place: str
    distribution: str = ""
    environment: str = "this"
    durability: str
    loads: dict[str, Load]
    rounds: int = 3
    other_rounds: int = 1
    lacks: dict[str, str] = field(default_factory=dict)


def _loads(**counts: int | tuple[int, int]) -> dict[str, Load]:
    """Return loads by workload: how many, and how many at a time if it is not one."""
    return {
        workload: Load(count) if isinstance(count, int) else Load(*count)
        for workload, count in counts.items()
    }


def _ours(workloads: str) -> dict[str, Load]:
    """Return our own loads, of some workloads."""
    return {workload: OURS[workload] for workload in workloads.split()}


OURS = _loads(
    A=(10_000, 2_000),
    alone=400,
    B=(1_000, 100),
    C=10_000,
    D=10,
    E=(40, 20),
    F=(5_000, 5_000),
    crowds=10_000,
    recovery=10_000,
    replay=20,
) | {"import": Load(5)}
SYNCED = "each event synced before anything depends on it"
WAL_FULL = f"SQLite, WAL, FULL: {SYNCED}"
JOURNAL_FULL = f"SQLite, rollback journal, FULL: {SYNCED}"
SLOW_START = "left out, for the time that its server takes to start"

CONTENDERS: dict[str, Entry] = {
    "beamflow": Entry(
        title="beamflow",
        place="beamflow:Beamflow",
        distribution="beamflow",
        durability=WAL_FULL,
        loads=OURS,
        rounds=5,
        other_rounds=5,
    ),
    "dbos": Entry(
        title="DBOS",
        place="dbos:Dbos",
        distribution="dbos",
        environment="dbos",
        durability=JOURNAL_FULL,
        loads=_loads(
            A=(200, 50), alone=100, B=(20, 10), C=100, D=1, E=1, F=(200, 200), recovery=100
        ),
    ),
    "edda": Entry(
        title="Edda",
        place="edda:Edda",
        distribution="edda-framework",
        environment="edda",
        durability=JOURNAL_FULL,
        loads=_loads(A=(50, 5), alone=50, B=(10, 1), C=50, D=1, F=(50, 5)),
        lacks={
            "E": "it has no child workflows",
            "recovery": "it goes on when its lock is stale, after 300 s by default",
        },
    ),
    "langgraph": Entry(
        title="LangGraph",
        place="langgraph:LangGraph",
        distribution="langgraph",
        environment="langgraph",
        durability="SQLite, WAL, FULL: each checkpoint while the next step runs (async)",
        loads=_loads(
            A=(300, 50), alone=100, B=(50, 10), C=500, D=1, E=(2, 1), F=(500, 500), recovery=200
        ),
    ),
    "prefect": Entry(
        title="Prefect",
        place="prefect:Prefect",
        distribution="prefect",
        environment="prefect",
        durability="SQLite, WAL, NORMAL: the states of runs, sent in the background; no results",
        loads=_loads(A=(10, 5), alone=5, D=1, F=(10, 10)),
        rounds=1,
        lacks={
            "B": SLOW_START,
            "E": SLOW_START,
            "C": "not run: a paused flow asks every 10 s whether it is to go on",
            "recovery": "no flow is taken up again after a crash",
        },
    ),
    "restate": Entry(
        title="Restate 1.7.12, SDK",
        place="restate:Restate",
        distribution="restate-sdk",
        environment="restate",
        durability=f"RocksDB log of its server: {SYNCED}",
        loads=_loads(
            A=(1_500, 200),
            alone=200,
            B=(200, 50),
            C=1_000,
            D=2,
            E=(4, 2),
            F=(1_000, 1_000),
            recovery=500,
        ),
    ),
    "memory": Entry(
        title="beamflow, in memory",
        place="beamflow:InMemory",
        durability="none",
        loads=_ours("A alone C"),
        rounds=5,
        other_rounds=5,
    ),
    "uvloop": Entry(
        title="beamflow on uvloop",
        place="beamflow:Beamflow",
        distribution="uvloop",
        environment="uvloop",
        durability=WAL_FULL,
        loads=_ours("A alone"),
    ),
    "newer": Entry(
        title="beamflow on CPython",
        place="beamflow:Beamflow",
        distribution="python",
        environment="newer",
        durability=WAL_FULL,
        loads=_ours("A alone"),
    ),
    "floor": Entry(
        title="floor: group commit",
        place="floor:GroupCommit",
        durability=WAL_FULL,
        loads=_ours("A alone B C D E F crowds"),
        other_rounds=3,
    ),
    "tasks": Entry(
        title="floor: asyncio tasks",
        place="floor:Tasks",
        durability="none",
        loads=_ours("A alone B C D E F"),
    ),
}


def made(name: str) -> Contender:
    """Make a contender, in its own environment."""
    module, _, cls = CONTENDERS[name].place.partition(":")
    contender: Contender = getattr(import_module(f"{__name__}.{module}"), cls)()
    return contender
