"""When a failed attempt is made again, and after how long. Pure: time and chance are handed in."""

from __future__ import annotations

from dataclasses import dataclass

from beamflow.errors import DefinitionError, PayloadError

__all__ = ["NO_RETRY", "Retry"]

_RANGES = (("initial", 0, 1e9), ("factor", 1, 1e9), ("max", 0, 1e9), ("jitter", 0, 1e3))


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Exponential backoff with a cap and jitter.

    The delay after attempt ``n`` (from 1) is ``min(max, initial * factor ** (n - 1))`` seconds,
    times ``1 + U * jitter`` with ``U`` uniform in [0, 1). The time of the next attempt is written
    to the log, so neither attempts nor delays start over when the process does.

    Args:
        max_attempts: how often the body may run until it fails for good, the first time included.
            A run that a kill of the process cuts off is not counted: it has not failed.
        initial: seconds before the second attempt.
        factor: by what each further delay grows.
        max: upper bound of a delay in seconds, before jitter.
        jitter: how much of the delay may be added at random, 0 for none.
        retry_on: exception types that are worth another attempt. A `PayloadError` never is.
        give_up_on: exception types that are not, though ``retry_on`` has them.

    Raises:
        DefinitionError: a value is out of its range.
    """

    max_attempts: int = 3
    initial: float = 1.0
    factor: float = 2.0
    max: float = 60.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense, with the value."""
        if not _is_count(self.max_attempts):
            _refuse("max_attempts", self.max_attempts, "an int, at least 1")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= most:
                _refuse(name, value, f"a number from {least} to {most:g}")
        for name in ("retry_on", "give_up_on"):
            types = getattr(self, name)
            if not isinstance(types, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in types
            ):
                _refuse(name, types, "a tuple of exception types")

    def delay_s(self, error: BaseException, *, attempt: int, draw: float) -> float | None:
        """Return the seconds until the next attempt, or None when there is none.

        Args:
            error: what attempt number ``attempt`` raised.
            attempt: which attempt it was, from 1.
            draw: a random number in [0, 1).
        """
        return self.delay_after(attempt, draw) if self.allows(error) else None

    def delay_after(self, attempt: int, draw: float) -> float | None:
        """Return the seconds until the next attempt, whatever this one raised; None after the last.

        Args:
            attempt: which attempt it was, from 1.
            draw: a random number in [0, 1).
        """
        if attempt >= self.max_attempts:
            return None
        try:
            delay = min(self.max, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.max
        return delay * (1 + draw * self.jitter)

    def allows(self, error: BaseException) -> bool:
        """Tell whether an error is worth another attempt."""
        hopeless: tuple[type[BaseException], ...] = (PayloadError, *self.give_up_on)
        return isinstance(error, self.retry_on) and not isinstance(error, hopeless)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _refuse(name: str, value: object, wanted: str) -> None:
    message = f"Retry({name}={value!r}) is refused: it must be {wanted}"
    raise DefinitionError(message)


NO_RETRY = Retry(max_attempts=1)
"""One attempt: what a step without ``retry`` has."""
