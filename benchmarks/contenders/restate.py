"""Restate: its server from npm in a process of its own, the services in this one, with the defaults.

The server syncs its log (RocksDB) before it acknowledges a step.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from restate import Workflow, WorkflowContext, WorkflowSharedContext

from benchmarks.contenders.plain import work, work_gated, work_io
from benchmarks.contenders.port import BRANCHES, LONG, PARALLEL, STEPS, Contender

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Restate"]

CLOSE_S = 5.0

five, parallel, waits, long, tree, branch, leaf, io, gated = SERVICES = [
    Workflow(name)
    for name in ("five", "parallel", "waits", "long", "tree", "branch", "leaf", "io", "gated")
]


@five.main("run")
async def run_five(ctx: WorkflowContext, key: str) -> int:
    """Take five steps."""
    for stage in range(STEPS):
        await ctx.run_typed("work", work, key=key, stage=stage)
    return STEPS


@parallel.main("run")
async def run_parallel(ctx: WorkflowContext, key: str) -> int:
    """Take twenty steps at once."""
    steps = [ctx.run_typed("work", work, key=key, stage=stage) for stage in range(PARALLEL)]
    return len(await restate.gather(*steps))


@waits.main("run")
async def run_waits(ctx: WorkflowContext, key: str) -> int:
    """Wait for somebody, then take a step."""
    await ctx.promise("go").value()
    return await ctx.run_typed("work", work, key=key, stage=0)


@waits.handler("go")
async def go(ctx: WorkflowSharedContext, what: str) -> None:
    """Let it go on."""
    await ctx.promise("go").resolve(what)


@long.main("run")
async def run_long(ctx: WorkflowContext, key: str) -> int:
    """Take a thousand steps."""
    for stage in range(LONG):
        await ctx.run_typed("work", work, key=key, stage=stage)
    return LONG


@tree.main("run")
async def run_tree(ctx: WorkflowContext, key: str) -> int:
    """Have ten branches grow."""
    keys = [f"{key}.{number}" for number in range(BRANCHES)]
    calls = [ctx.workflow_call(run_branch, key=child, arg=child) for child in keys]
    await restate.gather(*calls)
    return BRANCHES


@branch.main("run")
async def run_branch(ctx: WorkflowContext, key: str) -> int:
    """Have ten leaves grow."""
    keys = [f"{key}.{number}" for number in range(BRANCHES)]
    calls = [ctx.workflow_call(run_leaf, key=child, arg=child) for child in keys]
    await restate.gather(*calls)
    return BRANCHES


@leaf.main("run")
async def run_leaf(ctx: WorkflowContext, key: str) -> int:
    """Take a step."""
    return await ctx.run_typed("work", work, key=key, stage=1)


@io.main("run")
async def run_io(ctx: WorkflowContext, key: str) -> int:
    """Take five steps that wait for somebody else."""
    for stage in range(STEPS):
        await ctx.run_typed("work_io", work_io, key=key, stage=stage)
    return STEPS


@gated.main("run")
async def run_gated(ctx: WorkflowContext, key: str) -> int:
    """Take five steps, the first together with all others."""
    await ctx.run_typed("work_gated", work_gated, key=key, stage=0)
    for stage in range(1, STEPS):
        await ctx.run_typed("work", work, key=key, stage=stage)
    return STEPS


class Restate(Contender):
    """The server, this process as its deployment, and a client of its ingress."""

    async def open(self, directory: Path) -> None:
        """Start the server and the endpoint, and register one with the other."""
        ingress, admin, node, endpoint = _free_ports(4)
        registered = directory / "endpoint"  # the server calls it again there after a crash
        if registered.exists():
            endpoint = int(registered.read_text())
        registered.write_text(str(endpoint))
        command = [os.environ["BENCH_RESTATE_SERVER"], "--no-logo", "--listen-mode=tcp"]
        command += ["--base-dir", str(directory / "restate"), "--node-name=bench"]
        command += ["--bind-ip=127.0.0.1", f"--bind-port={node}"]
        self._server = subprocess.Popen(  # noqa: S603, ASYNC220 - it is up when it answers
            command,
            env={
                **os.environ,
                "RESTATE_INGRESS__BIND_PORT": str(ingress),
                "RESTATE_ADMIN__BIND_PORT": str(admin),
                "RESTATE_DISABLE_TELEMETRY": "true",  # it would look for its makers
                "RESTATE_LOG_FILTER": "off",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        config = Config()
        config.bind = [f"127.0.0.1:{endpoint}"]
        config.accesslog = config.errorlog = None
        config.h2_max_concurrent_streams = 2**31 - 1  # as its documentation sets it
        self._stop = asyncio.Event()
        self._endpoint = asyncio.create_task(
            serve(restate.app(SERVICES), config, shutdown_trigger=self._stop.wait)
        )
        # as many connections as there are calls; httpx has 100 by default
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ingress}",
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            timeout=None,  # noqa: S113 - whoever runs the benchmark limits it
        )
        self._calls: dict[str, asyncio.Task[None]] = {}
        await self._register(f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{endpoint}")

    async def _register(self, admin: str, endpoint: str) -> None:
        while True:
            with suppress(httpx.TransportError):
                answer = await self._client.post(f"{admin}/deployments", json={"uri": endpoint})
                if answer.status_code < 300:  # noqa: PLR2004 - HTTP
                    return
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop the server, then the endpoint, neither of which waits for workflows for ever."""
        await self._client.aclose()
        self._server.terminate()
        try:
            await asyncio.to_thread(self._server.wait, CLOSE_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
        self._stop.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._endpoint, CLOSE_S)

    async def start(self, kind: str, key: str) -> None:
        """Send the request; the server has acknowledged it then."""
        await self._post(f"/{kind}/{key}/run/send", key)

    async def ended(self, key: str) -> None:
        """Attach to the workflow."""
        kind = key.partition("-")[0]
        answer = await self._client.get(f"/restate/workflow/{kind}/{key}/attach")
        answer.raise_for_status()

    async def run(self, kind: str, key: str) -> None:
        """Call it."""
        await self._post(f"/{kind}/{key}/run", key)

    async def signal(self, key: str) -> None:
        """Call the handler that resolves the promise."""
        await self._post(f"/waits/{key}/go", "now")

    async def resume(self, keys: Sequence[str]) -> None:
        """Do nothing: the server calls again."""

    def pids(self) -> tuple[int, ...]:
        """Return the server's."""
        return (self._server.pid,)

    async def _post(self, path: str, body: Any) -> None:
        answer = await self._client.post(path, json=body)
        answer.raise_for_status()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as bound:
        sockets = [
            bound.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]
