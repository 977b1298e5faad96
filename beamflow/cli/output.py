"""What the command line writes: plain text, whatever stands in a log or a file."""

from __future__ import annotations

import sys

import msgspec

__all__ = ["complain", "plain", "say", "say_json"]


def say(text: str) -> None:
    """Write lines of text to the output."""
    sys.stdout.write(f"{text}\n")


def say_json(value: object) -> None:
    """Write a value as one JSON document to the output."""
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def complain(text: str) -> None:
    """Write a line of text to the error output."""
    sys.stderr.write(f"beamflow: {text}\n")


def plain(text: str) -> str:
    r"""Return the text in one line, with ``\x1b`` for what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
