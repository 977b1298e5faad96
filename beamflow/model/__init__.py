"""The facts and what follows from them: events, commands, ids, encodings. Pure."""

from __future__ import annotations
