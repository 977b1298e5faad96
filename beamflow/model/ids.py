"""Ids: minted here and nowhere else, from time and random bits that are handed in."""

from __future__ import annotations

import uuid
from hashlib import blake2b

from beamflow.errors import DefinitionError

__all__ = [
    "DEAD_LETTERS",
    "RECOVERIES",
    "checked_name",
    "checked_workflow_id",
    "child_id",
    "digest",
    "idempotency_key",
    "recoveries_of",
    "shared_idempotency_key",
    "uuid4",
    "uuid7",
]

DEAD_LETTERS = "$dead-letters"
"""The stream that the dead-letter queue keeps for workflows that have not ended."""

RECOVERIES = "$recoveries"
"""How the streams begin in which engines note who was at work when the one before them died."""

_ID_CHARACTERS_MAX = 512


def uuid4(bits: int) -> uuid.UUID:
    """Make a version 4 UUID of 128 random bits (RFC 9562, section 5.4)."""
    return uuid.UUID(int=bits, version=4)


def uuid7(time_us: int, bits: int) -> uuid.UUID:
    """Make a version 7 UUID of a time in microseconds and 74 random bits (RFC 9562, 5.7)."""
    value = (time_us // 1000 & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | bits & (1 << 62) - 1
    return uuid.UUID(int=value)


def recoveries_of(epoch: int) -> str:
    """Name the stream of what the owner of an epoch has noted; the next owner reads that one alone."""
    return f"{RECOVERIES}/{epoch}"


def checked_workflow_id(workflow_id: str) -> str:
    """Return the id; raises `DefinitionError` for one that a log cannot be kept under."""
    if not isinstance(workflow_id, str):
        message = f"a workflow id is a str, not {workflow_id!r}"
        raise DefinitionError(message)
    if not workflow_id or len(workflow_id) > _ID_CHARACTERS_MAX or not workflow_id.isprintable():
        message = (
            f"workflow id {workflow_id[:80]!r} is refused: it needs 1 to {_ID_CHARACTERS_MAX} "
            f"printable characters"
        )
        raise DefinitionError(message)
    if workflow_id.startswith("$"):
        message = f"workflow id {workflow_id!r} is refused: ids that start with '$' are beamflow's"
        raise DefinitionError(message)
    return workflow_id


def checked_name(name: object, what: str) -> str:
    """Return the name of a workflow or step; raises `DefinitionError` for one no log can hold."""
    if isinstance(name, str) and name and name.isprintable():
        return name
    message = f"{what} name {name!r} is refused: it must be a str of printable characters"
    raise DefinitionError(message)


def idempotency_key(workflow_id: str, op: int, run: int = 0) -> str:
    """Name the effect of one command: the same over all its attempts and restarts."""
    return f"{workflow_id}/{run}.{op}" if run else f"{workflow_id}/{op}"


def shared_idempotency_key(step: str, key: str) -> str:
    """Name the effect of a step whose result is shared; no workflow's id begins with "$"."""
    return f"${step}:{key}"


def child_id(parent: str, op: int, run: int = 0) -> str:
    """Name the child that a workflow starts by one command."""
    return idempotency_key(parent, op, run)


def digest(name: str, arguments: bytes) -> str:
    """Digest a command's name and encoded arguments, to compare on replay; 16 hex digits."""
    return blake2b(arguments, digest_size=8, key=name.encode()[:64]).hexdigest()
