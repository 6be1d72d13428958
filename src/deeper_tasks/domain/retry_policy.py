"""The retry policy: whether another attempt follows a failed one, and when."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from deeper_tasks.domain.exception_groups import exceptions_in
from deeper_tasks.domain.outcome import LONGEST_DELAY, as_delay

DelayFunction = Callable[[int, BaseException], timedelta | float | None]
"""
A function of the attempt that failed and its exception that returns the delay, or None to fail the job at once.

The attempt counts from 1, and from 1 again after an operator has retried the job.
"""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """
    Exponential backoff: the delay after attempt n is `delay * factor ** (n - 1)`.

    `factor` is at least 1. The first delay is `delay`, also where that is longer than `max_delay`; growth stops at
    `max_delay`. Each delay, the first and the longest too, is then spread by `jitter` (0.1: a tenth more or less), so
    that jobs that failed together do not run again together.

    `fail_on` wins over `retry_on`; an exception in neither fails the job. Of an exception group each exception counts:
    one in `fail_on` fails the job, and each must be in `retry_on`, unless the group's own class is. `function` replaces
    the whole calculation.
    """

    delay: timedelta = timedelta(seconds=15)
    factor: float = 2.0
    max_delay: timedelta = timedelta(hours=1)
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()
    function: DelayFunction | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if delays would shrink or be negative."""
        if not self.factor >= 1:
            message = f"factor cannot be {self.factor!r}: give at least 1, by which each delay is the same"
            raise ValueError(message)
        if not 0 <= self.jitter <= 1:
            message = f"jitter cannot be {self.jitter!r}: give a number from 0 to 1, 0.1 for a tenth more or less"
            raise ValueError(message)
        if min(self.delay, self.max_delay) < timedelta(0):
            message = f"delay and max_delay cannot be negative: {self.delay!r}, {self.max_delay!r}"
            raise ValueError(message)

    if not TYPE_CHECKING:

        def __call__(self, *_: object, **__: object) -> NoReturn:
            """Refuse a call such as `task.retry(…)` of another library: here `retry` is a policy."""
            raise TypeError(
                "a RetryPolicy cannot be called; a running task asks for another attempt by "
                "'raise Retry(\"why\", after=60)', and an ended job gets one by 'manager.retry_task(task_id)'"
            )

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether another attempt may succeed after this error."""
        return not self.is_hopeless(error) and _is_all(error, self.retry_on)

    def is_hopeless(self, error: BaseException) -> bool:
        """Return whether an error, or one of the errors in a group, is in `fail_on`."""
        if isinstance(error, self.fail_on):
            return True
        return isinstance(error, BaseExceptionGroup) and any(
            isinstance(one, self.fail_on) for one in exceptions_in(error)
        )

    def delay_after(
        self,
        attempt: int,
        error: BaseException,
        *,
        random: float,
        base: timedelta | None = None,
        longest: timedelta | None = None,
    ) -> timedelta | None:
        """
        Return the delay after `attempt` (from 1) failed with `error`; None: no other attempt follows.

        `random` is in [0, 1) and chooses the delay within the jitter. `base` and `longest`, if given, replace `delay`
        and `max_delay`.
        """
        if not self.is_retryable(error):
            return None
        if self.function is not None:
            delay = self.function(attempt, error)
            return None if delay is None else as_delay(delay)
        first = self.delay if base is None else base
        cap = max(first, self.max_delay if longest is None else longest)
        seconds = min(first.total_seconds() * self._growth(attempt - 1), cap.total_seconds())
        spread = seconds * (1 + self.jitter * (2 * random - 1))
        return timedelta(seconds=min(spread, LONGEST_DELAY.total_seconds()))

    def _growth(self, exponent: int) -> float:
        try:
            return float(self.factor) ** exponent
        except OverflowError:
            return sys.float_info.max


def _is_all(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    if isinstance(error, kinds):
        return True
    return isinstance(error, BaseExceptionGroup) and all(isinstance(one, kinds) for one in exceptions_in(error))
