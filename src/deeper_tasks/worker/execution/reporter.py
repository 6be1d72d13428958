"""The reporter: gathers progress and log lines of running jobs, and writes them in batches."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from deeper_tasks.backends.protocol import Role
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES, ClaimedJob, Progress
from deeper_tasks.domain.settlement import Report
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.worker.process.forks import is_copy_of
from deeper_tasks.worker.redaction import Redaction
from deeper_tasks.worker.store_access import StoreAccess

_logger = logging.getLogger("deeper_tasks")

_NAME = "reporter"
_PAUSE = 0.1
"""Seconds between two writes of progress."""


class Reporter:
    """
    Takes progress and log lines, the news of a job, from any thread. Only the newest progress is written.

    News that cannot be written is dropped, and never holds up a job. In a store without progress all news is dropped,
    which is logged once.
    """

    def __init__(
        self, store: StoreAccess, *, token_of: Callable[[JobId], ClaimToken | None], redaction: Redaction
    ) -> None:
        self._backend = store.backend
        self._has_progress = Role.PROGRESS in store.backend.capabilities.roles
        self._has_warned = False
        self._redaction = redaction
        self._availability = store.availability
        self._clock = store.clock
        self._token_of = token_of
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._news: dict[JobId, Report] = {}
        self._under_way: dict[JobId, Report] = {}
        self._written = asyncio.Event()
        self._kept: set[JobId] = set()
        self._awake = asyncio.Event()

    def progress(self, job_id: JobId, progress: Progress) -> None:
        """Note the progress of a job. Safe to call from any thread."""
        self._take(job_id, self._redaction.progress(progress), None)

    def log(self, job_id: JobId, line: str) -> None:
        """Take a line for a job's log. Safe to call from any thread."""
        self._take(job_id, None, self._redaction.line(line))

    async def mark_started(self, job: ClaimedJob) -> bool:
        """Write that a job which waited here starts now; False if the worker has lost the job."""
        if not self._has_progress:
            return True
        return bool(await self._backend.report([Report(id=job.id, token=job.token, has_started=True)]))

    def report_start(self, job: ClaimedJob) -> None:
        """Write with the other news that a job which waited here has started. To be called on the worker's loop."""
        report = self._news.get(job.id) or Report(id=job.id, token=job.token)
        self._news[job.id] = msgspec.structs.replace(report, has_started=True)
        self._awake.set()

    def hold(self, job_id: JobId) -> None:
        """Keep the news of a job until `take` or `go_on`."""
        self._kept.add(job_id)

    def go_on(self, job_id: JobId) -> None:
        """Write the news of a job as they come."""
        self._kept.discard(job_id)

    def take(self, job_id: JobId) -> Report | None:
        """Return the news of a job that is not written, for the caller to write."""
        return self._news.pop(job_id, None)

    async def flush(self, job_id: JobId) -> None:
        """Write the news of one job before it is settled, so that its last news is not lost."""
        if job_id in self._under_way:
            # The settlement goes by another connection, and would overtake the news.
            await self._written.wait()
        report = self._news.pop(job_id, None)
        if report is not None:
            await self._write([report])

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            if self._availability.is_away:
                # News gathers meanwhile, so that a job that reports all the time does not ask the store as often.
                await self._availability.pause(self._clock.sleep, until=asyncio.Event())
            news, self._news = self._news, {}
            for job_id in self._kept & news.keys():
                self._news[job_id] = news.pop(job_id)
            if news:
                await self._write_all(news)
            await self._clock.sleep(_PAUSE, until=asyncio.Event())

    def has_news(self, job_id: JobId) -> bool:
        """Whether news of this job waits to be written, or is being written."""
        return job_id in self._news or job_id in self._under_way

    async def _write_all(self, news: dict[JobId, Report]) -> None:
        self._under_way = news
        self._written.clear()
        try:
            await self._write(list(news.values()))
        finally:
            self._under_way = {}
            self._written.set()

    async def _write(self, reports: list[Report]) -> None:
        if not self._has_progress:
            return
        try:
            await self._backend.report(reports)
            self._availability.mark_working(by=_NAME)
        except BackendUnavailableError as error:
            self._availability.mark_failing(error, by=_NAME)
            # There may be no further news, so this part must not count as failing.
            self._availability.mark_idle(by=_NAME)
            with suppress(BaseException):
                _logger.debug("progress of %d jobs was not written: %s", len(reports), error)
        except Exception as error:  # noqa: BLE001 - the news of the other jobs must be written
            await self._write_apart(reports, error)

    async def _write_apart(self, reports: list[Report], error: Exception) -> None:
        if len(reports) > 1:
            for report in reports:
                await self._write([report])
            return
        job_id = reports[0].id
        with suppress(BaseException):
            _logger.warning(
                "progress of the job %s could not be stored and is dropped: %r", job_id, error, extra={"job_id": job_id}
            )

    def _take(self, job_id: JobId, progress: Progress | None, line: str | None) -> None:
        if is_copy_of(self._pid):
            # In a copy of this process that the job has forked, the loop does not run.
            return
        # On the loop itself at once, so that a handler's last news is here before its attempt is settled.
        if threading.get_ident() == self._thread:
            self._gather(job_id, progress, line)
        else:
            # The loop may be closed if a thread runs on after its worker has ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._gather, job_id, progress, line)

    def _gather(self, job_id: JobId, progress: Progress | None, line: str | None) -> None:
        if not self._has_progress:
            self._warn_of_drop()
            return
        token = self._token_of(job_id)
        if token is None:
            return
        report = self._news.get(job_id) or Report(id=job_id, token=token)
        self._news[job_id] = msgspec.structs.replace(
            report,
            progress=progress or report.progress,
            lines=report.lines if line is None else (*report.lines[1 - MAX_KEPT_LOG_LINES :], line),
        )
        self._awake.set()

    def _warn_of_drop(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        with suppress(BaseException):
            _logger.warning(
                "progress and log lines of jobs are dropped: the store %r keeps none; use a store that does, such as "
                "sqlite:///tasks.db or postgresql://",
                type(self._backend).__name__,
            )
