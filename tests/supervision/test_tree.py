"""Snapshots of trees."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from supervision import Actor, ChildSpec, Supervisor, picture
from supervision.testing import settle


class Busy(Actor):
    async def handle_cast(self, message):
        await asyncio.Event().wait()


async def test_snapshot(world):
    """A snapshot tells states, restarts, the window, mailboxes, ages and what is being handled."""
    world.ignoring.add("ignoring")
    system = world.supervisor(
        world.spec("worker"),
        ChildSpec("inner", lambda: Supervisor([ChildSpec("busy", Busy)]), type="supervisor"),
        ChildSpec("function", asyncio.Event().wait),
        world.spec("ignoring"),
    )
    with pytest.raises(RuntimeError):
        system.tree()
    async with system as sup:
        kids = await world.kids(sup)
        busy = (await world.kids(kids["inner"]))["busy"]
        for number in range(3):
            busy.cast(number)
        await world.end(kids["worker"])
        await world.clock.advance(5)
        tree = system.tree()
        assert [node.path for node in tree] == [
            "/root", "/root/worker", "/root/inner", "/root/inner/busy", "/root/function", "/root/ignoring",
        ]  # fmt: skip
        root, worker, inner, leaf, function, ignoring = tree
        assert (root.window, root.state, root.kind) == ((1, 3), "running", "Supervisor")
        assert (worker.restarts, worker.age_s, worker.kind) == (1, 5.0, "Worker")
        assert inner.type == "supervisor"
        assert (leaf.mailbox, leaf.handling) == (2, "int")
        assert function.kind == "function"
        assert (ignoring.state, ignoring.age_s) == ("undefined", 0.0)
        assert picture(tree) == "\n".join([  # noqa: FLY002 - a picture
            "root Supervisor (running, restarts 1/3)",
            "├── worker Worker (running, restarted 1x)",
            "├── inner Supervisor (running, restarts 0/3)",
            "│   └── busy Busy (running, mailbox 2, handling int)",
            "├── function function (running)",
            "└── ignoring (undefined)",
        ])  # fmt: skip
        await settle()


async def test_rich_draws_the_same(world):
    """rich draws what the plain picture shows, with colours, and square brackets in ids as they are."""
    system = world.supervisor(
        world.spec("worker"),
        ChildSpec("[bold]", lambda: Supervisor(world.specs(1, 2)), type="supervisor"),
    )
    console = Console(record=True, width=100, file=io.StringIO())
    async with system as sup:
        await world.end((await world.kids(sup))["worker"])
        console.print(system.tree())
        drawn = [line.rstrip() for line in console.export_text(clear=False).splitlines()]
        assert drawn == picture(system.tree()).splitlines()
    assert "\x1b[" in console.export_text(styles=True)
