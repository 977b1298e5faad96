"""Every error that supervision raises.

::

    SupervisionError
    ├ SpecError (ValueError)                 a child spec or an option is wrong
    ├ ActorStoppedError (RuntimeError)       the actor ended before it could answer
    ├ CallTimeoutError (TimeoutError)        no answer in time
    ├ CallingSelfError (RuntimeError)        an actor waits for itself
    ├ MailboxFullError (RuntimeError)        a bounded mailbox refuses a message
    ├ StashFullError (RuntimeError)          an actor stashed more than it may
    ├ ActorNotFoundError (LookupError)       nobody is registered under this name
    ├ NameTakenError (ValueError)            somebody else is
    ├ ChildError (RuntimeError)              a supervisor refuses a management call
    │   ├ AlreadyStartedError
    │   ├ AlreadyPresentError
    │   ├ ChildRunningError
    │   ├ ChildRestartingError
    │   ├ ChildNotFoundError (LookupError)
    │   └ MaxChildrenError
    ├ ChildStartError (RuntimeError)         a child did not come up
    ├ RestartLimitError (RuntimeError)       a supervisor gave up
    ├ ZombieLimitError (RuntimeError)        too many children refused to end
    ├ ProcessDiedError (RuntimeError)        the process of an isolated child is gone
    ├ NotPicklableError (TypeError)          a message or an answer cannot go to another process
    └ RemoteError (RuntimeError)             stands for an exception of another process
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ActorNotFoundError",
    "ActorStoppedError",
    "AlreadyPresentError",
    "AlreadyStartedError",
    "CallTimeoutError",
    "CallingSelfError",
    "ChildError",
    "ChildNotFoundError",
    "ChildRestartingError",
    "ChildRunningError",
    "ChildStartError",
    "MailboxFullError",
    "MaxChildrenError",
    "NameTakenError",
    "NotPicklableError",
    "ProcessDiedError",
    "RemoteError",
    "RestartLimitError",
    "SpecError",
    "StashFullError",
    "SupervisionError",
    "ZombieLimitError",
]


class SupervisionError(Exception):
    """The root of all errors of this package.

    Each is picklable and keeps its facts in attributes.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle message and facts.

        A ref stays behind, because it means nothing in another process.
        """
        facts = {name: value for name, value in self.__dict__.items() if name != "ref"}
        return _rebuild, (type(self), self.args, facts)


def _rebuild(
    kind: type[SupervisionError], args: tuple[object, ...], facts: dict[str, object]
) -> SupervisionError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class SpecError(SupervisionError, ValueError):
    """A child spec or a supervisor's option is not valid.

    Attributes:
        atom: What OTP calls the fault, such as ``"invalid_restart_type"``.
        value: The value that was given.
    """

    def __init__(self, atom: str, value: object, advice: str) -> None:
        """Name the fault.

        Args:
            atom: What OTP calls it.
            value: The value that was given.
            advice: What to give instead.
        """
        super().__init__(f"{atom}: {value!r}. {advice}")
        self.atom = atom
        self.value = value


class ActorStoppedError(SupervisionError, RuntimeError):
    """The actor ended before it answered, or had ended before it was asked; or it is a child function.

    Attributes:
        path: The actor's place in the tree.
        reason: Its exit reason; ``"noproc"`` when it was gone already; None of a child function that runs,
            because that takes no messages.
    """

    def __init__(self, path: str, reason: object) -> None:
        """Say who ended and why.

        Args:
            path: The actor's place in the tree.
            reason: Its exit reason; None of a child function that runs.
        """
        super().__init__(
            f"{path} is a child function, which takes no messages. Make it an Actor to ask it something."
            if reason is None
            else f"actor {path} has stopped ({reason!r}). "
            "If it is supervised, look its new ref up and ask again."
        )
        self.path = path
        self.reason = reason


class CallTimeoutError(SupervisionError, TimeoutError):
    """The actor did not answer in time; it may still do the work, its late answer is dropped.

    Attributes:
        path: The actor's place in the tree.
        timeout_s: How long the caller waited.
    """

    def __init__(self, path: str, timeout_s: float, request: object) -> None:
        """Say who did not answer what.

        Args:
            path: The actor's place in the tree.
            timeout_s: How long the caller waited.
            request: What it had asked; only its type is told.
        """
        super().__init__(
            f"no answer from {path} to {type(request).__name__} within {timeout_s} s. The work "
            "may still be done: make it idempotent before you retry, or give the call more time."
        )
        self.path = path
        self.timeout_s = timeout_s


class CallingSelfError(SupervisionError, RuntimeError):
    """An actor called, or waited for, itself, which would never end."""

    def __init__(self, path: str, verb: str) -> None:
        """Say who and what.

        Args:
            path: The actor's place in the tree.
            verb: The ref's method that was used.
        """
        super().__init__(
            f"{path} used {verb}() on itself and would wait for ever. "
            "Use the method directly, cast() to handle it later, or raise Stop."
        )
        self.path = path


class MailboxFullError(SupervisionError, RuntimeError):
    """A bounded mailbox has no room.

    Attributes:
        path: The actor's place in the tree.
        limit: How many messages it holds.
    """

    def __init__(self, path: str, limit: int) -> None:
        """Say whose mailbox.

        Args:
            path: The actor's place in the tree.
            limit: How many messages it holds.
        """
        super().__init__(
            f"the mailbox of {path} is full ({limit} messages). "
            "Slow down, wait for room with push(), or raise the actor's mailbox_limit."
        )
        self.path = path
        self.limit = limit


class StashFullError(SupervisionError, RuntimeError):
    """An actor stashed more messages than its `stash_limit`.

    Attributes:
        path: The actor's place in the tree.
        limit: How many messages it may stash.
    """

    def __init__(self, path: str, limit: int) -> None:
        """Say whose stash.

        Args:
            path: The actor's place in the tree.
            limit: How many messages it may stash.
        """
        super().__init__(
            f"the stash of {path} is full ({limit} messages). Unstash earlier or raise stash_limit."
        )
        self.path = path
        self.limit = limit


class ActorNotFoundError(SupervisionError, LookupError):
    """Nobody is registered under this name.

    Attributes:
        name: The name that was looked up.
    """

    def __init__(self, name: object) -> None:
        """Say which name.

        Args:
            name: The name that was looked up.
        """
        super().__init__(
            f"no actor is registered as {name!r}. Start it first; after a crash wait for its restart."
        )
        self.name = name


class NameTakenError(SupervisionError, ValueError):
    """Another live actor has this name; OTP's ``already_registered``.

    Attributes:
        name: The name.
        ref: Who has it.
    """

    ref: object = None

    def __init__(self, name: object, ref: object) -> None:
        """Say which name and who has it.

        Args:
            name: The name.
            ref: Who has it.
        """
        super().__init__(
            f"the name {name!r} belongs to {ref!r}. Use that actor, or choose another name."
        )
        self.name = name
        self.ref = ref


class ChildError(SupervisionError, RuntimeError):
    """A supervisor refuses a management call; nothing has changed.

    Attributes:
        atom: OTP's answer.
        child_id: The child that was meant.
    """

    atom: ClassVar[str] = "error"
    advice: ClassVar[str] = "Look at which_children()."

    def __init__(self, child_id: object) -> None:
        """Say which child.

        Args:
            child_id: The child that was meant.
        """
        super().__init__(f"{self.atom}: {child_id!r}. {self.advice}")
        self.child_id = child_id


class AlreadyStartedError(ChildError):
    """A child with this id, or an actor with this name, runs already.

    Attributes:
        ref: The one that runs.
    """

    atom = "already_started"
    advice = "Use the ref that this error carries, or choose another id."
    ref: object = None

    def __init__(self, child_id: object, ref: object) -> None:
        """Say which child.

        Args:
            child_id: The child that was meant.
            ref: The one that runs.
        """
        super().__init__(child_id)
        self.ref = ref


class AlreadyPresentError(ChildError):
    """A child with this id is known but does not run."""

    atom = "already_present"
    advice = "Call restart_child(), or delete_child() first."


class ChildRunningError(ChildError):
    """The child runs, the call needs a stopped one."""

    atom = "running"
    advice = "Call terminate_child() first."


class ChildRestartingError(ChildError):
    """The child is being restarted, the call needs a stopped one."""

    atom = "restarting"
    advice = "Call terminate_child() to end the attempts, or wait."


class ChildNotFoundError(ChildError, LookupError):
    """The supervisor has no such child."""

    atom = "not_found"


class MaxChildrenError(ChildError):
    """A dynamic supervisor has as many children as it may."""

    atom = "max_children"
    advice = "Try again when a child has ended, or raise max_children."


class ChildStartError(SupervisionError, RuntimeError):
    """A child did not come up.

    Its own exception, with the original traceback, is the ``__cause__``.

    Attributes:
        child_id: The child.
        reason: Why: its exception, or the exit reason it chose.
    """

    def __init__(self, child_id: object, reason: object) -> None:
        """Say which child and why.

        Args:
            child_id: The child.
            reason: Why it did not come up.
        """
        super().__init__(
            f"child {child_id!r} failed to start: {reason!r}. Mend the cause and start it again."
        )
        self.child_id = child_id
        self.reason = reason


class RestartLimitError(SupervisionError, RuntimeError):
    """A supervisor gave up: its children needed more restarts than it may do.

    Attributes:
        path: The supervisor's place in the tree.
        child_id: The child whose restart was one too many.
        max_restarts: How many restarts are allowed in the window.
        max_seconds: The length of the window.
    """

    def __init__(self, path: str, child_id: object, max_restarts: int, max_seconds: float) -> None:
        """Say who gave up over which child.

        Args:
            path: The supervisor's place in the tree.
            child_id: The child whose restart was one too many.
            max_restarts: How many restarts are allowed in the window.
            max_seconds: The length of the window.
        """
        super().__init__(
            f"supervisor {path} gave up on child {child_id!r}: more than {max_restarts} restarts in "
            f"{max_seconds} s. The cause of this error is the child's last one; mend it, give the child a "
            "backoff, or allow more restarts."
        )
        self.path = path
        self.child_id = child_id
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds


class ZombieLimitError(SupervisionError, RuntimeError):
    """A supervisor gave up: more children refused to end than the tree may hold.

    Attributes:
        path: The supervisor's place in the tree.
        child_id: The child that refused last.
        zombies: How many there are now.
        max_zombies: How many there may be.
    """

    def __init__(self, path: str, child_id: object, zombies: int, max_zombies: int) -> None:
        """Say who gave up over which child.

        Args:
            path: The supervisor's place in the tree.
            child_id: The child that refused last.
            zombies: How many there are now.
            max_zombies: How many there may be.
        """
        super().__init__(
            f"supervisor {path} gave up on child {child_id!r}: {zombies} children have refused to end and "
            f"still run, {max_zombies} may. Mend the code that swallows CancelledError, or give it "
            'isolation="process", where it can be killed.'
        )
        self.path = path
        self.child_id = child_id
        self.zombies = zombies
        self.max_zombies = max_zombies


class ProcessDiedError(SupervisionError, RuntimeError):
    """The process of a child with ``isolation="process"`` ended without a word.

    Attributes:
        path: The child's place in the tree.
        exit_code: That of the process; negative: the signal that killed it. None when unknown.
    """

    def __init__(self, path: str, exit_code: int | None) -> None:
        """Say whose process.

        Args:
            path: The child's place in the tree.
            exit_code: That of the process.
        """
        super().__init__(
            f"the process of {path} died with exit code {exit_code}. A negative code is a signal: "
            "-9 is often the kernel short of memory, -11 a fault in an extension module."
        )
        self.path = path
        self.exit_code = exit_code


class NotPicklableError(SupervisionError, TypeError):
    """A request to a child with ``isolation="process"``, or its answer, cannot be pickled, or not unpickled.

    Attributes:
        path: The child's place in the tree.
    """

    def __init__(self, path: str, what: str, kind: str) -> None:
        """Say what cannot cross.

        Args:
            path: The child's place in the tree.
            what: Which way it was going.
            kind: The name of its type.
        """
        super().__init__(
            f"{what} {path}, of type {kind}, cannot be pickled and made again. What goes to another "
            "process and comes back is plain data: no lambdas, no refs, no open files."
        )
        self.path = path


class RemoteError(SupervisionError, RuntimeError):
    """What is known of an exception of another process.

    It stands for one that cannot be pickled; of one that can, it is the cause, for the traceback.

    Attributes:
        kind: The full name of the exception's class.
        text: Its message.
        trace: Its traceback, as text.
    """

    def __init__(self, kind: str, text: str, trace: str) -> None:
        """Describe the exception.

        Args:
            kind: The full name of its class.
            text: Its message.
            trace: Its traceback, as text.
        """
        super().__init__(f"{kind}: {text}\n\n{trace}")
        self.kind = kind
        self.text = text
        self.trace = trace
