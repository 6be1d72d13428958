"""The clock: whether the store's past lies in the future."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot

_TOLERATED = timedelta(seconds=2)


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return what is found about the clock, by the newest times in the store."""
    name, newest = max(_past(snapshot).items(), key=lambda each: each[1], default=("", snapshot.now))
    ahead = newest - snapshot.now
    if ahead <= _TOLERATED:
        return [fine("clock", f"{snapshot.now:%Y-%m-%d %H:%M:%S} UTC, after all that is in the store")]
    return [
        warning(
            "clock",
            f"the newest {name} in the store is {readable(ahead)} ahead of the clock: "
            "it goes wrong, or went wrong then",
            "have the clock set by NTP; jobs and recurring tasks of the time ahead wait until it has come",
        )
    ]


def _past(snapshot: StoreSnapshot) -> dict[str, datetime]:
    times = {"beat of a worker": [worker.beat_at for worker in snapshot.overview.workers]}
    times["run of a recurring task"] = [entry.last_run for entry in snapshot.book.entries if entry.last_run is not None]
    times["job"] = [] if snapshot.newest is None else [snapshot.newest.inserted_at]
    return {name: max(moments) for name, moments in times.items() if moments}
