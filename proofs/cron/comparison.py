"""The comparison: around one change of a clock, what `Recurrence` says is due and what the walk has found."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from msgspec import Struct

from deeper_tasks.domain.cron import parse_recurrence
from proofs.cron.changes import Change
from proofs.cron.walk import Expression, due_times

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)
_EACH = 3
_QUESTIONS = 20
_CLOSE = timedelta(minutes=95)
_WIDE = timedelta(hours=40)


class Finding(Struct, kw_only=True):
    """The result for some changes: how many there were, expressions and due times compared, and what was wrong."""

    changes: int = 0
    expressions: int = 0
    due_times: int = 0
    faults: list[str] = []

    def add(self, other: Finding) -> None:
        """Take in what came of others."""
        self.changes += other.changes
        self.expressions += other.expressions
        self.due_times += other.due_times
        self.faults += other.faults


def compare(change: Change, *, seed: str) -> Finding:
    """Compare some random expressions, with seconds close to the change, and without in the days around it."""
    random = Random(f"{seed} {change.zone} {change.moment}")
    finding = Finding(changes=1)
    _compare(change, random, finding, around=_CLOSE, step=_SECOND)
    if not (change.moment.second or change.shift % _MINUTE):
        _compare(change, random, finding, around=_WIDE, step=_MINUTE)
    return finding


def _compare(change: Change, random: Random, finding: Finding, *, around: timedelta, step: timedelta) -> None:
    zone = ZoneInfo(change.zone)
    start, end = change.moment - around, change.moment + around + abs(change.shift)
    moments = [start + number * step for number in range((end - start) // step)]
    clock = [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in moments]
    for _ in range(_EACH):
        text = _expression(random, change, has_seconds=step == _SECOND)
        expected = due_times(Expression(text), clock, step)
        finding.expressions += 1
        finding.due_times += len(expected)
        finding.faults += (
            f"{text!r} in {change.zone}, {fault}" for fault in _faults(text, zone, expected, moments, random)
        )


def _faults(
    text: str, zone: ZoneInfo, expected: list[datetime], moments: list[datetime], random: Random
) -> Iterator[str]:
    recurrence = parse_recurrence(text, zone.key)
    start, last = moments[0], moments[-1]
    found = []
    due = recurrence.next_after(start)
    while due is not None and due <= last:
        found.append(due)
        due = recurrence.next_after(due)
    for wrong in sorted({*found} ^ {*expected}):
        yield f"{wrong}: due {'by Recurrence' if wrong in found else 'by the walk'} alone"
    for _ in range(_QUESTIONS):
        moment = start + random.random() * (last - start)
        answer = recurrence.next_after(moment)
        index = bisect_right(expected, moment)
        right = expected[index] if index < len(expected) else None
        if (answer if answer is not None and answer <= last else None) != right:
            yield f"after {moment}: {answer}, not {right}"


def _expression(random: Random, change: Change, *, has_seconds: bool) -> str:
    """Return an expression of which many times lie near the change."""
    wall = change.moment.astimezone(ZoneInfo(change.zone))
    hours = sorted({(wall.hour + random.randint(-2, 2)) % 24 for _ in range(random.randint(1, 3))})
    minutes = sorted({random.choice((0, 15, 30, 45, 59, random.randrange(60))) for _ in range(random.randint(1, 3))})
    hour = random.choice((_listed(hours), _listed(hours), f"{hours[0]}-{hours[-1]}", "*", "*/2", "*/3", "0-23/2"))
    minute = random.choice((_listed(minutes), _listed(minutes), "*/10", "*/25", "5-59/20", "0-59"))
    day = random.choice(("*", "*", "*/2", f"{wall.day}", f"{max(1, wall.day - 1)}-{min(wall.day + 1, 31)}"))
    weekday = random.choice(("*", "*", "*", "0-4", "*/2", f"{wall.isoweekday()}"))
    fields = f"{minute} {hour} {day} * {weekday}"
    return f"{random.choice(('0', '30', '*/15', '7,42'))} {fields}" if has_seconds else fields


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
