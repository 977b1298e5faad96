"""Decisions about failures: pure functions of what happened, time and chance."""

from __future__ import annotations
