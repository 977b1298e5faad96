"""``beamflow lint``: what in workflow functions breaks their replay?"""

from __future__ import annotations

import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

from beamflow.cli.output import plain, say, say_json
from beamflow.errors import DefinitionError
from beamflow.lint.module import Finding, lint_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["lint_command"]


def lint_command(paths: Sequence[str], *, as_json: bool) -> int:
    """Look through the files, and say what was found; 0 if nothing was, else 1.

    Raises:
        DefinitionError: a path leads nowhere, or a file cannot be read.
    """
    findings: list[Finding] = []
    for file in dict.fromkeys(each for path in paths for each in _files(Path(path))):
        findings += lint_source(str(file), _source(file))
    if as_json:
        say_json(findings)
    else:
        for each in findings:
            place = f"{plain(each.path)}:{each.line}:{each.column}"
            say(f"{place}: {each.code}: {plain(each.message)}")
    return 1 if findings else 0


def _files(path: Path) -> Iterator[Path]:
    """Give a file, or all Python files below a directory that are the project's own."""
    if path.is_file():
        yield path
    elif path.is_dir():
        for each in sorted(path.iterdir()):
            is_own = not each.name.startswith(".") and not (each / "pyvenv.cfg").exists()
            if each.is_dir() and is_own and each.name != "__pycache__":
                yield from _files(each)
            elif each.suffix == ".py" and each.is_file():
                yield each
    else:
        raise DefinitionError(f"there is no {path}: name Python files, or directories of them")


def _source(file: Path) -> str:
    try:
        with tokenize.open(file) as opened:
            return opened.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{file} cannot be read: {error}") from error
