"""Why a child ended: exit reasons, their classes, and `Stop`, which chooses one.

An exit reason is any object, as in Erlang. Those with a meaning of their own are the strings below,
`Shutdown` for ``{shutdown, Term}``, and exceptions: a child that crashed has its exception as the
reason.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Final

__all__ = [
    "ABANDONED",
    "CANCELLED",
    "KILLED",
    "NOPROC",
    "NORMAL",
    "SHUTDOWN",
    "TIMEOUT",
    "ExitReason",
    "Shutdown",
    "Stop",
    "TreeExit",
    "is_normal",
    "reason_of",
]

NORMAL: Final = "normal"
"""The child did what it had to do."""
SHUTDOWN: Final = "shutdown"
"""The child was asked to stop by its supervisor, or a supervisor stopped itself."""
KILLED: Final = "killed"
"""The child was stopped without its consent: `brutal_kill`, or its budget was over."""
CANCELLED: Final = "cancelled"
"""The child's task was cancelled by somebody who is not its supervisor. Abnormal."""
ABANDONED: Final = "abandoned"
"""The child refused to end; it may still run as a zombie, outside the tree."""
NOPROC: Final = "noproc"
"""There was no such actor any more."""
TIMEOUT: Final = "timeout"
"""The child's init took longer than `start_timeout`."""


class Shutdown:
    """A normal end that says more: OTP's ``{shutdown, Term}``.

    A transient child is not restarted after it.
    """

    __slots__ = ("term",)
    __match_args__ = ("term",)

    def __init__(self, term: object) -> None:
        """Keep the term.

        Args:
            term: What to tell those who watch.
        """
        self.term = term

    def __repr__(self) -> str:
        """Show the term."""
        return f"Shutdown({self.term!r})"

    def __eq__(self, other: object) -> bool:
        """Two shutdowns with equal terms are the same reason."""
        return self.term == other.term if isinstance(other, Shutdown) else NotImplemented

    def __hash__(self) -> int:
        """Hash by the term."""
        return hash((Shutdown, self.term))


class TreeExit(SystemExit):
    """A `SystemExit` that ends the whole tree and not just the child that raised it."""


ExitReason = object
"""One of the strings of this module, a `Shutdown`, an exception, or any other object given to `Stop`."""


class Stop(BaseException):
    """Raised inside an actor or a child function to end it with a reason of its choice.

    It derives from `BaseException`, so that an ``except Exception`` on the way does not eat it.
    """

    def __init__(self, reason: ExitReason = NORMAL, *, cause: BaseException | None = None) -> None:
        """Choose the reason.

        Args:
            reason: ``"normal"``, ``"shutdown"``, a `Shutdown`, or anything else (which is
                abnormal).
            cause: The exception behind the reason, for those who ask the ref for it.
        """
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


def is_normal(reason: ExitReason) -> bool:
    """Tell whether a transient child is left alone after this exit (OTP supervisor(3), restart types)."""
    return (isinstance(reason, str) and reason in {NORMAL, SHUTDOWN}) or isinstance(
        reason, Shutdown
    )


def reason_of(error: BaseException) -> ExitReason:
    """Give the exit reason that an exception stands for; of a group, the worst leaf decides.

    KeyboardInterrupt is worse than SystemExit, that is worse than an error, that is worse than a
    cancel. A group with several errors stays a group, so that none of them is lost.
    """
    if isinstance(error, Stop):
        return error.reason
    if not isinstance(error, BaseExceptionGroup):
        return CANCELLED if isinstance(error, CancelledError) else error
    leaves = _leaves(error)
    for kind in (KeyboardInterrupt, SystemExit):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    for leaf in leaves:
        if isinstance(leaf, Stop):
            return leaf.reason
    faults = [leaf for leaf in leaves if not isinstance(leaf, CancelledError)]
    if not faults:
        return CANCELLED
    return faults[0] if len(faults) == 1 else error


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
