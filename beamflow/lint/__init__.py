"""Finds in workflow functions what no replay would repeat. Reads source, imports and runs none of it."""

from __future__ import annotations
