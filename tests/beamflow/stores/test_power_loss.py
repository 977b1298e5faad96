"""What was acknowledged survives: a kill at any write, a failing disk, a power cut.

A process appends under strace. Kills and disk errors are injected into its system calls; for power
cuts its writes are recorded, and for every moment of the record the disk is rebuilt as it might be
found afterwards: what was not synced is there, is not, or is there in parts.

A few of the moments are tried, spread over the run; with BEAMFLOW_EXHAUSTIVE=1 it is every one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from beamflow.model.codec import checksum
from beamflow.stores.sqlite import SQLiteStore
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, stepped

if TYPE_CHECKING:
    from collections.abc import Iterator

APPENDER = Path(__file__).with_name("appender.py")
SECTOR = 512
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"
TURNS = 8
QUICK = "--seccomp-bpf"
"""Lets strace stop at no other call; it cannot send signals then."""

pytestmark = [
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.timeout(3600 if EXHAUSTIVE else 180),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


def appended(
    path: Path, *strace: str, streams: int = 3, count: int = 4, durability: str = "full"
) -> list[list[str]]:
    """Run the appender under strace and return what it told, a list of words a line."""
    command = ["strace", "-f", "-qq", *strace, sys.executable, str(APPENDER)]
    process = subprocess.run(
        [*command, str(path), str(streams), str(count), durability],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'File "' not in process.stderr, process.stderr
    return [line.split() for line in process.stdout.splitlines()]


def acknowledged(told: list[list[str]]) -> Counter[str]:
    """Return how far each stream was acknowledged."""
    return Counter(words[1] for words in told if words[0] == "ack")


async def made(path: Path) -> None:
    """Make a store of nothing."""
    store = SQLiteStore(path, clock=StoreClock())
    await store.open()
    await store.close()


async def stored(path: Path) -> Counter[str]:
    """Open the store as a restarted engine would, go on writing, and return what it holds."""
    served = ServedStore(SQLiteStore(path, clock=StoreClock()))
    await served.start()
    lease = await served.store.claim("after the crash", 30)
    found: Counter[str] = Counter()
    for number in range(3):
        stream = f"stream-{number}"
        found[stream] = len(await served.store.read(stream))
        await served.store.append(stream, found[stream], [stepped()], time=START, epoch=lease.epoch)
    await served.stop()
    return found


def turns_of(tmp_path: Path, call: str, *files: str) -> list[int]:
    """Count how often an undisturbed run makes a system call, from 1; pick the turns to disturb."""
    trace = tmp_path / "counted"
    path = tmp_path / "counted.db"
    told = appended(path, QUICK, "-o", str(trace), "-e", f"trace={call}", *only(path, *files))
    assert told[-1] == ["done"]
    count = trace.read_text().count(f"{call}(")
    stride = 1 if EXHAUSTIVE else -(-count // TURNS)
    return list(range(1, 1 + count, stride))


def only(path: Path, *files: str) -> list[str]:
    """Narrow strace to some files of a database, named by their suffixes."""
    return [word for file in files for word in ("-P", f"{path}{file}")]


def disturbed(path: Path, call: str, inject: str, turn: int, *strace: str) -> list[list[str]]:
    """Run the appender and disturb one system call of it."""
    inject = f"inject={call}:{inject}:when={turn}"
    return appended(path, "-o", os.devnull, "-e", f"trace={call}", "-e", inject, *strace)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_kill_at_any_write(tmp_path: Path, call: str) -> None:
    """Killed at a write or sync, the store opens, goes on, and lacks nothing that it promised."""
    kills = 0
    for turn in turns_of(tmp_path, call):
        path = tmp_path / f"{turn}.db"
        told = disturbed(path, call, "signal=KILL", turn)
        assert acknowledged(told) <= asyncio.run(stored(path)), f"killed at {call} {turn}"
        kills += ["done"] not in told
    assert kills > TURNS // 2


@pytest.mark.invariant("I34")
@pytest.mark.parametrize(
    ("call", "error", "problem"),
    [
        ("fdatasync", "EIO", "the disk fails"),
        ("pwrite64", "EIO", "the disk fails|the disk is full \\(or fails\\)"),
        ("pwrite64", "ENOSPC", "the disk is full"),
    ],
)
def test_a_failing_disk(tmp_path: Path, call: str, error: str, problem: str) -> None:
    """After one failed write or sync nothing is acknowledged, though the next would succeed.

    SQLite shrugs at some failures (a directory's sync, the last checkpoint); then all goes well.
    """
    failures = 0
    for turn in turns_of(tmp_path, call):
        path = tmp_path / f"{turn}.db"
        told = disturbed(path, call, f"error={error}", turn, QUICK)
        assert acknowledged(told) <= asyncio.run(stored(path)), f"{error} at {call} {turn}"
        if ["done"] not in told:
            failures += 1
            assert told[-1][:2] == ["error", "StoreUnavailableError"]
            assert re.search(problem, " ".join(told[-1])), f"{error} at {call} {turn}: {told[-1]}"
    assert failures > 2


def test_a_disk_too_full_for_the_shared_memory(tmp_path: Path) -> None:
    """The file that processes share in memory cannot grow, and that is told as a full disk."""
    for turn in turns_of(tmp_path, "pwrite64", "-shm"):
        path = tmp_path / f"{turn}.db"
        told = disturbed(path, "pwrite64", "error=ENOSPC", turn, QUICK, *only(path, "-shm"))
        assert "the disk is full (or fails)" in " ".join(told[-1]), turn


class Call(NamedTuple):
    """One system call of the record."""

    name: str
    file: str
    offset: int
    data: bytes


class Disk:
    """Files as they are, and as they surely are after a power cut."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.synced = {name: bytearray(content) for name, content in files.items()}
        self.pending: list[Call] = []
        self.told: list[list[str]] = []

    def see(self, call: Call) -> None:
        """Take a call into account."""
        if call.name == "write":
            self.told += [line.split() for line in call.data.decode().splitlines()]
        elif call.name in {"fdatasync", "fsync"}:
            mine = [other for other in self.pending if other.file == call.file]
            apply(self.synced, mine)
            self.pending = [other for other in self.pending if other.file != call.file]
        else:
            self.pending.append(call)

    def images(self, choose: random.Random) -> Iterator[dict[str, bytearray]]:
        """Make what may be found: nothing unsynced, all of it, some of it, some of it torn."""
        some = [call for call in self.pending if choose.random() < 0.5]
        torn = [tear(call, choose) for call in self.pending if choose.random() < 0.7]
        for calls in ([], self.pending, some, torn):
            files = {name: bytearray(content) for name, content in self.synced.items()}
            apply(files, calls)
            yield files


def apply(files: dict[str, bytearray], calls: list[Call]) -> None:
    for call in calls:
        if call.name == "unlink":
            files.pop(call.file, None)
            continue
        content = files.setdefault(call.file, bytearray())
        if call.name == "ftruncate":
            del content[call.offset :]
            content.extend(bytes(call.offset - len(content)))
        else:
            content.extend(bytes(max(0, call.offset - len(content))))
            content[call.offset : call.offset + len(call.data)] = call.data


def tear(call: Call, choose: random.Random) -> Call:
    keep = choose.randrange(0, len(call.data) + 1, SECTOR) if call.data else 0
    return call._replace(data=call.data[:keep])


CALL = re.compile(r"^(?P<pid>\d+) +(?P<call>(?P<name>\w+)\(.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")
FILE = re.compile(r'<(?P<path>[^>]*)>|"(?P<name>(?:\\x[0-9a-f]{2})*)"')
DATA = re.compile(r'"(?P<data>(?:\\x[0-9a-f]{2})*)"')


def recorded(trace: Path, database: Path) -> Iterator[Call]:
    """Read the calls that concern the database, and the standard output, from a trace."""
    unfinished: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        if resumed := RESUMED.match(line):
            line = f"{resumed['pid']} {unfinished.pop(resumed['pid'])}{resumed['rest']}"  # noqa: PLW2901
        elif line.endswith("<unfinished ...>"):
            pid, _, call = line.removesuffix("<unfinished ...>").partition(" ")
            unfinished[pid] = call.strip()
            continue
        if (match := CALL.match(line)) and " = -1 " not in line:
            yield from parsed(match["name"], match["call"], database)


def parsed(name: str, text: str, database: Path) -> Iterator[Call]:
    data = DATA.search(text)
    content = bytes.fromhex(data["data"].replace("\\x", "")) if data else b""
    if name == "write":
        if text.startswith("write(1<"):
            yield Call(name, "", 0, content)
        return
    if name == "unlink":
        file = content.decode()
    else:
        named = FILE.search(text)
        assert named, text
        file = unhexed(named["path"])
    suffix = file.removeprefix(str(database))
    if not file.startswith(str(database)) or suffix in {"-shm", "-owner"}:
        return
    number = re.search(r", (\d+)\) += ", text)
    offset = int(number[1]) if number and name in {"pwrite64", "ftruncate"} else 0
    yield Call(name, suffix, offset, b"" if name == "unlink" else content)


def unhexed(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


def survived(directory: Path, image: dict[str, bytearray]) -> Counter[str]:
    """Open an image with SQLite, check all that can be checked, and return what it holds."""
    path = directory / "image.db"
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"image.db{suffix}").unlink(missing_ok=True)
    for suffix, content in image.items():
        path.with_name(f"image.db{suffix}").write_bytes(content)
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found: Counter[str] = Counter()
        for stream, seq, data, crc in connection.execute(
            "SELECT stream, seq, data, crc FROM beamflow_events ORDER BY position"
        ):
            found[stream] += 1
            assert seq == found[stream]
            assert crc == checksum(stream, seq, data.encode())
        return found
    finally:
        connection.close()


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_a_power_cut_at_any_moment(tmp_path: Path, durability: str) -> None:
    """In full durability no image lacks what was acknowledged; in relaxed each is an earlier moment.

    That some image of the relaxed mode does lack something proves that this test would see it.
    """
    path, trace = tmp_path / "app.db", tmp_path / "trace"
    asyncio.run(made(path))
    disk = Disk({"": path.read_bytes()})
    calls = "trace=pwrite64,fdatasync,fsync,ftruncate,unlink,write"
    told = appended(
        path, "-o", str(trace), "-xx", "-y", "-s", "1000000", "-e", calls,
        streams=8, count=12, durability=durability,
    )  # fmt: skip
    assert told[-1] == ["done"]
    choose, images, losses = random.Random(7), 0, 0
    for call in recorded(trace, path):
        disk.see(call)
        for image in disk.images(choose):
            images += 1
            lost = acknowledged(disk.told) - survived(tmp_path, image)
            losses += bool(lost)
    assert acknowledged(disk.told) == acknowledged(told)
    assert images > 200
    assert (losses == 0) == (durability == "full")
