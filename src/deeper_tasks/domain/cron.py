"""Recurrence: when a recurring task is due, by a cron expression in a time zone or by a fixed interval."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import Struct

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
_LONGEST_INTERVAL = timedelta(days=36_525)
_INTERVAL = re.compile(r"@every\s+((?:\d{1,6}[smhd])+)")
_INTERVAL_PART = re.compile(r"(\d+)([smhd])")
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ANY_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


class Recurrence(Struct, frozen=True, kw_only=True):
    """
    A validated expression in a time zone. Make one with `parse_recurrence`.

    Cron fields are read in the zone: a time that a change to summer time skips
    is due at the change, one that happens twice is due once. An `@every`
    interval counts from one due time to the next.
    """

    expression: str
    timezone: str = "UTC"

    def next_after(self, moment: datetime) -> datetime:
        """Return the first due time after `moment`, in UTC. Source: Debian cron's rules, by cronsim."""
        interval = _interval(self.expression)
        if interval is not None:
            return (moment + interval).astimezone(UTC)
        local = moment.astimezone(ZoneInfo(self.timezone))
        # Asked within the second of two equal hours, cronsim begins with the run of the first.
        runs = (run.astimezone(UTC) for run in CronSim(_fields(self.expression), local))
        return next(run for run in runs if run > moment)

    def anchored(self, moment: datetime, run: datetime) -> datetime:
        """Return a moment at or before `moment` from which `next_after` keeps the rhythm of `run`."""
        interval = _interval(self.expression)
        if interval is None:
            return moment
        return run + (moment - run) // interval * interval

    def next_runs(self, count: int, *, after: datetime) -> list[datetime]:
        """Return the next `count` due times after `after`, in UTC."""
        runs: list[datetime] = []
        while len(runs) < count:
            runs.append(self.next_after(runs[-1] if runs else after))
        return runs


def parse_recurrence(expression: str, timezone: str = "UTC") -> Recurrence:
    """
    Check an expression and a zone.

    An expression has five fields (minute hour day month weekday), or six with
    seconds in front, or is an alias (`@daily`, `@hourly` …) or an interval
    (`@every 30s`, `@every 1h30m`; at least one second).

    Raises:
        InvalidOptionError: the expression or the zone cannot be used.
    """
    for value in (expression, timezone):
        if not isinstance(value, str):
            raise InvalidOptionError(f"a cron expression and a time zone are texts, not {value!r}")
    _check_zone(timezone)
    if len(expression) > _LONGEST_EXPRESSION:
        message = f"a cron expression has at most {_LONGEST_EXPRESSION} characters, this one has {len(expression)}"
        raise InvalidOptionError(message)
    normal = " ".join(expression.split())
    interval = _interval(normal)
    if interval is not None and interval > _LONGEST_INTERVAL:
        raise InvalidOptionError(f"{expression!r} is longer than a hundred years")
    if interval is None:
        try:
            CronSim(_fields(normal), _ANY_MOMENT)
        except CronSimError as error:
            message = (
                f"{expression!r} is no cron expression: {str(error).lower()}; "
                "write for example '0 3 * * *' (every day at 03:00), '@daily' or '@every 30s'"
            )
            raise InvalidOptionError(message) from error
    return Recurrence(expression=normal, timezone=timezone)


def _fields(expression: str) -> str:
    return ALIASES.get(expression.lower(), expression)


@lru_cache(maxsize=256)
def _interval(expression: str) -> timedelta | None:
    match = _INTERVAL.fullmatch(expression)
    if match is None:
        return None
    seconds = sum(int(count) * _UNIT[unit] for count, unit in _INTERVAL_PART.findall(match[1]))
    return timedelta(seconds=seconds) if seconds else None


@lru_cache(maxsize=256)
def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"{name!r} is no time zone; use an IANA name such as 'Europe/Berlin' or 'UTC'"
        raise InvalidOptionError(message) from error
