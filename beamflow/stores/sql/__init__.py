"""The statements of the SQL stores: one statement a file, one directory a dialect."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["migrations", "statement"]


def statement(dialect: str, name: str) -> str:
    """Return the text of one statement."""
    return (files(__name__) / dialect / f"{name}.sql").read_text(encoding="utf-8")


def migrations(dialect: str) -> list[str]:
    """Return the scripts that lead from an empty database to the newest schema, in order.

    The schema version of a database is the number of scripts that it has been through.
    """
    scripts = (files(__name__) / dialect / "migrations").iterdir()
    return [
        script.read_text(encoding="utf-8")
        for script in sorted(scripts, key=lambda script: script.name)
        if script.name.endswith(".sql")
    ]
