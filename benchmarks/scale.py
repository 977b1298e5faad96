"""``python -m benchmarks.scale part [options]``: what takes long, one part at a time."""

from __future__ import annotations

import importlib
import sys

PARTS = {
    "sleepers": "a million workflows that sleep for a day",
    "finding": "a page of each kind of query among a million workflows",
    "soak": "a constant load for twenty minutes: does anything grow?",
}
"""What can be run, each a module ``benchmarks._<part>`` with a ``main(argv)``."""


def main(argv: list[str]) -> int:
    """Run the part that is named first."""
    if not argv or argv[0] not in PARTS:
        parts = "\n".join(f"  {name:10} {what}" for name, what in PARTS.items())
        sys.stderr.write(f"usage: python -m benchmarks.scale part [options]; the parts:\n{parts}\n")
        return 2
    importlib.import_module(f"benchmarks._{argv[0]}").main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
