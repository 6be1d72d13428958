"""Cron fields: the five or six fields of an expression, and the moments at which they are due in a zone."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.wall_clock import first_shown, latest_shown, stretches

_ANY_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_SIZES = {"second": 60, "minute": 60, "hour": 24, "day": 31, "month": 12, "weekday": 7}
"""The number of values of each field, in the order of the fields."""
_PATIENCE = timedelta(days=41 * 366)
"""Any date that comes at all comes within 40 years: the longest wait is for a 29th of February on a certain weekday."""


class CronFields:
    """
    The fields of an expression, by Debian cron's rules.

    Fields with a fixed time (neither the minute nor the hour begins with `*`) are due once for each time that they
    name. A time that the clock shows twice counts at the first; a time that the clock skips counts at the change. All
    other fields are due at each second at which the clock shows a time that they name.

    Raises:
        CronSimError: a field cannot be read, a step is larger than its field, or no month has such a day.
    """

    def __init__(self, expression: str) -> None:
        self._fields = CronSim(expression, _ANY_MOMENT)
        self._hours, self._minutes, self._seconds = (
            sorted(part) for part in (self._fields.hours, self._fields.minutes, self._fields.seconds)
        )
        _check_steps(self._fields.parts)
        self._months = sorted(self._fields.months)
        _, minute, hour, *_ = self._fields.parts
        self._is_fixed = not minute.startswith("*") and not hour.startswith("*")

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the first due time after `moment`, in UTC; None when neither 41 years nor the calendar have one."""
        moment = moment.astimezone(UTC)
        if moment >= END_OF_TIME:
            return None
        limit = min(moment, END_OF_TIME - _PATIENCE) + _PATIENCE
        due = (self._next_fixed if self._is_fixed else self._next_shown)(moment, zone, limit)
        return None if due is None or due >= END_OF_TIME else due

    def _next_fixed(self, moment: datetime, zone: ZoneInfo, limit: datetime) -> datetime | None:
        shown = latest_shown(moment, zone)
        walls = (datetime.combine(day, at) for day in self._dates(shown, limit) for at in self._times(day, shown))
        return next((due for due in (first_shown(wall, zone) for wall in walls) if due > moment), None)

    def _next_shown(self, moment: datetime, zone: ZoneInfo, limit: datetime) -> datetime | None:
        start = moment.replace(microsecond=0) + _SECOND
        while start < limit:
            for begin, end, offset in stretches(start, start + _DAY, zone):
                wall = self._first_wall((begin + offset).replace(tzinfo=None), (end + offset).replace(tzinfo=None))
                if wall is not None:
                    return wall.replace(tzinfo=UTC) - offset
            # Go on to the next named date, but not past a change of the clock that shows the day before once more.
            day = next(self._dates(start - _DAY, limit), None)
            if day is None:
                return None
            start = max(start + _DAY, datetime.combine(day, time.min, UTC) - 2 * _DAY)
        return None

    def _first_wall(self, begin: datetime, end: datetime) -> datetime | None:
        """Return the first time that the fields name, from `begin` on and before `end`."""
        for day in self._dates(begin, end):
            for at in self._times(day, begin):
                wall = datetime.combine(day, at)
                return wall if wall < end else None
        return None

    def _dates(self, first: datetime, last: datetime) -> Iterator[date]:
        """Return the dates that the fields name, from the day of `first` to that of `last`."""
        for year in range(first.year, last.year + 1):
            for month in self._months:
                if (year, month) < (first.year, first.month):
                    continue
                is_first = (year, month) == (first.year, first.month)
                for number in range(first.day if is_first else 1, monthrange(year, month)[1] + 1):
                    day = date(year, month, number)
                    if day > last.date():
                        return
                    if self._fields.match_day(day):
                        yield day

    def _times(self, day: date, first: datetime) -> Iterator[time]:
        """Return the times of a day that the fields name; on the day of `first` only those from `first` on."""
        earliest = first.time() if day == first.date() else time.min
        for hour in self._hours:
            if hour < earliest.hour:
                continue
            for minute in self._minutes:
                if (hour, minute) < (earliest.hour, earliest.minute):
                    continue
                for second in self._seconds:
                    if (at := time(hour, minute, second)) >= earliest:
                        yield at


def _check_steps(parts: list[str]) -> None:
    """Refuse steps that are larger than their field: `*/90` minutes would be once an hour."""
    for (name, size), part in zip(_SIZES.items(), parts, strict=True):
        for term in part.split(","):
            step = term.partition("/")[2]
            if step and int(step) > size:
                raise CronSimError(f"a step of {step} is too large for the {name}s, of which there are {size}")
