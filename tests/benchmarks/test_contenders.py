"""Everybody in the tables can be found, is pinned, and says what it does not do."""

from __future__ import annotations

import ast
import re

import pytest

from benchmarks.contenders import CONTENDERS, made
from benchmarks.contenders.port import Contender
from benchmarks.environments import REQUIREMENTS, ROOT
from benchmarks.figures import FIGURES, TITLES
from benchmarks.goals import PEERS

OWN = {"this", "uvloop", "newer"}


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_has_its_module(name: str) -> None:
    """With the class that its entry names."""
    module, _, cls = CONTENDERS[name].place.partition(":")
    tree = ast.parse((ROOT / "benchmarks" / "contenders" / f"{module}.py").read_text())
    assert cls in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("name", ["beamflow", "memory", "floor", "tasks"])
def test_our_own_are_made_here(name: str) -> None:
    assert isinstance(made(name), Contender)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_answers_for_every_workload(name: str) -> None:
    """It has a load, or a reason."""
    entry = CONTENDERS[name]
    assert {*entry.loads, *entry.lacks} == {*TITLES} - {"replay", "import", "crowds"}
    assert not entry.loads.keys() & entry.lacks.keys()
    assert entry.durability


@pytest.mark.parametrize("name", CONTENDERS)
def test_loads_are_of_known_workloads(name: str) -> None:
    entry = CONTENDERS[name]
    assert entry.loads.keys() | entry.lacks.keys() <= FIGURES.keys()
    assert all(1 <= load.open <= load.count for load in entry.loads.values())


def test_what_peers_need_is_pinned() -> None:
    """Each environment has its file, and each line one version."""
    wanted = {entry.environment for entry in CONTENDERS.values()} - OWN
    assert all((REQUIREMENTS / f"{name}.txt").exists() for name in wanted)
    lines = [
        line.partition("#")[0].strip()
        for file in REQUIREMENTS.iterdir()
        for line in file.read_text().splitlines()
    ]
    assert all(re.fullmatch(r"[\w@/.-]+(==|@)[\d.]+", line) for line in lines)


def test_the_version_of_a_server_is_the_pinned_one() -> None:
    """A server has no distribution to ask for it."""
    pinned = (REQUIREMENTS / "restate.npm.txt").read_text().strip().rpartition("@")[2]
    assert f" {pinned}, " in CONTENDERS["restate"].title


def test_peers_need_nothing_of_ours_but_the_standard_library() -> None:
    """What is imported in the environment of a peer."""
    allowed = {"benchmarks", "__future__"}
    shared = ["probe", "measures", "workloads", "cell", "contenders/__init__", "contenders/port"]
    shared.append("contenders/plain")
    for name in shared:
        tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text())
        found = {
            word.partition(".")[0]
            for node in ast.walk(tree)
            for word in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not {one for one in found - allowed if one in {"beamflow", "msgspec", "supervision"}}
