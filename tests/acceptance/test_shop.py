"""The web application of the docs, asked by a real HTTP client, killed and started again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "docs" / "examples" / "shop"


@contextlib.contextmanager
def shop(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Serve the application on a free port of the loopback device."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--fd", str(listener.fileno()), "shop:app"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SHOP}"},
        pass_fds=[listener.fileno()],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    listener.close()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield server, client
    finally:
        server.kill()
        server.wait()


def wait_for(client: httpx.Client, order: str, stage: str) -> None:
    """Ask until the order is there."""
    for _ in range(300):
        if client.get(f"/orders/{order}").json().get("stage") == stage:
            return
        time.sleep(0.05)
    pytest.fail(f"{order} never was {stage!r}")


@pytest.mark.serial
def test_orders_survive_a_kill(tmp_path: Path) -> None:
    """Started, asked, killed, asked again, paid, cancelled: over HTTP."""
    with shop(tmp_path) as (server, client):
        for order in ("one", "two"):
            assert client.put(f"/orders/{order}", json={"item": "a kettle"}).status_code == 201
            wait_for(client, order, "waiting for the money")
        assert client.put("/orders/one", json={"item": "a kettle"}).status_code == 201
        assert client.put("/orders/one", json={"item": "a cup"}).status_code == 409
        assert client.put("/orders/odd", json={"item": 3}).status_code == 409
        server.send_signal(signal.SIGKILL)
        server.wait()
    with shop(tmp_path) as (_, client):
        wait_for(client, "one", "waiting for the money")
        assert client.post("/orders/one/pay").json() == {"message": "a kettle is on its way"}
        assert client.get("/orders/one").json() == {"state": "completed", "stage": "done"}
        assert client.delete("/orders/two").status_code == 202
        answer = client.post("/orders/two/pay")
        assert answer.status_code == 409
        assert client.delete("/orders/one").status_code == 409
        assert client.get("/orders/three").status_code == 404


def test_it_is_about_sixty_lines() -> None:
    """Small enough to be read in one go: lines of code, without the blank ones."""
    lines = [line for line in (SHOP / "shop.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 60


def test_the_page_shows_the_file() -> None:
    """What the how-to shows of the application is the application."""
    page = (ROOT / "docs" / "how-to" / "web.md").read_text()
    shown = re.findall(
        r"^<!-- from shop/shop.py -->\n+```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    assert len(shown) == 3
    source = (SHOP / "shop.py").read_text()
    for block in shown:
        assert block in source
