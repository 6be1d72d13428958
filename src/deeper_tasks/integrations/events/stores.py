"""The events of the store."""

from __future__ import annotations

from datetime import timedelta

from deeper_tasks.integrations.events.event import Event


class CleanupRan(Event, frozen=True, kw_only=True):
    """
    Ended jobs past their retention were deleted.

    A worker reports each batch. If `is_manual`, a call of `cleanup_old_tasks` reports all jobs that it has deleted,
    also if there were none.
    """

    deleted: int
    took: timedelta
    is_manual: bool = False


class StoreMade(Event, frozen=True, kw_only=True):
    """
    A new, empty store was made where there was none. `place` is the absolute path of its file, or its URL.

    `is_worker`: a worker that serves the store reports it. If jobs were expected there, its URL or its working folder
    differs from that of the program that enqueues. `is_elsewhere`: the path in the URL begins at a working folder from
    which the program imports nothing, so it may be the wrong folder. If either is True, the log has the event at
    WARNING, and at INFO otherwise.
    """

    place: str
    url: str
    is_worker: bool = False
    is_elsewhere: bool = False


class StoreUnavailable(Event, frozen=True, kw_only=True):
    """The store does not answer, and a part of this process tries again. Reported once, not at every try."""

    error: str


class StoreRecovered(Event, frozen=True, kw_only=True):
    """The store answers all parts of this process again, and has done so for a while. It was away for `after`."""

    after: timedelta
