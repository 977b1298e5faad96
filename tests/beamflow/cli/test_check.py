"""``beamflow check``: what is open in a store, against the code at hand, without a trace."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from beamflow import DeadLetterReason, Engine, WorkflowState
from beamflow.cli import check as check_module
from beamflow.cli.main import main
from beamflow.engine.check import Verdict, check
from beamflow.engine.definitions import Definitions
from beamflow.events import StepCompleted, WorkflowStarted
from beamflow.model.codec import checksum, encode_event
from beamflow.stores.sql import migrations
from beamflow.stores.url import open_reader

HERE = Path(__file__).parent


class Shop:
    """The shop's module in any edition, and a store that the first one has left behind."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "shop.db"
        self.url = f"sqlite:///{self.file}"
        self._monkeypatch = monkeypatch
        monkeypatch.syspath_prepend(str(HERE))

    def edition(self, name: str) -> Any:
        """Import the module anew."""
        self._monkeypatch.setenv("SHOP", name)
        self._monkeypatch.delitem(sys.modules, "shop", raising=False)
        import shop  # type: ignore[import-not-found]

        return shop

    def check(self, edition: str, *more: str, target: str = "shop:engine") -> int:
        self.edition(edition)
        return main(["check", target, "--store", self.url, *more])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


@pytest.fixture
def left(shop: Shop) -> Shop:
    """Three orders of the first edition that wait for a signal, and one that has ended."""

    async def leave() -> None:
        order = shop.edition("first").order
        async with Engine(shop.url, workflows=[order]) as engine:
            for name in ("one", "two", "three", "ended"):
                handle = await engine.start(order, name, id=name)
                async for recorded in handle.events():
                    if isinstance(recorded.event, StepCompleted):
                        break
            await handle.signal("go")
            await handle.result()

    asyncio.run(leave())
    return shop


def line_of(text: str) -> int:
    return (HERE / "shop.py").read_text().splitlines().index(text) + 1


def test_code_that_fits_is_told_so(left: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """What has ended is not looked at."""
    for target in ("shop:engine", "shop:workflows", "shop:order", "shop"):
        assert left.check("first", target=target) == 0
        assert capsys.readouterr().out == "all 3 open workflows would go on\n"


def test_what_would_diverge_is_told_once_with_its_line(
    left: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both commands of the first one, and the ids of all that meet the same line."""
    assert left.check("changed") == 1
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "order (version 1): would diverge: one, two, three"
    assert "recorded: step 'pack'" in out
    assert "issued:   step 'weigh' with [\"one\"]" in out
    place = f"{HERE}/shop.py:{line_of('        await weigh(what)  # the new line')}, in order"
    assert f"at {place}\n" in out
    assert out.count("recorded:") == 1
    assert out.endswith("3 of 3 open workflows would not go on\n")


def test_the_findings_as_json(left: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """One document, with everything of each workflow."""
    assert left.check("changed", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["checked"] == 3
    assert report["lacking"] == {}
    one = report["problems"][0]
    assert (one["id"], one["problem"], one["seq"], one["state"]) == (
        "one",
        "nondeterminism",
        2,
        "running",
    )
    assert "step 'weigh'" in one["issued"]
    assert ", in order" in one["place"]


def test_the_current_run_of_a_class_is_looked_at(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """What earlier runs have recorded is over."""

    async def leave() -> None:
        parcel = shop.edition("first").Parcel
        async with Engine(shop.url, workflows=[parcel]) as engine:
            handle = await engine.start(parcel, "abc", id="one")
            packed = 0
            async for recorded in handle.events():
                packed += isinstance(recorded.event, StepCompleted)
                if packed == 4:
                    break
                if isinstance(recorded.event, StepCompleted):
                    await handle.signal("go")

    asyncio.run(leave())
    assert shop.check("first") == 0
    assert capsys.readouterr().out == "all 1 open workflows would go on\n"
    assert shop.check("changed") == 1
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Parcel (version 1): would diverge: one"
    line = line_of("            await weigh(what)  # the new line of the class")
    assert f"at {HERE}/shop.py:{line}, in run\n" in out


def test_who_lacks_a_patch_is_told_and_no_problem(
    left: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old branch must stay for as long as this line is there."""
    assert left.check("patched") == 0
    out = capsys.readouterr().out
    assert out == (
        "3 open on the old branch of patch 'weigh': one, two, three\n"
        "all 3 open workflows would go on\n"
    )


def test_code_that_is_gone_is_told(left: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """With the versions that there are."""
    assert left.check("second version") == 1
    out = capsys.readouterr().out
    assert "order (version 1): code is gone: one, two, three\n" in out
    assert "'order' in version 2, not in version 1" in out


def test_what_would_park_for_other_reasons_is_told(
    left: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged event, and a log without its start."""
    with closing(sqlite3.connect(left.file)) as connection, connection:
        connection.execute("UPDATE beamflow_events SET crc = 0 WHERE stream = 'one' AND seq = 2")
        connection.execute("DELETE FROM beamflow_events WHERE stream = 'two'")
    assert left.check("first") == 1
    out = capsys.readouterr().out
    assert "order (version 1): log is damaged: one, two\n" in out
    assert "checksum does not match" in out


def test_nothing_is_written_and_nothing_run(left: Shop) -> None:
    """Not a byte, not a lease, not a step."""
    before = sha256(left.file.read_bytes()).digest()
    left.edition("changed")
    assert left.check("changed") == 1
    assert sha256(left.file.read_bytes()).digest() == before
    assert left.check("first") == 0
    with closing(sqlite3.connect(left.file)) as connection:
        rows = connection.execute("SELECT owner, epoch FROM beamflow_leases").fetchall()
    assert rows == [(None, 1)]


async def test_an_engine_may_run_meanwhile(left: Shop) -> None:
    """What it has in its write-ahead log is seen, and it goes on undisturbed."""
    order = left.edition("first").order
    async with Engine(left.url, workflows=[order]) as engine:
        handle = await engine.start(order, "four", id="four")
        async for recorded in handle.events():
            if isinstance(recorded.event, StepCompleted):
                break
        before = await handle.history()
        found: list[str] = []
        async with open_reader(left.url) as reader:
            assert await reader.read("four") == before
            async for verdict in check(reader, Definitions([order])):
                assert verdict.problem is None
                found.append(verdict.id)
            assert found == ["one", "two", "three", "four"]
            async for verdict in check(reader, Definitions([order])):
                found.append(verdict.id)
                if verdict.id == "one":  # one of those to come ends before its turn
                    await handle.signal("go")
                    await handle.result()
        assert found[4:] == ["one", "two", "three"]


def test_a_terminal_is_not_told_what_to_do(left: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes that stand in a log, whoever wrote them, come out as text."""
    with closing(sqlite3.connect(left.file)) as connection, connection:
        connection.execute(
            "UPDATE beamflow_workflows SET workflow = 'x' || char(27) || '[2J' || char(10) || 'y',"
            " id = char(155) || id WHERE id = 'one'"
        )
    left.check("first")
    out = capsys.readouterr().out
    assert not {"\x1b", "\x9b"} & set(out)
    assert "x\\x1b[2J\\ny (version 1): log is damaged: \\x9bone\n" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop:engine", "--store", "sqlite:///no/such.db"], "there is no such file"),
        (["shop:engine", "--store", "memory://"], "ends with its engine"),
        (["shop:engine", "--store", "redis://"], "is not understood"),
        (["shop:engines", "--store", "sqlite:///x.db"], "has no 'engines'"),
        (["shop:number", "--store", "sqlite:///x.db"], "is 3: name an Engine"),
        (["shop:EDITION", "--store", "sqlite:///x.db"], "is 'first': name an Engine"),
        (["no_such_shop:engine", "--store", "sqlite:///x.db"], "No module named 'no_such_shop'"),
        (["shop.py", "--store", "sqlite:///x.db"], "has no attribute|No module named"),
        (["../shop:engine", "--store", "sqlite:///x.db"], "names no module"),
        (["asyncio", "--store", "sqlite:///x.db"], "has no workflow"),
    ],
)
def test_what_cannot_be_checked_is_told(
    shop: Shop, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, which no finding has."""
    shop.edition("first")
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(said, captured.err)


def test_a_file_in_place_of_a_module_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with what to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.py").touch()
    assert main(["check", "orders.py", "--store", "sqlite:///x.db"]) == 2
    assert (
        capsys.readouterr().err
        == "beamflow: 'orders.py' is a file: write its module, such as orders:engine\n"
    )


@pytest.mark.parametrize(
    "content", [b"", b"no database at all, and long enough to be looked at" * 100]
)
def test_what_is_no_store_is_told(
    shop: Shop, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file is one that no engine has used."""
    shop.file.write_bytes(content)
    assert shop.check("first") == 2
    assert capsys.readouterr().err.startswith("beamflow: sqlite:///")
    assert shop.file.read_bytes() == content


def test_a_newer_store_is_told(left: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """And left as it is."""
    with closing(sqlite3.connect(left.file)) as connection, connection:
        connection.execute("UPDATE beamflow_meta SET value = '99' WHERE key = 'schema'")
    assert left.check("first") == 2
    assert "its schema is version 99" in capsys.readouterr().err


def test_a_store_of_an_older_schema_is_read_as_it_is(shop: Shop) -> None:
    """Code is checked before it is deployed, thus before it has migrated anything."""
    with closing(sqlite3.connect(shop.file)) as connection, connection:
        connection.executescript(migrations("sqlite")[0])
        connection.execute("UPDATE beamflow_meta SET value = '1' WHERE key = 'schema'")
        event = encode_event(WorkflowStarted(workflow="order", version=1, input=Raw(b'["one"]')))
        connection.execute(
            "INSERT INTO beamflow_events (stream, seq, at, epoch, crc, data) VALUES (?,?,?,?,?,?)",
            ("one", 1, 1, 1, checksum("one", 1, event), event.decode()),
        )
        connection.execute(
            "INSERT INTO beamflow_workflows VALUES ('one', 'order', 1, 'running', 1, NULL, 'null')"
        )
        connection.execute("PRAGMA journal_mode = WAL")
    before = sha256(shop.file.read_bytes()).digest()
    assert shop.check("first") == 0
    assert shop.check("second version") == 1
    assert sha256(shop.file.read_bytes()).digest() == before


def test_of_many_only_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is counted; with ``--json`` all are there."""
    problems = [
        Verdict(
            id=f"w{number}",
            workflow="order",
            version=1,
            state=WorkflowState.RUNNING,
            problem=DeadLetterReason.CODE_GONE,
            message="gone",
        )
        for number in range(9)
    ]
    check_module._say(check_module.Report(checked=9, problems=problems))
    assert "code is gone: w0, w1, w2, w3, w4 and 4 more\n  gone\n" in capsys.readouterr().out
