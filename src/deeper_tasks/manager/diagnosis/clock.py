"""The clock: whether the store's past lies in the future."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning
from deeper_tasks.manager.diagnosis.scene import Scene

_TOLERATED = timedelta(seconds=2)


def examine(scene: Scene) -> list[Finding]:
    """Return what is found about the clock, by the newest times in the store."""
    name, newest = max(_past(scene).items(), key=lambda each: each[1], default=("", scene.now))
    ahead = newest - scene.now
    if ahead <= _TOLERATED:
        return [fine("clock", f"{scene.now:%Y-%m-%d %H:%M:%S} UTC, after all that is in the store")]
    return [
        warning(
            "clock",
            f"the newest {name} in the store is {readable(ahead)} ahead of the clock: "
            "it goes wrong, or went wrong then",
            "have the clock set by NTP; jobs and recurring tasks of the time ahead wait until it has come",
        )
    ]


def _past(scene: Scene) -> dict[str, datetime]:
    times = {"beat of a worker": [worker.beat_at for worker in scene.overview.workers]}
    times["run of a recurring task"] = [entry.last_run for entry in scene.book.entries if entry.last_run is not None]
    times["job"] = [] if scene.newest is None else [scene.newest.inserted_at]
    return {name: max(moments) for name, moments in times.items() if moments}
