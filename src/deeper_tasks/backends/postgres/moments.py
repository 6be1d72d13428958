"""Moments of PostgreSQL that no `datetime` can hold: infinity, years before 1 and after 9999."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncCursor
from psycopg.abc import Buffer
from psycopg.adapt import Loader, Transformer
from psycopg.pq import Format

from deeper_tasks.domain.damage import EARLIEST, LATEST

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_INFINITY, _MINUS_INFINITY = (1 << 63) - 1, -(1 << 63)
_CYCLE_YEARS, _CYCLE = 400, timedelta(days=146_097)
"""The calendar repeats after this time."""


class BeyondCalendar(datetime):
    """The substitute for such a moment: `EARLIEST` or `LATEST`. `stored` is the text that PostgreSQL writes."""

    stored: str


class DamagedRows(list[Sequence[Any]]):
    """Rows of which at least one has a `BeyondCalendar`."""


class _TolerantLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        micros: int = struct.unpack("!q", data)[0]
        try:
            return _EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            return _beyond(micros)


def read_tolerantly(cursor: AsyncCursor[Any]) -> DamagedRows:
    """Read the rows of a binary result again; return them with a substitute for each moment beyond the calendar."""
    result = cursor.pgresult
    assert result is not None
    lenient = cursor.connection.cursor(binary=True)
    lenient.adapters.register_loader("timestamptz", _TolerantLoader)
    transformer = Transformer(lenient)
    transformer.set_pgresult(result)
    return DamagedRows(transformer.load_rows(0, result.ntuples, tuple))


def _beyond(micros: int) -> BeyondCalendar:
    end = LATEST if micros > 0 else EARLIEST
    moment = BeyondCalendar(end.year, end.month, end.day, tzinfo=UTC)
    moment.stored = _text(micros)
    return moment


def _text(micros: int) -> str:
    if micros in {_INFINITY, _MINUS_INFINITY}:
        return "infinity" if micros > 0 else "-infinity"
    cycles, rest = divmod(timedelta(microseconds=micros), _CYCLE)
    within = _EPOCH + rest
    year = within.year + _CYCLE_YEARS * cycles
    era = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04}-{within:%m-%d %H:%M:%S.%f}+00{era}"
