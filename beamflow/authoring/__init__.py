"""What a workflow's author touches."""

from __future__ import annotations
