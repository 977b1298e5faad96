"""``python -m benchmarks [name] [options]``: one benchmark, or all that ``make bench`` runs in turn."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """One thing that can be run: a module with ``main(argv)``."""

    module: str
    help: str
    always: bool = False
    """Whether it is run when nothing is named."""


COMMANDS = {
    "workflows": Command("benchmarks.workflows", "beamflow beside its peers", always=True),
    "supervision": Command(
        "benchmarks.supervision", "actors beside pykka and asyncio", always=True
    ),
    "scale": Command("benchmarks.scale", "what takes long, a part at a time"),
    "page": Command("benchmarks.page", "the tables and plots of the docs, from the last run"),
}


def main(argv: list[str]) -> int:
    """Run the benchmark that is named first, `workflows` with options alone, or each as it is."""
    if not argv:
        for command in COMMANDS.values():
            if command.always:
                importlib.import_module(command.module).main([])
        return 0
    name = "workflows" if argv[0].startswith("-") else argv.pop(0)
    if name not in COMMANDS:
        known = "\n".join(f"  {name}: {command.help}" for name, command in COMMANDS.items())
        sys.stderr.write(f"no benchmark is called {name!r}; there are\n{known}\n")
        return 2
    return importlib.import_module(COMMANDS[name].module).main(argv) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
