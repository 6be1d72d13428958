"""Recurrence: the due times of a recurring task, by a cron expression in a time zone or by a fixed interval."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSimError
from msgspec import Struct

from deeper_tasks.domain.cron_fields import CronFields
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.errors import InvalidOptionError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@minutely": "* * * * *",
}

_LONGEST_EXPRESSION = 256
_LONGEST_INTERVAL = timedelta(days=36_500)
_TOO_LONG = int(_LONGEST_INTERVAL.total_seconds()) + 1
_INTERVAL = re.compile(r"@every\s+((?:[0-9]{1,12}[smhd])+)")
_INTERVAL_PART = re.compile(r"([0-9]+)([smhd])")
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBERS_OF_FIELDS = {5, 6}
_ANY_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


class Recurrence(Struct, frozen=True, kw_only=True):
    """
    An expression in a time zone. `parse_recurrence` makes one and checks it.

    Cron fields, five or six, are read in the zone by the rules of `CronFields`. An `@every` interval counts from one
    due time to the next.
    """

    expression: str
    timezone: str = "UTC"

    @property
    def fault(self) -> str | None:
        """The reason why it can never fire, if a store holds one that this machine has not checked; else None."""
        return _reading(self.expression, self.timezone).fault

    def next_after(self, moment: datetime) -> datetime | None:
        """
        Return the first due time after `moment`, in UTC; None when the calendar ends before it.

        Raises:
            InvalidOptionError: the recurrence has a fault.
        """
        reading = _reading(self.expression, self.timezone)
        if reading.fault is not None:
            raise InvalidOptionError(reading.fault)
        return reading.next_after(moment)

    def anchored(self, moment: datetime, run: datetime) -> datetime:
        """Return a moment at or before `moment` from which `next_after` keeps the rhythm of `run`."""
        interval = _interval(self.expression)
        if interval is None:
            return moment
        return run + (moment - run) // interval * interval

    def next_runs(self, count: int, *, after: datetime) -> list[datetime]:
        """Return the next `count` due times after `after`, in UTC, or fewer when the calendar ends."""
        runs: list[datetime] = []
        following = self.next_after(after) if count > 0 else None
        while following is not None:
            runs.append(following)
            following = self.next_after(following) if len(runs) < count else None
        return runs


def parse_recurrence(expression: str, timezone: str = "UTC") -> Recurrence:
    """
    Check an expression and a zone.

    An expression has five fields (minute hour day month weekday), or six with
    seconds in front, or is an alias (`@daily`, `@hourly` …) or an interval
    (`@every 30s`, `@every 1h30m`; at least one second, at most 36,500 days).

    Raises:
        InvalidOptionError: the expression or the zone cannot be used, or it is never due.
    """
    for value in (expression, timezone):
        if not isinstance(value, str):
            raise InvalidOptionError(f"a cron expression and a time zone are texts, not {value!r}")
    if len(expression) > _LONGEST_EXPRESSION:
        message = f"a cron expression has at most {_LONGEST_EXPRESSION} characters, this one has {len(expression)}"
        raise InvalidOptionError(message)
    fault = _reading(expression, timezone).fault
    if fault is not None:
        raise InvalidOptionError(fault)
    return Recurrence(expression=" ".join(expression.split()), timezone=timezone)


class _Reading(Struct, frozen=True, kw_only=True):
    """An expression after reading: an interval, or fields in a zone, or a fault."""

    fault: str | None = None
    interval: timedelta | None = None
    fields: CronFields | None = None
    zone: ZoneInfo | None = None

    def next_after(self, moment: datetime) -> datetime | None:
        if self.interval is not None:
            return (moment + self.interval).astimezone(UTC) if moment < END_OF_TIME - self.interval else None
        assert self.fields is not None
        assert self.zone is not None
        return self.fields.next_after(moment, self.zone)


@lru_cache(maxsize=1024)
def _reading(expression: str, timezone: str) -> _Reading:
    """Read an expression, and remember it: to find out that one is never due takes some milliseconds."""
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        return _Reading(fault=f"{timezone!r} is no time zone; use an IANA name such as 'Europe/Berlin' or 'UTC'")
    normal = " ".join(expression.split())
    interval = _interval(normal)
    if interval is not None:
        is_too_long = interval > _LONGEST_INTERVAL
        return _Reading(
            interval=interval,
            fault=f"{expression!r} is longer than {_LONGEST_INTERVAL.days:,} days" if is_too_long else None,
        )
    if normal.startswith("@") and normal.lower() not in ALIASES:
        return _Reading(fault=_unknown_word(expression))
    fields = ALIASES.get(normal.lower(), normal)
    try:
        reading = _Reading(fields=CronFields(fields), zone=zone)
    except CronSimError as error:
        return _Reading(fault=_never_due(expression) if _is_of_no_month(fields) else _unreadable(expression, error))
    return reading if reading.next_after(_ANY_MOMENT) is not None else _Reading(fault=_never_due(expression))


def _unreadable(expression: str, error: CronSimError) -> str:
    return (
        f"{expression!r} is no cron expression: {str(error).lower()}; "
        "write for example '0 3 * * *' (every day at 03:00), '@daily' or '@every 30s'"
    )


def _unknown_word(expression: str) -> str:
    if expression.lower().lstrip().startswith("@every"):
        return (
            f"{expression!r} is no cron expression, for it is no interval: after '@every' come whole numbers, "
            "each with its unit (s, m, h or d), together at least one second, as in '@every 90s' or '@every 1h30m'"
        )
    aliases = ", ".join(ALIASES)
    return (
        f"{expression!r} is no cron expression, for it is no alias: there are {aliases}, and '@every' with an interval"
    )


def _never_due(expression: str) -> str:
    return (
        f"cron expression {expression!r} is never due: no day has this date and weekday, or the zone skips its time; "
        "'0 3 1 * *', for example, is due on the first of each month at 03:00"
    )


def _is_of_no_month(fields: str) -> bool:
    """Return whether the only fault of the fields is a day that none of their months has."""
    parts = fields.split()
    if len(parts) not in _NUMBERS_OF_FIELDS:
        return False
    *times, day, month, weekday = parts
    try:
        CronFields(" ".join((*times, day, "*", weekday)))
        CronFields(" ".join((*times, "*", month, weekday)))
    except CronSimError:
        return False
    return True


@lru_cache(maxsize=256)
def _interval(expression: str) -> timedelta | None:
    match = _INTERVAL.fullmatch(expression)
    if match is None:
        return None
    seconds = sum(int(count) * _UNIT[unit] for count, unit in _INTERVAL_PART.findall(match[1]))
    # Capped, because a timedelta cannot hold any number of seconds. It is refused as too long either way.
    return timedelta(seconds=min(seconds, _TOO_LONG)) if seconds else None
