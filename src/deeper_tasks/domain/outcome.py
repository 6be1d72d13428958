"""Outcomes: how a handler says that its attempt ends otherwise than by a result or an error."""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import Any

from deeper_tasks.domain.durations import readable


class Outcome(Exception):  # noqa: N818 - control flow that a handler raises or returns, not an error
    """What a handler may raise, or return, to decide the end of its attempt itself."""


class Retry(Outcome):
    """
    End this attempt as a failure and try again, after `after` instead of the policy's delay.

    `after` is a `timedelta` or seconds, more than 36,500 days count as that many.
    A last attempt still discards the job.
    """

    def __init__(self, reason: str = "retry requested", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else as_delay(after)


class Snooze(Outcome):
    """
    Put the job off for `delay`; it does not count as an attempt.

    `delay` is a `timedelta` or seconds, more than 36,500 days count as that many.
    """

    def __init__(self, delay: timedelta | float) -> None:
        checked = as_delay(delay)
        super().__init__(f"snoozed for {readable(checked)}")
        self.delay = checked


class Fail(Outcome):
    """End the job as `failed`: no retry can mend this."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancel(Outcome):
    """End the job as `cancelled`: it is no longer wanted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Done(Outcome):
    """
    End the job as `completed`, with `value` as its result, although the handler has seen that it is to stop.

    Without a stop it is the same as returning `value`. A handler that saw its
    timeout and had finished all the same may say so; one that runs past its
    timeout without having looked fails by it, unless its task has `late_result="accept"`.
    """

    def __init__(self, value: Any = None) -> None:
        super().__init__("done")
        self.value = value


class Stopped(Exception):  # noqa: N818 - control flow, not an error
    """
    The attempt is to stop, and its handler asked: raised by `current_job().check()`.

    It ends the attempt as the stop does: cancelled, failed by its timeout, or given back. Catch it to
    tidy up, and raise it again.
    """


LONGEST_DELAY = timedelta(days=36_500)
"""A moment so far ahead can be stored still."""


def as_delay(value: timedelta | float) -> timedelta:
    """
    Return a delay given as a `timedelta` or in seconds; a longer one than 36,500 days counts as that.

    Raises:
        ValueError: it is negative, or no finite number of seconds.
    """
    delay = value if isinstance(value, timedelta) else _of_seconds(value)
    if delay < timedelta(0):
        message = f"a delay cannot be negative: {value!r}"
        raise ValueError(message)
    return min(delay, LONGEST_DELAY)


def _of_seconds(value: float) -> timedelta:
    if not isinstance(value, int | float | str | bytes):
        # Of numpy, or a Fraction: no timedelta is made of those.
        value = float(value)
    try:
        if isfinite(value):
            return timedelta(seconds=value)
    except OverflowError:
        return timedelta.max if value > 0 else timedelta.min
    message = f"a delay cannot be {value!r} seconds; give a number of them"
    raise ValueError(message)
