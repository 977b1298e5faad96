"""What runs workflows."""

from __future__ import annotations
