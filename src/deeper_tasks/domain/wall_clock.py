"""The wall clock of a time zone: the times that it shows, and its changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


def first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """
    Return the first moment, in UTC, at which the clock shows this time (without a zone) or a later one.

    For a time that is shown twice this is the first time; for a time that is skipped it is the change.
    """
    early, late = _shown(wall, zone, fold=0), _shown(wall, zone, fold=1)
    return early if early <= late else _change(late, early, zone)


def latest_shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the latest time, without a zone, that the clock has shown up to a moment, in whole seconds."""
    moment = moment.replace(microsecond=0)
    local = moment.astimezone(zone)
    if not local.fold:
        return local.replace(tzinfo=None)
    # The clock was set back, and shows the same times again.
    change = _change(_shown(local, zone, fold=0), moment, zone)
    return (change - _SECOND).astimezone(zone).replace(tzinfo=None)


def stretches(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """
    Yield the parts of a time span in which the clock is not changed: the start, the end and the offset from UTC.

    The span, in whole seconds, may have one change at most. No zone has had two changes within three days.
    """
    before, after = _offset(start, zone), _offset(end, zone)
    if before == after:
        yield start, end, before
        return
    change = _change(start, end, zone)
    yield start, change, before
    yield change, end, after


def _shown(wall: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment, after `before` and at most `after`, from which on the offset from UTC is that of `after`."""
    offset = _offset(after, zone)
    seconds = range((after - before) // _SECOND)
    return before + _SECOND * bisect_left(
        seconds, True, key=lambda second: _offset(before + _SECOND * second, zone) == offset
    )
