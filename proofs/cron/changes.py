"""The changes: when the clocks of all zones are set forward or back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=3)
"""No zone has had two changes within so long."""


class Change(Struct, frozen=True, kw_only=True):
    """A change of a zone's clock: at `moment`, by `shift`."""

    zone: str
    moment: datetime
    shift: timedelta

    @property
    def is_strange(self) -> bool:
        """Whether it is none of the common kind: an hour, and not at midnight."""
        wall = self.moment.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        hours = {wall.hour, (wall - self.shift).hour}
        return abs(self.shift) != timedelta(hours=1) or bool(hours & {0, 23})


def all_changes(first: int, last: int) -> Iterator[Change]:
    """Return the changes of these years, the last included; of zones that always agree, those of one."""
    seen: set[tuple[tuple[datetime, timedelta], ...]] = set()
    for zone in sorted(available_timezones()):
        found = tuple(_changes(ZoneInfo(zone), first, last))
        if found not in seen:
            seen.add(found)
            yield from (Change(zone=zone, moment=moment, shift=shift) for moment, shift in found)


def _changes(zone: ZoneInfo, first: int, last: int) -> Iterator[tuple[datetime, timedelta]]:
    moment, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    before = _offset(moment, zone)
    while moment < end:
        after = _offset(moment + _STRIDE, zone)
        if after != before:
            yield _when(moment, zone), after - before
        moment, before = moment + _STRIDE, after


def _when(start: datetime, zone: ZoneInfo) -> datetime:
    before, early, late = _offset(start, zone), start, start + _STRIDE
    while late - early > _SECOND:
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
