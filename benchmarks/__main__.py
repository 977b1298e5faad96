"""``python -m benchmarks [name] [options]``: one benchmark, or all of them in turn."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main(argv: list[str]) -> int:
    """Run the benchmark that is named first, or each."""
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if not module.name.startswith("_") and module.name != "scale"  # it takes long
    )
    if argv and argv[0] not in names and not argv[0].startswith("-"):
        sys.stderr.write(f"no benchmark is called {argv[0]!r}; there are: {', '.join(names)}\n")
        return 2
    chosen = [argv.pop(0)] if argv and argv[0] in names else names
    for name in chosen:
        importlib.import_module(f"benchmarks.{name}").main(argv)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
