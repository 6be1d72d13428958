"""
The walk: the due times of an expression, found by looking at the clock of a zone step by step.

It shares nothing with `deeper_tasks.domain.cron` but the rules:

- A step is a moment. An expression whose minute or hour begins with `*` is due at each step at which the
  clock shows a time that it names.
- Another has fixed times. It is due at a step if it names a time that the clock shows now, or passed over
  since the step before, and has not shown or passed over earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


class Expression:
    """The six fields of an expression of numbers: lists of `*`, `a` and `a-b`, each with or without `/n`."""

    def __init__(self, text: str) -> None:
        parts = text.split()
        parts = parts if len(parts) == len(_BOUNDS) else ["0", *parts]
        self._sets = [_numbers(part, *bounds) for part, bounds in zip(parts, _BOUNDS, strict=True)]
        self._has_both_days = parts[3].startswith("*") or parts[5].startswith("*")
        self.is_fixed = not parts[1].startswith("*") and not parts[2].startswith("*")

    def names(self, wall: datetime) -> bool:
        """Whether it names this time."""
        seconds, minutes, hours, days, months, weekdays = self._sets
        if wall.second not in seconds or wall.minute not in minutes or wall.hour not in hours:
            return False
        is_day = wall.day in days
        is_weekday = bool({wall.isoweekday(), wall.isoweekday() % 7} & weekdays)
        return wall.month in months and ((is_day and is_weekday) if self._has_both_days else (is_day or is_weekday))


def due_times(expression: Expression, clock: Sequence[tuple[datetime, datetime]], step: timedelta) -> list[datetime]:
    """Return the moments of a walk at which an expression is due. The first step only says what was shown before."""
    return list(_due(expression, clock, step))


def _due(expression: Expression, clock: Sequence[tuple[datetime, datetime]], step: timedelta) -> Iterator[datetime]:
    latest = clock[0][1]
    for (_, _), (moment, wall) in pairwise(clock):
        if not expression.is_fixed:
            if expression.names(wall):
                yield moment
            continue
        is_due = False
        while latest < wall:
            latest += step
            is_due = is_due or expression.names(latest)
        if is_due:
            yield moment


def _numbers(part: str, lowest: int, highest: int) -> frozenset[int]:
    found: set[int] = set()
    for term in part.split(","):
        span, _, step = term.partition("/")
        low, _, high = span.partition("-")
        first = lowest if span == "*" else int(low)
        last = int(high) if high else highest if span == "*" or step else first
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)
