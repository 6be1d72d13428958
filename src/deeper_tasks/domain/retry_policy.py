"""The retry policy: whether a failed attempt is followed by another, and when."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta

from msgspec import Struct

from deeper_tasks.domain.outcome import as_delay

DelayFunction = Callable[[int, BaseException], timedelta | float | None]
"""Given the attempt that failed (from 1) and its exception: the delay, or None to fail at once."""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """
    Exponential backoff: attempt n is followed after `delay * factor ** (n - 1)`.

    The delay is at most `max_delay`, then spread by `jitter` (0.1: a tenth more
    or less) so that jobs that failed together do not come back together.
    `fail_on` wins over `retry_on`; an exception in neither fails the job.
    `function` takes the place of the whole calculation.
    """

    delay: timedelta = timedelta(seconds=15)
    factor: float = 2.0
    max_delay: timedelta = timedelta(hours=1)
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()
    function: DelayFunction | None = None

    def is_retryable(self, error: BaseException) -> bool:
        """Whether this error may pass when the job is tried again."""
        return isinstance(error, self.retry_on) and not isinstance(error, self.fail_on)

    def delay_after(
        self, attempt: int, error: BaseException, *, random: float, base: timedelta | None = None
    ) -> timedelta | None:
        """
        Return how long to wait after `attempt` (from 1) failed with `error`; None: do not retry.

        `random` lies in [0, 1) and places the delay within the jitter; `base`,
        where given, is the job's own `retry_delay_seconds`.
        """
        if not self.is_retryable(error):
            return None
        if self.function is not None:
            delay = self.function(attempt, error)
            return None if delay is None else as_delay(delay)
        first = self.delay if base is None else base
        seconds = min(first.total_seconds() * self._growth(attempt - 1), self.max_delay.total_seconds())
        return timedelta(seconds=seconds * (1 + self.jitter * (2 * random - 1)))

    def _growth(self, exponent: int) -> float:
        try:
            return float(self.factor) ** exponent
        except OverflowError:
            return sys.float_info.max
