"""Child specs, and what a supervisor tells about its children."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from supervision.errors import SpecError
from supervision.restarts import Backoff, is_count

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BRUTAL_KILL",
    "INFINITY",
    "BrutalKill",
    "ChildCounts",
    "ChildSpec",
    "ChildState",
    "ChildType",
    "Isolation",
    "OnSystemExit",
    "Restart",
    "Start",
    "body_and_info",
    "option_of",
    "unique_specs",
]


_Option = TypeVar("_Option", bound=StrEnum)


class Restart(StrEnum):
    """When a child that ended by itself is restarted."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After an abnormal exit."""
    TEMPORARY = "temporary"
    """Never; its spec is forgotten."""


class ChildType(StrEnum):
    """Whether a child has children of its own; decides the default budget and how it is counted."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class Isolation(StrEnum):
    """Where the code of a child runs."""

    TASK = "task"
    """In a task of the tree's own event loop."""
    PROCESS = "process"
    """In a process of its own, which can be killed whatever the code does."""


class OnSystemExit(StrEnum):
    """What a `SystemExit` of a child is."""

    CRASH = "crash"
    """An abnormal exit of that child, like any other."""
    PROPAGATE = "propagate"
    """The end of the whole tree, in order; it is raised where the tree was started."""


class BrutalKill(Enum):
    """The type of `BRUTAL_KILL`."""

    BRUTAL_KILL = "brutal_kill"


BRUTAL_KILL: Final = BrutalKill.BRUTAL_KILL
"""A shutdown budget: end the child at once, without its `terminate`."""
INFINITY: Final = math.inf
"""A shutdown budget: wait until the child has ended, however long that takes."""

Start = Callable[..., object]
"""Gives an actor or supervisor, or ``(actor, info)``, or `IGNORE`.

Or is an ``async def``: the child's body.
"""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start, restart and stop one child (OTP supervisor(3), child specification).

    Attributes:
        id: The child's name inside its supervisor; any hashable object but None.
        start: Called for each life of the child, see `Start`.
        restart: When it is restarted.
        shutdown: Seconds between the request to stop and the kill; `INFINITY`, `BRUTAL_KILL`. By
            default 5 for a worker and `INFINITY` for a supervisor.
        type: Worker or supervisor.
        significant: Whether its end can end its supervisor, see `AutoShutdown`.
        start_timeout: Seconds its `init` may take; None for as long as it likes.
        backoff: How long to wait before a restart; None to restart at once.
        isolation: Where its code runs. What a process is given, is sent and answers must be picklable.
        on_system_exit: What a `SystemExit` in it is.
        restart_stash: How many messages are kept for its next life while it is being restarted: those that
            waited when it ended, and those sent to its earlier refs. With 0 a ref ends with its life; else
            it reaches the later lives too.

    Raises:
        SpecError: The first field that is wrong, in OTP's order: id, start, restart, significant,
            type, shutdown, then the others; with OTP's name for it where OTP has one.
    """

    id: Hashable
    start: Start
    restart: Restart = field(default=Restart.PERMANENT, kw_only=True)
    shutdown: float | BrutalKill | None = field(default=None, kw_only=True)
    type: ChildType = field(default=ChildType.WORKER, kw_only=True)
    significant: bool = field(default=False, kw_only=True)
    start_timeout: float | None = field(default=None, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    isolation: Isolation = field(default=Isolation.TASK, kw_only=True)
    on_system_exit: OnSystemExit = field(default=OnSystemExit.CRASH, kw_only=True)
    restart_stash: int = field(default=0, kw_only=True)
    _bare: ChildSpec | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the fields in OTP's order and fill in the default budget."""
        if self.id is None:
            raise SpecError("missing_id", None, "Give the child an id.")
        if not isinstance(self.id, Hashable):
            raise SpecError("invalid_id", self.id, "An id must be hashable.")
        if self.start is None:
            raise SpecError("missing_start", None, "Give a callable that makes the child.")
        if not callable(self.start):
            raise SpecError(
                "invalid_mfa",
                self.start,
                "start makes the child anew for each of its lives: give a class or a function, "
                "such as lambda: Supervisor([...]), not what it makes.",
            )
        if type(self.restart) is not Restart:
            object.__setattr__(
                self, "restart", option_of(Restart, "invalid_restart_type", self.restart)
            )
        if not isinstance(self.significant, bool):
            raise SpecError(
                "invalid_significant", self.significant, "significant is True or False."
            )
        if type(self.type) is not ChildType:
            object.__setattr__(self, "type", option_of(ChildType, "invalid_child_type", self.type))
        self._check_budgets()
        if self.significant and self.restart is Restart.PERMANENT:
            raise SpecError(
                "bad_combination",
                [("restart", "permanent"), ("significant", True)],
                "A significant child must be transient or temporary.",
            )
        self._check_options()

    def _check_budgets(self) -> None:
        shutdown = self.shutdown
        if shutdown is None:
            default = INFINITY if self.type is ChildType.SUPERVISOR else 5.0
            object.__setattr__(self, "shutdown", default)
        elif shutdown is not BRUTAL_KILL and not _is_seconds(shutdown):
            raise SpecError(
                "invalid_shutdown", shutdown, "Give seconds from 0, INFINITY or BRUTAL_KILL."
            )
        if self.start_timeout is not None and not (
            _is_seconds(self.start_timeout) and self.start_timeout > 0
        ):
            raise SpecError(
                "invalid_start_timeout", self.start_timeout, "Give seconds above 0, or None."
            )
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise SpecError("invalid_backoff", self.backoff, "Give a Backoff, or None.")

    def _check_options(self) -> None:
        if type(self.on_system_exit) is not OnSystemExit:
            choice = option_of(OnSystemExit, "invalid_on_system_exit", self.on_system_exit)
            object.__setattr__(self, "on_system_exit", choice)
        if not is_count(self.restart_stash):
            raise SpecError("invalid_restart_stash", self.restart_stash, "Give an int from 0.")
        if type(self.isolation) is not Isolation:
            place = option_of(Isolation, "invalid_isolation", self.isolation)
            object.__setattr__(self, "isolation", place)
        if self.isolation is Isolation.PROCESS:
            self._check_process()

    def _check_process(self) -> None:
        if self.type is ChildType.SUPERVISOR:
            raise SpecError(
                "bad_combination",
                [("type", "supervisor"), ("isolation", "process")],
                "A tree does not reach into another process: isolate its workers.",
            )
        try:
            pickle.dumps(self.start)
        except Exception as error:
            raise SpecError(
                "not_picklable",
                self.start,
                "With isolation=process, start is a class or function of a module, or a partial of one with "
                "picklable arguments; no lambda and nothing that was defined inside a function.",
            ) from error

    def without_start(self) -> ChildSpec:
        """Give a copy which holds no start function, one for all children; it cannot be started."""
        bare = self._bare
        if bare is None:
            bare = object.__new__(ChildSpec)
            for name in self.__slots__:
                object.__setattr__(bare, name, getattr(self, name))
            object.__setattr__(bare, "start", _forgotten)
            object.__setattr__(self, "_bare", bare)
        return bare

    @property
    def budget(self) -> float | BrutalKill:
        """The shutdown budget with its default filled in."""
        return 5.0 if self.shutdown is None else self.shutdown


class ChildState(StrEnum):
    """Where a child is in its lives."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    UNDEFINED = "undefined"


class ChildCounts(NamedTuple):
    """What `count_children` answers; the last two count children that do not run as well."""

    specs: int
    active: int
    supervisors: int
    workers: int


def unique_specs(specs: Iterable[ChildSpec]) -> list[ChildSpec]:
    """Give the specs as a list.

    Raises:
        SpecError: ``invalid_child_spec`` or ``duplicate_child_name``.
    """
    seen: set[Hashable] = set()
    checked: list[ChildSpec] = []
    for spec in specs:
        if not isinstance(spec, ChildSpec):
            raise SpecError("invalid_child_spec", spec, "Children are given as ChildSpec.")
        if spec.id in seen:
            raise SpecError(
                "duplicate_child_name", spec.id, "Ids must differ inside one supervisor."
            )
        seen.add(spec.id)
        checked.append(spec)
    return checked


def body_and_info(made: object) -> tuple[object, object]:
    """Take apart what a start function gave: the child, and what it tells beside it, if anything."""
    return made if type(made) is tuple and len(made) == 2 else (made, None)  # noqa: PLR2004 - a pair


def _forgotten(*_: object) -> object:
    raise RuntimeError("the start function of a temporary child is not kept")


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def option_of(kind: type[_Option], atom: str, value: object) -> _Option:
    """Give the member that equals the value, so that plain strings are options too.

    Raises:
        SpecError: There is none; carries the atom.
    """
    for option in kind:
        if option == value:
            return option
    raise SpecError(atom, value, f"Choose one of {', '.join(kind)}.")
