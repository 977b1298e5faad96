"""Every error that beamflow raises.

::

    BeamflowError(Exception)
    ├── DefinitionError(ValueError)             a workflow or step is declared wrongly
    │   ├── DuplicateWorkflowError              two workflows of one engine share a name
    │   └── UnknownWorkflowError(LookupError)   the engine was not given this workflow
    ├── PayloadError(ValueError)                a value does not fit its annotation, or JSON
    ├── WorkflowError                           about one workflow
    │   ├── WorkflowExistsError                 the id is taken by another workflow or input
    │   ├── WorkflowNotFoundError(LookupError)  no workflow has this id
    │   ├── WorkflowStateError                  its state does not allow what was asked
    │   │   └── WorkflowClosedError             it has ended and takes nothing more
    │   ├── WorkflowFailedError                 it ended by an unhandled exception
    │   │   └── WorkflowTimeoutError(TimeoutError)  it had not ended by its deadline
    │   ├── WorkflowCancelledError              it ended because it was told to
    │   ├── UnknownHandlerError(LookupError)    it has no handler of that kind and name
    │   ├── HandlerError                        what the code of a handler has raised
    │   │   ├── QueryFailedError                the handler of a query raised
    │   │   ├── UpdateRejectedError             the validator of an update refused it
    │   │   └── UpdateFailedError               the handler of an update raised, or was cut off
    │   ├── UpdateExistsError                   the request's id is taken by another request
    │   ├── ChildWorkflowError                  a child failed, or could not be started
    │   └── WorkflowParkedError                 it cannot go on until somebody mends the cause
    ├── StepError
    │   ├── StepFailedError                     a step raised a type that may not be rebuilt
    │   ├── StepProcessError                    the process that ran an attempt of a step died
    │   └── StepTimeoutError(TimeoutError)      a step took longer than one of its limits
    ├── TransactionError                        a step's transaction could not be had, or kept
    ├── HostLoopError(RuntimeError)             workflow code touched the host's event loop
    ├── ReadOnlyError(RuntimeError)             what may only look has asked for something
    ├── NondeterminismError                     the code no longer does what its log says
    ├── DeadLetterError(LookupError)            no such dead letter, or none that is open
    ├── EngineStoppedError                      the engine is not running (any more)
    ├── EngineFullError                         as many workflows are in memory as may be
    └── StoreError
        ├── ConflictError                       the stream is not where the writer thought
        ├── FencedError                         another owner holds the lease by now
        ├── StoreLockedError                    another process owns this store
        ├── StoreFormatError(ValueError)        not a beamflow store, or of a newer schema
        ├── StoreUnavailableError(OSError)      the disk is full, read-only, failing
        └── CorruptLogError                     a stored event is damaged

Catch ``BeamflowError`` for anything, ``WorkflowError`` for what concerns one workflow, ``StoreError``
for what a disk may do. Every message says what to do next; the facts are attributes. All errors
can be pickled.
"""

from __future__ import annotations

__all__ = [
    "BeamflowError",
    "ChildWorkflowError",
    "ConflictError",
    "CorruptLogError",
    "DeadLetterError",
    "DefinitionError",
    "DuplicateWorkflowError",
    "EngineFullError",
    "EngineStoppedError",
    "FencedError",
    "HandlerError",
    "HostLoopError",
    "NondeterminismError",
    "PayloadError",
    "QueryFailedError",
    "ReadOnlyError",
    "StepError",
    "StepFailedError",
    "StepProcessError",
    "StepTimeoutError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "StoreUnavailableError",
    "TransactionError",
    "UnknownHandlerError",
    "UnknownWorkflowError",
    "UpdateExistsError",
    "UpdateFailedError",
    "UpdateRejectedError",
    "WorkflowCancelledError",
    "WorkflowClosedError",
    "WorkflowError",
    "WorkflowExistsError",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowParkedError",
    "WorkflowStateError",
    "WorkflowTimeoutError",
]


def said(error_type: str, message: str) -> str:
    """Write an exception in one line, as Python does: the message only where there is one."""
    return f"{error_type}: {message}" if message else error_type


class BeamflowError(Exception):
    """The root of all errors that beamflow raises by itself."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by message and attributes: constructors with other arguments are not called."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[BeamflowError], args: tuple[object, ...], facts: dict[str, object]
) -> BeamflowError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(facts)
    return error


class DefinitionError(BeamflowError, ValueError):
    """A workflow or step is declared wrongly; raised at import or when the engine is built."""


class DuplicateWorkflowError(DefinitionError):
    """Two workflows given to one engine share a name and a version."""


class UnknownWorkflowError(DefinitionError, LookupError):
    """The engine was not given this workflow, or not in this version."""


class PayloadError(BeamflowError, ValueError):
    """A value cannot be written as JSON, or does not fit the annotation it is read by.

    Attributes:
        where: which value, such as ``"arguments of step 'charge'"``.
        problem: what is wrong with it, with the path to the field.
    """

    where: str
    problem: str

    def __init__(self, where: str, problem: str) -> None:
        """Name the value and what is wrong with it."""
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class WorkflowError(BeamflowError):
    """Something about one workflow.

    Attributes:
        workflow_id: which one.
    """

    workflow_id: str

    def __init__(self, workflow_id: str, message: str) -> None:
        """Say what happened to which workflow."""
        super().__init__(message)
        self.workflow_id = workflow_id


class WorkflowExistsError(WorkflowError):
    """The id is taken by a workflow of another name or with another input."""


class WorkflowNotFoundError(WorkflowError, LookupError):
    """No workflow of this store has the id."""


class WorkflowStateError(WorkflowError):
    """The workflow's state does not allow what was asked; nothing was done."""


class WorkflowClosedError(WorkflowStateError):
    """The workflow has ended; it takes no signals and never runs again."""


class WorkflowFailedError(WorkflowError):
    """The workflow ended by an unhandled exception; its completed steps were compensated.

    Attributes:
        error_type: qualified name of the exception's type.
        error_message: its text.
        traceback: the formatted traceback, as recorded.
        step: name of the step that failed, if the exception came out of one.
    """

    error_type: str
    error_message: str
    traceback: str
    step: str | None

    def __init__(
        self,
        workflow_id: str,
        *,
        error_type: str,
        error_message: str,
        traceback: str,
        step: str | None,
    ) -> None:
        """Carry over what the log says of the failure."""
        where = f" in step {step!r}" if step else ""
        super().__init__(
            workflow_id,
            f"workflow {workflow_id!r} failed{where}: {said(error_type, error_message)} "
            f"(engine.dead_letters.show({workflow_id!r}) has the details)",
        )
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback
        self.step = step


class WorkflowTimeoutError(WorkflowFailedError, TimeoutError):
    """The workflow had not ended by its deadline; it was told to end, and failed."""


class WorkflowCancelledError(WorkflowError):
    """The workflow ended because it was told to; its completed steps were compensated.

    Attributes:
        reason: what whoever cancelled it gave as the reason.
        terminated: whether it was ended where it stood, with nothing compensated.
    """

    reason: str
    terminated: bool

    def __init__(self, workflow_id: str, *, reason: str, terminated: bool) -> None:
        """Carry over what the log says of the end."""
        how = "terminated" if terminated else "cancelled"
        super().__init__(workflow_id, f"{said(f'workflow {workflow_id!r} was {how}', reason)}")
        self.reason = reason
        self.terminated = terminated


class ChildWorkflowError(WorkflowError):
    """A child workflow failed, was cancelled, or could not be started; as its parent sees it.

    The child's exception stays in the child: it reaches the parent as this error, live and on
    replay alike.

    Attributes:
        workflow: the child's name in the log; ``workflow_id`` is its id.
        error_type: qualified name of the exception's type.
        error_message: its text.
        traceback: the formatted traceback, as recorded.
        cancelled: whether the child ended because it was told to.
    """

    workflow: str
    error_type: str
    error_message: str
    traceback: str
    cancelled: bool

    def __init__(
        self,
        workflow_id: str,
        *,
        workflow: str,
        error_type: str,
        error_message: str,
        traceback: str,
        cancelled: bool,
    ) -> None:
        """Carry over what the log says of the child."""
        how = "was cancelled" if cancelled else "failed"
        super().__init__(
            workflow_id,
            f"child workflow {workflow!r} ({workflow_id!r}) {how}: "
            f"{said(error_type, error_message)}",
        )
        self.workflow = workflow
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback
        self.cancelled = cancelled


class UnknownHandlerError(WorkflowError, LookupError):
    """The workflow's code has registered no handler of that kind and name, or not yet.

    Attributes:
        kind: ``query`` or ``update``.
        name: what was called.
    """

    kind: str
    name: str

    def __init__(self, workflow_id: str, kind: str, name: str, known: tuple[str, ...]) -> None:
        """Say what was called and what there is."""
        there = ", ".join(known) or "none"
        super().__init__(
            workflow_id,
            f"workflow {workflow_id!r} has no {kind} {name!r} now (it has: {there}). Register it "
            f"with on_{kind}() before the first await, or as a method of a workflow class",
        )
        self.kind = kind
        self.name = name


class HandlerError(WorkflowError):
    """What the code of a handler has raised.

    Attributes:
        name: what was called.
        error_type: qualified name of the exception's type.
        error_message: its text.
    """

    name: str
    error_type: str
    error_message: str

    def __init__(
        self, workflow_id: str, what: str, *, name: str, error_type: str, error_message: str
    ) -> None:
        """Say what was called and what came of it."""
        super().__init__(
            workflow_id,
            f"{what} {name!r} of workflow {workflow_id!r}: {said(error_type, error_message)}",
        )
        self.name = name
        self.error_type = error_type
        self.error_message = error_message


class QueryFailedError(HandlerError):
    """The handler of a query raised; the exception is ``__cause__``. The workflow is as it was.

    Attributes:
        name: what was asked.
        error_type: qualified name of the exception's type.
        error_message: its text.
    """


class UpdateRejectedError(HandlerError):
    """The validator of an update refused it; the exception is ``__cause__``. Nothing was recorded.

    Attributes:
        name: what was asked for.
        error_type: qualified name of the exception's type.
        error_message: its text.
    """


class UpdateFailedError(HandlerError):
    """The handler of an update raised, or was cut off by the end of its workflow.

    That is its reply: the same request gets it again. Builtin types, and those that the update
    declares, arrive as themselves.

    Attributes:
        name: what was asked for.
        error_type: qualified name of the exception's type.
        error_message: its text.
        traceback: the formatted traceback, as recorded.
    """

    traceback: str

    def __init__(
        self,
        workflow_id: str,
        *,
        name: str,
        error_type: str,
        error_message: str,
        traceback: str = "",
    ) -> None:
        """Carry over what the log says of the failure."""
        super().__init__(
            workflow_id, "update", name=name, error_type=error_type, error_message=error_message
        )
        self.traceback = traceback


class UpdateExistsError(WorkflowError):
    """The id of the request is taken by one of another name or with other arguments."""


class WorkflowParkedError(WorkflowError):
    """The workflow stands still: its log is untouched and it goes on once the cause is mended.

    Attributes:
        reason: why, one of the reasons of a dead letter.
    """

    reason: str

    def __init__(self, workflow_id: str, *, reason: str, detail: str) -> None:
        """Say why it stands still and how it goes on, unless the detail does."""
        message = f"workflow {workflow_id!r} is parked ({reason}): {detail}"
        if "restart the engine" not in detail:
            message += (
                f". Mend the cause, then engine.dead_letters.retry({workflow_id!r}) or restart "
                f"the engine"
            )
        super().__init__(workflow_id, message)
        self.reason = reason


class StepError(BeamflowError):
    """Something about one step, as workflow code sees it.

    Attributes:
        step: the step's name.
    """

    step: str

    def __init__(self, step: str, message: str) -> None:
        """Say what happened to which step."""
        super().__init__(message)
        self.step = step


class StepFailedError(StepError):
    """A step raised an exception whose type is neither a builtin nor declared by the step.

    `StepTimeoutError` and `PayloadError` arrive as themselves. No name found in a log is ever
    imported, so any other type cannot be rebuilt on replay; it reaches the workflow as this error,
    live and on replay alike. Declare it with ``@step(raises=[TheType])`` to receive it as itself.

    Attributes:
        error_type: qualified name of the type.
        error_message: its text.
        traceback: the formatted traceback, as recorded.
    """

    error_type: str
    error_message: str
    traceback: str

    def __init__(self, step: str, *, error_type: str, error_message: str, traceback: str) -> None:
        """Carry over what the log says of the exception."""
        super().__init__(step, f"step {step!r} failed with {said(error_type, error_message)}")
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback


class StepProcessError(StepError):
    """The process that ran an attempt of a step has died.

    Attributes:
        exit_code: how it ended: below 0 by that signal; None if it is not known.
    """

    exit_code: int | None

    def __init__(self, step: str, exit_code: int | None) -> None:
        """Name the step and how the process ended."""
        super().__init__(
            step,
            f"the process that ran an attempt of step {step!r} died (exit code {exit_code}); -9 is what "
            f"a system without memory leaves, -11 a crash of native code. Give the step a Retry if "
            f"another try may go well",
        )
        self.exit_code = exit_code


class StepTimeoutError(StepError, TimeoutError):
    """A step took longer than one of its limits.

    Attributes:
        limit: which one: ``"timeout"`` for one attempt, ``"deadline"`` for all of them together,
            ``"heartbeat_timeout"`` for the time between two heartbeats.
        timeout_s: that limit, in seconds.
    """

    limit: str = "timeout"
    timeout_s: float

    def __init__(
        self, step: str, timeout_s: float, limit: str = "timeout", last_error: str = ""
    ) -> None:
        """Name the step and its limit, and what the last attempt failed with, if one did."""
        message = _TOO_LONG[limit].format(step=step, s=f"{timeout_s:g}")
        last = f"; its last attempt failed with {last_error}" if last_error else ""
        super().__init__(step, f"{message}{last}")
        self.limit = limit
        self.timeout_s = timeout_s


_TOO_LONG = {
    "timeout": (
        "an attempt of step {step!r} took longer than its timeout of {s} s; raise "
        "@step(timeout=...) if that is too short, or give it a Retry"
    ),
    "deadline": (
        "step {step!r} was not done {s} s after it was asked for, all attempts and the waits "
        "between them counted; raise @step(deadline=...) if that is too short"
    ),
    "heartbeat_timeout": (
        "an attempt of step {step!r} gave no heartbeat for {s} s; call heartbeat() more often, or "
        "raise @step(heartbeat_timeout=...), or give it a Retry"
    ),
}


class TransactionError(BeamflowError):
    """The transaction of a step could not be had, or not be kept; nothing of it was written.

    Arrives in the workflow as itself.
    """


class HostLoopError(BeamflowError, RuntimeError):
    """Workflow code awaited or called something that belongs to the host's event loop.

    Replay could not repeat it. Put it into a function decorated with ``@step`` and await that. Also
    raised where the code runs on and on without waiting for anything durable, and to whoever sets an
    event, or frees a lock, that workflow code waits for and that was made outside of it. Code that
    lets it pass is parked, and compensates nothing; it goes on once the code is mended.
    """


class ReadOnlyError(BeamflowError, RuntimeError):
    """A query or a validator has asked for something: it may look at everything and change nothing.

    What it asked for does not happen.
    """


class NondeterminismError(BeamflowError):
    """On replay the code issued another command than the one in the log.

    The workflow is parked with its log untouched and goes on once the code fits again.

    Attributes:
        seq: sequence number of the event that does not fit.
        recorded: the command as the log has it.
        issued: what the code did instead.
        place: the line of the author's code which did that, ``"app.py:12, in order"``; empty where
            there is none.
        changed: whether the workflow's function is another one than at its start; None if unknown.
    """

    seq: int
    recorded: str
    issued: str
    place: str
    changed: bool | None

    def __init__(
        self,
        workflow_id: str,
        *,
        seq: int,
        recorded: str,
        issued: str,
        place: str = "",
        changed: bool | None = None,
        advice: str = "",
    ) -> None:
        """Show both sides, and what helps."""
        at = f"\n            at {place}" if place else ""
        super().__init__(
            f"workflow {workflow_id!r} does not follow its log at event {seq}:\n"
            f"  recorded: {recorded}\n"
            f"  issued:   {issued}{at}\n"
            f"{advice or _DIVERGED[changed]}. The log is untouched and nothing was run; then restart "
            f"the engine, or engine.dead_letters.retry({workflow_id!r})"
        )
        self.seq = seq
        self.recorded = recorded
        self.issued = issued
        self.place = place
        self.changed = changed


_DIVERGED = {
    None: (
        'Bring the recorded code back, or keep both ways in the code, by patched("...") or as two '
        "versions"
    ),
    True: (
        "The function has changed since this workflow was started: bring the recorded code back, or "
        'keep both ways in the code, by patched("...") or as two versions'
    ),
    False: (
        "The function is what it was when this workflow was started: look at what it calls, and "
        "with `beamflow lint` for what no replay repeats"
    ),
}


class DeadLetterError(BeamflowError, LookupError):
    """The workflow has no dead letter, or none that is open."""


class EngineStoppedError(BeamflowError):
    """The engine has not been entered, has been left, or has given up.

    When it has given up, ``__cause__`` is the error that made it.
    """


class EngineFullError(BeamflowError):
    """As many workflows are at work in the engine as may be; nothing was started.

    Attributes:
        awake_max: how many that is.
    """

    awake_max: int

    def __init__(self, awake_max: int) -> None:
        """Say how many that is."""
        super().__init__(
            f"{awake_max:,} workflows are in memory, as many as Engine(awake_max={awake_max}) allows, "
            f"and none of them rests; nothing was started. Do it later, let start() wait "
            f"(on_full='wait'), or allow more"
        )
        self.awake_max = awake_max


class StoreError(BeamflowError):
    """Something about the store."""


class ConflictError(StoreError):
    """The stream does not end where the writer expected; nothing was written.

    Attributes:
        stream: which stream.
        expected: the sequence number it was expected to end at.
    """

    stream: str
    expected: int

    def __init__(self, stream: str, expected: int) -> None:
        """Name the stream and the expectation."""
        super().__init__(
            f"stream {stream!r} does not end at {expected}; nothing was written. "
            f"Read the stream again before the next append"
        )
        self.stream = stream
        self.expected = expected


class FencedError(StoreError):
    """Another owner has taken the lease over; this one may not write any more.

    Attributes:
        epoch: the epoch that has lost.
    """

    epoch: int

    def __init__(self, epoch: int) -> None:
        """Name the epoch that has lost."""
        super().__init__(
            f"the lease of epoch {epoch} is lost: another engine owns this store by now. "
            f"Nothing was written; stop this engine"
        )
        self.epoch = epoch


class StoreLockedError(StoreError):
    """Another living process owns the store.

    Attributes:
        owner: who, such as ``"process 4711 on host-a"``.
    """

    owner: str

    def __init__(self, store: str, owner: str) -> None:
        """Name the store and its owner."""
        super().__init__(
            f"{store} is owned by {owner}; two engines must not run the same workflows. "
            f"Stop the other one, or wait for it with Engine(..., lease_wait=SECONDS)"
        )
        self.owner = owner


class StoreFormatError(StoreError, ValueError):
    """The file is no beamflow store, or of a newer schema than this version writes."""


class StoreUnavailableError(StoreError, OSError):
    """The store cannot be read or written: the disk is full, read-only, locked, or failing.

    Attributes:
        problem: what the database said.
    """

    problem: str

    def __init__(self, store: str, problem: str, advice: str) -> None:
        """Say what failed and what helps."""
        super().__init__(f"{store}: {problem}. {advice}")
        self.problem = problem


class CorruptLogError(StoreError):
    """A stored event does not match its checksum, cannot be decoded, or is missing.

    Attributes:
        stream: the damaged stream.
        seq: the sequence number of the first damaged event.
    """

    stream: str
    seq: int

    def __init__(self, stream: str, seq: int, problem: str) -> None:
        """Name the place and the damage."""
        super().__init__(
            f"event {seq} of stream {stream!r} is damaged: {problem}. Only this workflow is "
            f"parked; restore the event from a backup, then restart the engine"
        )
        self.stream = stream
        self.seq = seq
