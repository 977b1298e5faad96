"""The suite: who takes part in which round, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import benchmarks.workflows as suite
from benchmarks.__main__ import COMMANDS, main
from benchmarks.contenders import CONTENDERS
from benchmarks.environments import ROOT, Environment, NotHereError
from benchmarks.results import Results

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Return the cells that were run: contender, workload, count; none really is."""
    made: list[tuple[str, str, int]] = []

    def ran(
        _place: Environment, name: str, workload: str, load: Any, **_: object
    ) -> dict[str, Any]:
        made.append((name, workload, load.count))
        if (name, workload) == ("dbos", "B"):
            return {"why": "did not end within 45 s"}
        return {"workflows_s": 1.0, "count": load.count, "version": "9", "seconds": 0.5}

    def environment(name: str) -> Environment:
        if name == "restate":
            raise NotHereError("no npm")
        return Environment(suite.Path("python"))

    monkeypatch.setattr(suite, "ran", ran)
    monkeypatch.setattr(suite, "environment", environment)
    return made


def run(rounds: int = 5, *, budget_s: float = 1e9, scale: float = 1.0) -> Results:
    """Run the suite with some of the contenders and workloads."""
    results = Results(when="", machine="", scale=scale)
    for _ in suite.measured(
        results,
        contenders=["beamflow", "dbos", "restate", "edda"],
        workloads=["A", "B", "E"],
        rounds=rounds,
        budget_s=budget_s,
        limit_s=1,
        directory=None,
    ):
        pass
    return results


def test_rounds_are_interleaved(runs: list[tuple[str, str, int]]) -> None:
    """All contenders of a workload, then the next workload, then the next round."""
    run(1)
    assert [(name, workload) for name, workload, _ in runs] == [
        ("beamflow", "A"),
        ("dbos", "A"),
        ("edda", "A"),
        ("beamflow", "B"),
        ("dbos", "B"),
        ("edda", "B"),
        ("beamflow", "E"),
        ("dbos", "E"),
    ]


def test_everybody_has_its_number_of_rounds(runs: list[tuple[str, str, int]]) -> None:
    """What has failed once is not tried again."""
    run(5)
    made = [(name, workload) for name, workload, _ in runs]
    assert made.count(("beamflow", "A")) == 5
    assert made.count(("beamflow", "E")) == 5
    assert made.count(("dbos", "A")) == CONTENDERS["dbos"].rounds
    assert made.count(("dbos", "B")) == 1


def test_no_round_begins_when_the_time_is_up(runs: list[tuple[str, str, int]]) -> None:
    """But the first is made in any case."""
    run(5, budget_s=0)
    assert len(runs) == 8


def test_loads_are_scaled(runs: list[tuple[str, str, int]]) -> None:
    run(1, scale=0.01)
    assert runs[0] == ("beamflow", "A", 100)
    assert all(count >= 1 for *_, count in runs)


@pytest.mark.usefixtures("runs")
def test_what_is_missing_has_its_reason() -> None:
    """An environment that cannot be made, a limit that was passed, what an engine has not."""
    results = run()
    assert results.cells["restate"]["A"].why == "not run here: no npm"
    assert results.cells["dbos"]["B"].why == "did not end within 45 s"
    assert results.cells["edda"]["E"].why == "it has no child workflows"
    assert results.parties["beamflow"].version == "9"
    _, lines, below = suite.table(results, "E")
    assert [line[0] for line in lines] == ["beamflow 9", "DBOS 9"]
    assert sorted(below) == [
        "Edda 9: it has no child workflows.",
        "Restate 1.7.12, SDK: not run here: no npm.",
    ]


@pytest.mark.usefixtures("runs")
def test_all_of_it_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, goals, and what has changed since the baseline."""
    out, before = tmp_path / "run.json", tmp_path / "before.json"
    arguments = ["--quick", "--contenders=beamflow,dbos", "--workloads=A", f"--out={out}"]
    assert main([*arguments, f"--baseline={before}"]) == 0
    was = Results.read(out)
    was.cells["beamflow"]["A"].rounds = [{"workflows_s": 4.0}]
    was.write(before)
    main(["workflows", *arguments, f"--baseline={before}"])
    printed = capsys.readouterr().out
    assert "A: 5 steps in a row" in printed
    assert "Goals" in printed
    assert "0.25x" in printed
    assert Results.read(out).scale == suite.QUICK


def test_every_benchmark_has_its_name() -> None:
    """Whatever can be run stands in the one list of commands."""
    found = {
        f"benchmarks.{file.stem}"
        for file in (ROOT / "benchmarks").glob("[!_]*.py")
        if "def main(argv: list[str])" in file.read_text()
    }
    assert {command.module for command in COMMANDS.values()} == found


def test_names_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that do."""
    assert main(["nonsense"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in COMMANDS)
    with pytest.raises(SystemExit):
        main(["--contenders=nonsense"])
    assert "beamflow" in capsys.readouterr().err
