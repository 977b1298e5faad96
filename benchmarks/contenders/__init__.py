"""Who is measured, where it runs, how durable it is by itself, and how much work it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.contenders.port import Contender

__all__ = ["CONTENDERS", "Entry", "Load", "made"]


class Load(NamedTuple):
    """How much work: workflows (of ``tree``: roots), and how many of them are open at a time."""

    count: int
    open: int = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender.

    Attributes:
        title: its name in tables, without the version.
        place: module and class.
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
    environment: str
    durability: str
    loads: dict[str, Load]
    rounds: int = 3
    other_rounds: int = 1
    lacks: dict[str, str] = field(default_factory=dict)


OURS = {
    "A": Load(10_000, 2_000),
    "alone": Load(400),
    "B": Load(1_000, 100),
    "C": Load(10_000),
    "D": Load(10),
    "E": Load(40, 20),
    "F": Load(5_000, 5_000),
    "crowds": Load(10_000),
    "recovery": Load(10_000),
    "replay": Load(20),
    "import": Load(5),
}
SYNCED = "each event synced before anything depends on it"

CONTENDERS: dict[str, Entry] = {
    "beamflow": Entry(
        title="beamflow",
        place="benchmarks.contenders.beamflow:Beamflow",
        distribution="beamflow",
        environment="this",
        durability=f"SQLite, WAL, FULL: {SYNCED}",
        loads=OURS,
        rounds=5,
        other_rounds=5,
    ),
    "dbos": Entry(
        title="DBOS",
        place="benchmarks.contenders.dbos:Dbos",
        distribution="dbos",
        environment="dbos",
        durability=f"SQLite, rollback journal, FULL: {SYNCED}",
        loads={
            "A": Load(200, 50),
            "alone": Load(100),
            "B": Load(20, 10),
            "C": Load(100),
            "D": Load(1),
            "E": Load(1),
            "F": Load(200, 200),
            "recovery": Load(100),
        },
    ),
    "edda": Entry(
        title="Edda",
        place="benchmarks.contenders.edda:Edda",
        distribution="edda-framework",
        environment="edda",
        durability=f"SQLite, rollback journal, FULL: {SYNCED}",
        loads={
            "A": Load(50, 5),
            "alone": Load(50),
            "B": Load(10, 1),
            "C": Load(50),
            "D": Load(1),
            "F": Load(50, 5),
        },
        lacks={
            "E": "it has no child workflows",
            "recovery": "it goes on when its lock is stale, after 300 s by default",
        },
    ),
    "langgraph": Entry(
        title="LangGraph",
        place="benchmarks.contenders.langgraph:LangGraph",
        distribution="langgraph",
        environment="langgraph",
        durability="SQLite, WAL, FULL: each checkpoint while the next step runs (async)",
        loads={
            "A": Load(300, 50),
            "alone": Load(100),
            "B": Load(50, 10),
            "C": Load(500),
            "D": Load(1),
            "E": Load(2, 1),
            "F": Load(500, 500),
            "recovery": Load(200),
        },
    ),
    "prefect": Entry(
        title="Prefect",
        place="benchmarks.contenders.prefect:Prefect",
        distribution="prefect",
        environment="prefect",
        durability="SQLite, WAL, NORMAL: the states of runs, sent in the background; no results",
        loads={
            "A": Load(10, 5),
            "alone": Load(5),
            "D": Load(1),
            "F": Load(10, 10),
        },
        rounds=1,
        lacks={
            "B": "left out, for the time that its server takes to start",
            "E": "left out, for the time that its server takes to start",
            "C": "not run: a paused flow asks every 10 s whether it is to go on",
            "recovery": "no flow is taken up again after a crash",
        },
    ),
    "restate": Entry(
        title="Restate 1.7.12, SDK",
        place="benchmarks.contenders.restate:Restate",
        distribution="restate-sdk",
        environment="restate",
        durability=f"RocksDB log of its server: {SYNCED}",
        loads={
            "A": Load(1_500, 200),
            "alone": Load(200),
            "B": Load(200, 50),
            "C": Load(1_000),
            "D": Load(2),
            "E": Load(4, 2),
            "F": Load(1_000, 1_000),
            "recovery": Load(500),
        },
    ),
    "memory": Entry(
        title="beamflow, in memory",
        place="benchmarks.contenders.beamflow:InMemory",
        environment="this",
        durability="none",
        loads={name: OURS[name] for name in ("A", "alone", "C")},
        rounds=5,
        other_rounds=5,
    ),
    "uvloop": Entry(
        title="beamflow on uvloop",
        place="benchmarks.contenders.beamflow:Beamflow",
        distribution="uvloop",
        environment="uvloop",
        durability=f"SQLite, WAL, FULL: {SYNCED}",
        loads={name: OURS[name] for name in ("A", "alone")},
    ),
    "newer": Entry(
        title="beamflow on CPython",
        place="benchmarks.contenders.beamflow:Beamflow",
        distribution="python",
        environment="newer",
        durability=f"SQLite, WAL, FULL: {SYNCED}",
        loads={name: OURS[name] for name in ("A", "alone")},
    ),
    "floor": Entry(
        title="floor: group commit",
        place="benchmarks.contenders.floor:GroupCommit",
        environment="this",
        durability=f"SQLite, WAL, FULL: {SYNCED}",
        loads={name: OURS[name] for name in ("A", "alone", "B", "C", "D", "E", "F", "crowds")},
        other_rounds=3,
    ),
    "tasks": Entry(
        title="floor: asyncio tasks",
        place="benchmarks.contenders.floor:Tasks",
        environment="this",
        durability="none",
        loads={name: OURS[name] for name in ("A", "alone", "B", "C", "D", "E", "F")},
    ),
}


def made(name: str) -> Contender:
    """Make a contender, in its own environment."""
    module, _, cls = CONTENDERS[name].place.partition(":")
    contender: Contender = getattr(import_module(module), cls)()
    return contender
