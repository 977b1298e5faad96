"""How often a supervisor may restart, and how long it waits before: pure decisions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from supervision.errors import SpecError

__all__ = ["Backoff", "RestartIntensity", "is_count"]


class RestartIntensity:
    """A sliding window over the restarts of one supervisor (OTP supervisor(3), maximum restart intensity).

    `max_restarts` are permitted within `max_seconds`, bound included; the next one is not.
    """

    __slots__ = ("_times", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int = 3, max_seconds: float = 5.0) -> None:
        """Check and keep the limits.

        Args:
            max_restarts: Restarts permitted within the window; 0 permits none.
            max_seconds: Length of the window.

        Raises:
            SpecError: ``invalid_intensity`` or ``invalid_period``.
        """
        if not is_count(max_restarts):
            raise SpecError("invalid_intensity", max_restarts, "max_restarts is an int, 0 or more.")
        if not _is_number(max_seconds) or not 0 < max_seconds < float("inf"):
            raise SpecError(
                "invalid_period", max_seconds, "max_seconds is a finite number above 0."
            )
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._times: deque[float] = deque()

    def permit(self, now: float) -> bool:
        """Count a restart at `now` (monotonic seconds) and tell whether it may be done."""
        self._forget(now)
        self._times.append(now)
        return len(self._times) <= self.max_restarts

    def used(self, now: float) -> int:
        """Tell how many restarts of the window are used up."""
        self._forget(now)
        return len(self._times)

    def _forget(self, now: float) -> None:
        threshold = now - self.max_seconds
        while self._times and self._times[0] < threshold:
            self._times.popleft()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the n-th restart of a child (Pekko's rule).

    The delay is ``min(maximum, minimum * factor ** n) * (1 + U[0, 1) * jitter)``: the jitter comes
    after the cap and may exceed it. Each attempt still counts against the supervisor's intensity.

    Attributes:
        minimum: Seconds before the first restart.
        maximum: Seconds that the delay grows to.
        factor: How fast it grows.
        jitter: How much is added at random, as a share of the delay.
        reset_after: A child that lived for so many seconds starts again from `minimum`; by default
            the mean of minimum and maximum.
    """

    minimum: float
    maximum: float
    factor: float = 2.0
    jitter: float = 0.0
    reset_after: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SpecError: ``invalid_backoff``.
        """
        if not 0 < self.minimum <= self.maximum < float("inf"):
            raise SpecError("invalid_backoff", self, "It needs 0 < minimum <= maximum.")
        if self.factor < 1 or self.jitter < 0:
            raise SpecError("invalid_backoff", self, "It needs factor >= 1 and jitter >= 0.")
        if self.reset_after is not None and self.reset_after <= 0:
            raise SpecError("invalid_backoff", self, "It needs reset_after > 0.")

    def delay(self, restarts: int, chance: float = 0.0) -> float:
        """Give the seconds to wait before the next restart.

        Args:
            restarts: Restarts since the last reset.
            chance: A random number in [0, 1).
        """
        try:
            grown = self.minimum * self.factor**restarts
        except OverflowError:
            grown = self.maximum
        return min(self.maximum, grown) * (1 + chance * self.jitter)

    def resets(self, lived: float) -> bool:
        """Tell whether a child that lived for so many seconds starts from `minimum` again."""
        after = (self.minimum + self.maximum) / 2 if self.reset_after is None else self.reset_after
        return lived >= after

    def fits(self, restarts: int, seconds: float) -> bool:
        """Tell whether a child that fails at once can be restarted so often in that time."""
        needed, count = 0.0, 0
        while count < restarts and needed <= seconds:
            needed += self.delay(count)
            count += 1
        return needed <= seconds


def is_count(value: object) -> bool:
    """Tell whether the value is an int from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
