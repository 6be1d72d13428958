"""The clock watch: judges by this machine's monotonic clock whether the store's wall clock can be believed."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from deeper_tasks.domain.durations import readable

_logger = logging.getLogger("deeper_tasks")

TOLERANCE = timedelta(days=1)
"""The largest step of the wall clock that is accepted: a wrong zone, a clock set by hand, a machine that slept."""
PATIENCE = timedelta(hours=6)
"""How long a clock that has stepped further must go on without another step before it is believed."""


class ClockWatch:
    """
    Notices when the store's clock steps, because jobs that a wrong clock has deleted do not come back.

    A clock that returns to where it was is believed again at once. A clock that stays where it stepped to is
    believed after `PATIENCE`: then it was wrong before the step.
    """

    def __init__(self) -> None:
        self._believed: float | None = None
        self._stepped: float | None = None
        self._stepped_at = 0.0
        self._is_warned = False

    def believes(self, store_now: datetime, *, monotonic: float) -> bool:
        """Whether this time can be believed. The first time is always believed; a doubt is logged once."""
        step = self._step(store_now, monotonic)
        if step is not None and not self._is_warned:
            _logger.warning(
                "the store's clock has stepped by %s: no ended jobs are deleted until it is back, or has "
                "run steadily for %s",
                readable(step),
                readable(PATIENCE),
            )
        self._is_warned = step is not None
        return step is None

    def _step(self, store_now: datetime, monotonic: float) -> timedelta | None:
        offset = store_now.timestamp() - monotonic
        if self._believed is None or _is_near(offset, self._believed):
            self._believed, self._stepped = offset, None
            return None
        if self._stepped is None or not _is_near(offset, self._stepped):
            self._stepped_at = monotonic
        self._stepped = offset
        if monotonic - self._stepped_at >= PATIENCE.total_seconds():
            self._believed, self._stepped = offset, None
            return None
        return timedelta(seconds=round(offset - self._believed))


def _is_near(offset: float, other: float) -> bool:
    return abs(offset - other) <= TOLERANCE.total_seconds()
