"""The monitor: watches the one worker of this process, and reports its health."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from deeper_tasks.health import Health, ProcessHealth, ProcessStatus
from deeper_tasks.health.health import sum_up
from deeper_tasks.supervisor import Report
from deeper_tasks.worker.worker import Worker

_LONGEST_LAG = 10.0
"""Seconds without an answer of the event loop after which the worker counts as unready."""


class Monitor:
    """
    Reads the state of a worker in each beat of its heartbeat's thread, every second, and then calls `on_beat`.

    The worker counts as live before its first beat, and until its last beat is `silence_limit` seconds old.
    """

    def __init__(self, *, silence_limit: float, now: Callable[[], float] = time.monotonic) -> None:
        self._silence_limit = silence_limit
        self._now = now
        self._worker: Worker | None = None
        self._beat_at: float | None = None
        self._lag = 0.0
        self.on_beat: Callable[[], None] = lambda: None

    def watch(self, worker: Worker) -> None:
        """Watch this worker, which must not have started yet."""
        self._worker = worker
        worker.on_pulse(self._note)

    def report(self) -> Report:
        """Return the report that a supervised worker sends to its supervisor."""
        worker = self._worker
        return Report(
            is_ready=worker is not None and worker.is_ready and self._lag < _LONGEST_LAG,
            is_stopping=worker is not None and worker.is_stopping,
            busy=0 if worker is None else worker.busy,
            loop_lag=self._lag,
        )

    def health(self) -> Health:
        """Return the health that the server and the file show. Safe to call from any thread."""
        report, beat_at = self.report(), self._beat_at
        process = ProcessHealth(
            index=1,
            name="worker",
            pid=os.getpid(),
            status=_status(report, has_begun=beat_at is not None),
            busy=report.busy,
            loop_lag_seconds=round(report.loop_lag, 3),
        )
        is_live = beat_at is None or self._now() - beat_at < self._silence_limit
        return sum_up([process], is_live=is_live, is_stopping=report.is_stopping)

    def _note(self, lag: float) -> None:
        self._lag = lag
        self._beat_at = self._now()
        self.on_beat()


def _status(report: Report, *, has_begun: bool) -> ProcessStatus:
    if report.is_stopping:
        return ProcessStatus.STOPPING
    if report.is_ready:
        return ProcessStatus.READY
    return ProcessStatus.UNREADY if has_begun else ProcessStatus.STARTING
