"""What tests of applications and of stores are made with."""

from __future__ import annotations
