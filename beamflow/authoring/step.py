"""Steps: the functions whose results are recorded, so that they never run again once they have."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

import anyio.to_thread

from beamflow.authoring.idempotency import checked_key
from beamflow.authoring.namespace import local_names
from beamflow.authoring.runtime import current_runtime
from beamflow.authoring.signature import Signature
from beamflow.errors import DefinitionError
from beamflow.model.ids import checked_name
from beamflow.policies.retry import NO_RETRY, Retry

__all__ = ["Compensation", "Place", "Step", "exception_name", "step"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")

Place = Literal["loop", "thread", "process"]
"""Where a body runs: ``async def`` on the host's event loop, ``def`` in a thread or a process."""

_TIMEOUT_S_MAX = 1e9
_COMPENSATION_TIMEOUT_S = 60.0
_COMPENSATION_RETRY = Retry(max_attempts=5, initial=0.5, factor=2.0, max=30.0)


class _Durable(Generic[P, R_co]):
    """What steps and compensations share: a function, its policy, its limits, its place.

    Attributes:
        function: the author's function.
        name: its name in the log.
        retry: what happens when an attempt fails.
        timeout: seconds that one attempt may take.
        deadline: seconds that all attempts may take, from when the code asked for the step.
        heartbeat_timeout: seconds that an attempt may go without a heartbeat.
        place: where the body runs.
    """

    deadline: float | None = None
    heartbeat_timeout: float | None = None

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        kind: str,
        name: str | None,
        retry: Retry,
        timeout: float | None,
        namespace: dict[str, Any] | None,
    ) -> None:
        _check_function(function, kind)
        self.name = checked_name(function.__name__ if name is None else name, kind)
        where = f"{kind} {self.name!r}"
        if not _is_a(Retry, retry):
            message = f"{where}: retry={retry!r} is refused: it must be a Retry(...)"
            raise DefinitionError(message)
        self.function = function
        self.retry = retry
        self.timeout = _checked_duration(where, "timeout", timeout)
        self.place: Place = "loop" if inspect.iscoroutinefunction(function) else "thread"
        self._where = where
        self._namespace = namespace

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether the body just runs on the loop, for as long as it takes."""
        limits = (self.timeout, self.deadline, self.heartbeat_timeout)
        return self.place == "loop" and all(limit is None for limit in limits)

    def run(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R_co]:
        """Run the function here and now, without an engine: on this loop, or in a worker thread.

        The thread comes from the limiter of anyio; its count bounds how many run at once.
        """
        if self.place == "loop":
            return cast("Coroutine[Any, Any, R_co]", self.function(*args, **kwargs))
        call = functools.partial(self.function, *args, **kwargs)
        return anyio.to_thread.run_sync(call, abandon_on_cancel=True)


class Compensation(_Durable[P, R_co]):
    """What undoes a completed step; called with the step's result and its arguments."""


class Step(_Durable[P, R_co]):
    """A step, made by ``@step``.

    Called in a workflow it is durable: its result is recorded before the workflow goes on and the
    body never runs again after that. Until then it runs at least once. Called anywhere else (a unit
    test, another step) it just runs. Either way it is awaited.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        name: str | None,
        retry: Retry | None,
        timeout: float | None,
        deadline: float | None,
        heartbeat_timeout: float | None,
        run_in: Literal["thread", "process"] | None,
        raises: Sequence[type[Exception]],
        namespace: dict[str, Any] | None,
    ) -> None:
        """Declare the step; annotations are resolved at the first call."""
        super().__init__(
            function,
            kind="step",
            name=name,
            retry=NO_RETRY if retry is None else retry,
            timeout=timeout,
            namespace=namespace,
        )
        functools.update_wrapper(cast("Callable[P, Any]", self), function)
        self.deadline = _checked_duration(self._where, "deadline", deadline)
        self.heartbeat_timeout = _checked_duration(
            self._where, "heartbeat_timeout", heartbeat_timeout
        )
        if run_in is not None:
            self.place = _checked_place(self._where, run_in, function)
        self.compensated_by: Compensation[..., Any] | None = None
        if not _is_a(Sequence, raises) or not all(is_exception(kind) for kind in raises):
            message = f"step {self.name!r}: raises={raises!r} must be a list of exception types"
            raise DefinitionError(message)
        self.raises = {exception_name(kind): kind for kind in raises}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R_co]:
        """Run the step: durably inside a workflow, plainly anywhere else."""
        runtime = current_runtime()
        if runtime is not None:
            return runtime.call_step(self, args, kwargs)
        return self.run(*args, **kwargs)

    def idempotent(self, key: str, *, ttl: float) -> Callable[P, Coroutine[object, None, R_co]]:
        """Share the result with every workflow of the engine: ``charge.idempotent(key, ttl=60)(order)``.

        The first call of this step with the key runs the body; while its result is kept, every
        other one in any workflow returns that result and runs nothing, whatever its arguments.
        While one is at it, the others wait; when it fails for good, or its workflow ends or stands
        still before it has completed, the next one takes over. All of them hand the body the same
        ``current_step().idempotency_key``, made from the name of the step and the key. Outside a
        workflow the step just runs.

        Args:
            key: names the effect, as ``f"charge:{order.id}"``; 1 to 512 printable characters.
            ttl: seconds for which the result is kept once it is recorded, by the engine's clock. An
                outside service may remember the idempotency key for longer: put the period into the
                key, then.

        Raises:
            DefinitionError: the key or the time makes no sense, or the step has a compensation:
                what many share, none of them can undo.
        """
        shared = checked_key(self.name, key, ttl)
        if self.compensated_by is not None:
            message = (
                f"step {self.name!r} has a compensation and cannot be shared by a key: one workflow "
                f"would undo what the others rely on"
            )
            raise DefinitionError(message)

        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R_co]:
            runtime = current_runtime()
            if runtime is not None:
                return runtime.call_step(self, args, kwargs, shared)
            return self.run(*args, **kwargs)

        return call

    @functools.cached_property
    def signature(self) -> Signature:
        """The payloads of the step; raises `DefinitionError` at the first use if they are wrong."""
        return Signature(self.function, self._where, self._namespace)

    # Only the result is typed: `Concatenate[R_co, P]` would insist on the names and defaults of the
    # step's parameters as well, and a compensation that needs no plan may call it `_plan`.
    @overload
    def compensation(
        self, function: Callable[Concatenate[R_co, Q], C], /
    ) -> Callable[Concatenate[R_co, Q], C]: ...

    @overload
    def compensation(
        self, /, *, retry: Retry = ..., timeout: float | None = ...
    ) -> Callable[[Callable[Concatenate[R_co, Q], C]], Callable[Concatenate[R_co, Q], C]]: ...

    def compensation(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        retry: Retry = _COMPENSATION_RETRY,
        timeout: float | None = _COMPENSATION_TIMEOUT_S,
    ) -> Any:
        """Declare what undoes this step: ``@reserve.compensation``.

        The function stays as it is. If the workflow fails after the step has completed, it is
        called with the step's result followed by the step's arguments, at least once, in reverse
        order of completion.

        Args:
            function: ``async def`` or ``def``.
            retry: its own policy; an undo should be more stubborn than what it undoes.
            timeout: seconds that one attempt may take, a minute by default, so that a workflow that
                is cancelled comes to its end; None for as long as it takes.

        Raises:
            DefinitionError: the step has a compensation already, or the function does not take the
                step's result and parameters.
        """

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            if self.compensated_by is not None:
                message = f"step {self.name!r} has a compensation already"
                raise DefinitionError(message)
            compensation: Compensation[..., Any] = Compensation(
                function,
                kind="compensation",
                name=None,
                retry=retry,
                timeout=timeout,
                namespace=None,
            )
            _check_fit(function, self.function, compensation.name)
            self.compensated_by = compensation
            return function

        return declare if function is None else declare(function)


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *,
    name: str | None = ...,
    retry: Retry | None = ...,
    timeout: float | None = ...,
    deadline: float | None = ...,
    heartbeat_timeout: float | None = ...,
    run_in: Literal["thread", "process"] | None = ...,
    raises: Sequence[type[Exception]] = ...,
) -> _StepDecorator: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    heartbeat_timeout: float | None = None,
    run_in: Literal["thread", "process"] | None = None,
    raises: Sequence[type[Exception]] = (),
) -> Any:
    """Make a function a step: ``@step`` or ``@step(retry=Retry(max_attempts=5), timeout=10)``.

    Arguments and result are converted by their annotations, through JSON, live as on replay: what
    would not survive a restart fails at once. A plain ``def`` runs in a worker thread.

    Args:
        function: the function, when the decorator is used without parentheses.
        name: the name in the log; the function's own by default. Changing it changes the workflow.
        retry: what happens when an attempt fails; without it the first failure is final.
        timeout: seconds that one attempt may take, by the engine's clock; then it is cancelled and
            has failed with `StepTimeoutError`, unless it still comes to a result or an error of its
            own. A body that has not ended 5 seconds later is abandoned: the attempt has failed, the
            body runs on alone, and whatever it comes to is ignored. A thread cannot be cancelled,
            so a plain ``def`` is abandoned at once; it learns so at its next `heartbeat`. An
            abandoned body may run beside the next attempt: make its effect happen once by the
            idempotency key. Waiting for a free thread is not counted.
        deadline: seconds that the step may take in all, from when the workflow asked for it: every
            attempt, the waits between them, and whatever time the process was down. An attempt
            under way then is cut off like one that has timed out; none is begun that would begin
            later. The step has failed for good with a `StepTimeoutError` whose ``limit`` says
            ``"deadline"``.
        heartbeat_timeout: seconds that an attempt may go without calling `heartbeat`; then it is
            cut off like one that has timed out, and retried as ``retry`` says.
        run_in: where a plain ``def`` runs: in a ``"thread"`` (the default), or in a ``"process"`` of the
            engine's, which is killed when the attempt is cut off, so that code which computes for
            long really ends. Arguments and result go over as JSON. The function must be importable:
            one of a module, not of a function.
        raises: exception types that reach the workflow as themselves, a subtype as the one it is
            listed by. Builtin types, `StepTimeoutError` and `PayloadError` do so always; any other
            arrives as `StepFailedError`. Arguments and attributes come along as far as JSON can
            hold them.

    Raises:
        DefinitionError: the declaration makes no sense.
    """
    namespace = local_names(sys._getframe(1))  # noqa: SLF001 - to resolve annotations of local types

    def declare(function: Callable[..., Any]) -> Step[..., Any]:
        return Step(
            function,
            name=name,
            retry=retry,
            timeout=timeout,
            deadline=deadline,
            heartbeat_timeout=heartbeat_timeout,
            run_in=run_in,
            raises=raises,
            namespace=namespace,
        )

    return declare if function is None else declare(function)


class _StepDecorator:
    """The type of ``step(...)`` with options; never instantiated."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind)


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= _TIMEOUT_S_MAX


def _checked_duration(where: str, option: str, value: float | None) -> float | None:
    if value is None or _is_duration(value):
        return value
    message = (
        f"{where}: {option}={value!r} is refused: it must be a number of seconds above 0, "
        f"at most {_TIMEOUT_S_MAX:g}, or None for no limit"
    )
    raise DefinitionError(message)


def _checked_place(where: str, run_in: object, function: Callable[..., Any]) -> Place:
    if run_in not in {"thread", "process"}:
        message = f"{where}: run_in={run_in!r} is refused: it must be 'thread' or 'process'"
        raise DefinitionError(message)
    if inspect.iscoroutinefunction(function):
        message = f"{where}: run_in={run_in!r} is for a plain `def`; an `async def` runs on the event loop"
        raise DefinitionError(message)
    if run_in == "process" and "<" in function.__qualname__:
        message = (
            f"{where}: run_in='process' needs a function that another process can import, and "
            f"{function.__qualname__} is not: define it in a module"
        )
        raise DefinitionError(message)
    return "process" if run_in == "process" else "thread"


def is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _check_function(function: Any, kind: str) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"a {kind} returns one value; {function!r} is a generator: return a list"
        raise DefinitionError(message)
    if not inspect.isroutine(function):
        message = f"a {kind} must be a function, `async def` or `def`, not {function!r}"
        raise DefinitionError(message)


def _check_fit(compensation: Callable[..., Any], function: Callable[..., Any], name: str) -> None:
    """See to it that the compensation can be called with the step's result and arguments."""
    parameters = inspect.signature(function).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    try:
        inspect.signature(compensation).bind(None, *positional, **dict.fromkeys(keywords))
    except TypeError as error:
        wanted = ", ".join(["the step's result", *positional, *(f"{key}=" for key in keywords)])
        message = (
            f"compensation {name!r} is called with ({wanted}), which it does not take: {error}"
        )
        raise DefinitionError(message) from error


def exception_name(kind: type[BaseException]) -> str:
    """Return the name an exception type has in the log."""
    module = kind.__module__
    if module == "__mp_main__":  # what the main module is called in a worker process
        module = "__main__"
    return f"{module}.{kind.__qualname__}".encode("utf-8", "replace").decode()
