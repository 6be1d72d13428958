"""Outcomes: the ways in which a handler ends its attempt other than by a result or an error."""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import Any

from deeper_tasks.domain.durations import readable


class Outcome(Exception):  # noqa: N818 - control flow that a handler raises or returns, not an error
    """The base of all that a handler may raise or return to decide how its attempt ends."""


class Retry(Outcome):
    """
    An outcome: the attempt fails, and another follows after `after` instead of the policy's delay.

    `after` is a `timedelta` or seconds; more than 36,500 days count as 36,500. If this is the last attempt, the job is
    discarded.
    """

    def __init__(self, reason: str = "retry requested", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else as_delay(after)


class Snooze(Outcome):
    """
    An outcome: the job runs again after `delay`, and this attempt does not count.

    `delay` is a `timedelta` or seconds; more than 36,500 days count as 36,500.
    """

    def __init__(self, delay: timedelta | float) -> None:
        checked = as_delay(delay)
        super().__init__(f"snoozed for {readable(checked)}")
        self.delay = checked


class Fail(Outcome):
    """An outcome: the job ends as `failed`, because no retry can mend the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancel(Outcome):
    """An outcome: the job ends as `cancelled`, because it is no longer wanted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Done(Outcome):
    """
    An outcome: the job ends as `completed`, with `value` as its result, although the handler was asked to stop.

    Without a request to stop it is the same as returning `value`. A handler that noticed its timeout but had finished
    its work raises it. A handler that runs past its timeout without noticing fails, unless its task has
    `late_result="accept"`.
    """

    def __init__(self, value: Any = None) -> None:
        super().__init__("done")
        self.value = value


class Stopped(Exception):  # noqa: N818 - control flow, not an error
    """
    A request to stop, raised by `current_job().check()`.

    The attempt ends as the request says: cancelled, failed by its timeout, or released. Catch it to tidy up, and raise
    it again.
    """


LONGEST_DELAY = timedelta(days=36_500)
"""The longest delay: every store can keep a moment so far ahead."""


def as_delay(value: timedelta | float) -> timedelta:
    """
    Return a delay given as a `timedelta` or in seconds; more than 36,500 days count as 36,500.

    Raises:
        ValueError: the delay is negative, or is no finite number of seconds.
    """
    delay = value if isinstance(value, timedelta) else _of_seconds(value)
    if delay < timedelta(0):
        message = f"a delay cannot be negative: {value!r}"
        raise ValueError(message)
    return min(delay, LONGEST_DELAY)


def _of_seconds(value: float) -> timedelta:
    if not isinstance(value, int | float | str | bytes):
        # A number of numpy, or a Fraction: timedelta takes neither.
        value = float(value)
    try:
        if isfinite(value):
            return timedelta(seconds=value)
    except OverflowError:
        return timedelta.max if value > 0 else timedelta.min
    message = f"a delay cannot be {value!r} seconds; give a number of them"
    raise ValueError(message)
