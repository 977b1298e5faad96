"""Steps that run in processes: another process must be able to import them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from beamflow import Retry, current_step, heartbeat, step


@dataclass(frozen=True)
class Order:
    """An argument with a type."""

    name: str
    cents: int


class RefusedError(Exception):
    """An error that is declared."""


def tally(count: str) -> None:
    """Leave a mark for each call."""
    with Path(count).open("a") as marks:
        marks.write("x")


@step(run_in="process")
def double(order: Order) -> Order:
    return Order(order.name * 2, order.cents * 2)


@step(run_in="process")
def where() -> tuple[int, str]:
    return os.getpid(), current_step().idempotency_key


@step(
    run_in="process",
    raises=[RefusedError],
    retry=Retry(max_attempts=5, initial=0, give_up_on=(RefusedError,)),
)
def refuse(count: str) -> None:
    tally(count)
    raise RefusedError("no", 5)


@step(run_in="process", retry=Retry(max_attempts=3, initial=0))
def third_time(count: str) -> int:
    tally(count)
    if current_step().attempt < 3:
        raise ConnectionError(current_step().attempt)
    return current_step().attempt


def spin(mark: str) -> None:
    """Compute for ever, having said who does."""
    Path(mark).write_text(str(os.getpid()))
    while True:
        pass


@step(run_in="process", timeout=10)
def spins(mark: str) -> None:
    spin(mark)


@step(run_in="process")
def spins_for_ever(mark: str) -> None:
    spin(mark)


@step(run_in="process", retry=Retry(max_attempts=2, initial=0))
def dies_once(how: str) -> int:
    if current_step().attempt == 1:
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@step(run_in="process")
def leaves() -> None:
    raise SystemExit(3)


@step(run_in="process")
def unreadable() -> object:
    return object()


@step(run_in="process", heartbeat_timeout=10, retry=Retry(max_attempts=2, initial=0))
def beats(mark: str) -> object:
    if current_step().attempt == 2:
        return current_step().last_heartbeat
    heartbeat({"row": 5})
    Path(mark).write_text("beaten")
    while True:
        time.sleep(60)


@step(run_in="process")
def lost_when_renamed() -> None:
    raise AssertionError("not to be found")


elsewhere, lost_when_renamed = lost_when_renamed, None  # type: ignore[assignment]
