"""The command line's entrance: what it takes, and what it exits with."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from importlib.metadata import version
from typing import TYPE_CHECKING

from beamflow.cli.check import check_command
from beamflow.cli.lint import lint_command
from beamflow.cli.output import complain, plain
from beamflow.errors import BeamflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if all is well, 1 if something was found, 2 if it could not run."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        found = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on; what is left would be written at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BeamflowError as error:
        complain(plain(str(error)))
    except Exception as error:  # noqa: BLE001 - the application's modules are anybody's code
        complain(f"importing it failed: {plain(repr(error))}")
        sys.stderr.write("".join(traceback.format_exception(error, limit=-3)))
    else:
        return found
    return 2


def _run(options: argparse.Namespace) -> int:
    if options.command == "check":
        return check_command(options.target, options.store, as_json=options.json)
    return lint_command(options.paths, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beamflow",
        description="Look at workflows before they are deployed.",
        epilog="exits with 0 if all is well, 1 if something was found, 2 if it could not run",
    )
    parser.add_argument("--version", action="version", version=version("beamflow"))
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check",
        help="replay all that is open in a store against this code; runs no step, writes nothing",
    )
    check.add_argument(
        "target", help="module:engine, module:workflows, or module for all workflows in it"
    )
    check.add_argument("--store", required=True, metavar="URL", help="such as sqlite:///app.db")
    lint = commands.add_parser(
        "lint", help="find in workflow functions what no replay would repeat"
    )
    lint.add_argument("paths", nargs="+", help="Python files, or directories of them")
    for command in (check, lint):
        command.add_argument("--json", action="store_true", help="write one JSON document")
    return parser
