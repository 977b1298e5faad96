"""Where contenders run: an environment for each, made once and kept in ``.bench``.

A peer's is what its file in ``benchmarks/requirements`` pins, from PyPI, and from the npm registry
where there is a file ``….npm.txt``. What cannot be made here is said, not hidden: its rows in the
tables say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CACHE", "ROOT", "Environment", "NotHereError", "environment", "newest_python"]

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "benchmarks" / "requirements"
CACHE = ROOT / ".bench"
INSTALL_S = 300
NEWER = ("python3.15", "python3.14", "python3.13", "python3.12")
KEPT_BY_MANAGERS = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")


class NotHereError(Exception):
    """An environment cannot be made on this machine; the message says why."""


@dataclass(frozen=True)
class Environment:
    """An interpreter with what a contender needs, and how to call it."""

    python: Path
    variables: dict[str, str] = field(default_factory=dict)
    loop: str = "asyncio"


def environment(name: str) -> Environment:
    """Return an environment, made if it is not there yet: of a peer, or one of our own.

    Ours are ``this`` (the interpreter that is running), ``uvloop``, and ``newer`` (the newest CPython
    that is found).

    Raises:
        NotHereError: it cannot be made here.
    """
    match name:
        case "this":
            return Environment(Path(sys.executable))
        case "uvloop":
            wanted = [*_own_dependencies(), *_pinned("uvloop.txt")]
            return Environment(_venv(name, Path(sys.executable), wanted), loop="uvloop")
        case "newer":
            found = newest_python()
            if found is None:
                version = ".".join(map(str, sys.version_info[:2]))
                raise NotHereError(f"no CPython newer than {version} found")
            return Environment(_venv(name, found, _own_dependencies()))
        case "edda":
            loop = "uvloop"  # its documentation installs it, and it depends on it
        case _:
            loop = "asyncio"
    variables = {}
    python = _venv(name, Path(sys.executable), _pinned(f"{name}.txt"))
    if (REQUIREMENTS / f"{name}.npm.txt").exists():
        variables[f"BENCH_{name.upper()}_SERVER"] = str(_npm(name))
    return Environment(python, variables, loop)


def newest_python() -> Path | None:
    """Return the newest CPython that is found and works, if it is newer than this one."""
    home = Path.home()
    places = [str(place) for pattern in KEPT_BY_MANAGERS for place in home.glob(pattern)]
    path = os.pathsep.join([os.environ.get("PATH", ""), *places])
    for name in NEWER:
        if tuple(map(int, name.removeprefix("python").split("."))) <= sys.version_info[:2]:
            break
        for place in path.split(os.pathsep):
            found = shutil.which(name, path=place)
            if found and _runs([found, "-c", "import ensurepip, sqlite3, ssl, venv"]):
                return Path(found)
    return None


def _own_dependencies() -> list[str]:
    """Return what beamflow depends on; itself is found in the working tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], "pip"]


def _pinned(name: str) -> list[str]:
    lines = (
        line.partition("#")[0].strip() for line in (REQUIREMENTS / name).read_text().splitlines()
    )
    return [line for line in lines if line]


def _venv(name: str, base: Path, wanted: Sequence[str]) -> Path:
    """Return the interpreter of a virtual environment that has what is wanted."""
    directory = CACHE / name
    python = directory / "bin" / "python"
    stamp = directory / "made-of"
    made_of = sha256("\n".join([str(base), *wanted]).encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == made_of):
        sys.stderr.write(f"making the environment of {name}\n")
        shutil.rmtree(directory, ignore_errors=True)
        _done(name, [str(base), "-m", "venv", str(directory)])
        _done(name, [str(python), "-m", "pip", "install", "--quiet", *wanted])
        stamp.write_text(made_of)
    return python


def _npm(name: str) -> Path:
    """Return the server of a peer, the one native binary among what npm has installed."""
    directory = CACHE / f"{name}-npm"
    wanted = _pinned(f"{name}.npm.txt")
    stamp = directory / "made-of"
    if not (stamp.exists() and stamp.read_text() == "\n".join(wanted)):
        if shutil.which("npm") is None:
            raise NotHereError("its server comes from npm, which is not installed")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        _done(name, ["npm", "install", "--silent", "--prefix", str(directory), *wanted])
        stamp.write_text("\n".join(wanted))
    for file in _executables(directory / "node_modules"):
        if _runs([str(file), "--version"]):
            return file
    raise NotHereError("npm has installed no server for this machine")


def _executables(directory: Path) -> Iterator[Path]:
    for file in directory.glob("@*/*/bin/*"):
        if file.is_file() and os.access(file, os.X_OK):
            yield file


def _done(name: str, command: Sequence[str]) -> None:
    try:
        subprocess.run(  # noqa: S603 - what is installed is pinned
            command, check=True, capture_output=True, text=True, timeout=INSTALL_S
        )
    except FileNotFoundError as error:
        raise NotHereError(f"{name} cannot be installed: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NotHereError(f"{name} was not installed within {INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise NotHereError(f"{name} cannot be installed: {' '.join(last)}") from error


def _runs(command: Sequence[str]) -> bool:
    with suppress(OSError, subprocess.TimeoutExpired):
        return not subprocess.run(  # noqa: S603 - found above
            command, check=False, capture_output=True, timeout=20
        ).returncode
    return False
