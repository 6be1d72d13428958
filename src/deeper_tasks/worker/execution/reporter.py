"""The reporter: gathers the news of running jobs and writes it in batches."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

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
"""Seconds between writes of progress: often enough to watch, seldom enough to cost nothing."""


class Reporter:
    """
    Takes progress and log lines from any thread; the newest progress of a job is what is written.

    News are a courtesy: what cannot be written is dropped, and a job is never held up by it.
    """

    def __init__(
        self, store: StoreAccess, *, token_of: Callable[[JobId], ClaimToken | None], redaction: Redaction
    ) -> None:
        self._backend = store.backend
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
        """Take note of how far a job is. Safe to call from any thread."""
        self._take(job_id, self._redaction.progress(progress), None)

    def log(self, job_id: JobId, line: str) -> None:
        """Take a line for a job's log. Safe to call from any thread."""
        self._take(job_id, None, self._redaction.line(line))

    async def mark_started(self, job: ClaimedJob) -> bool:
        """Write that a job which waited here starts now; False: it is no longer ours."""
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
        """Return what is known of a job and not written, for the caller to write."""
        return self._news.pop(job_id, None)

    async def flush(self, job_id: JobId) -> None:
        """Write what is known of one job before it is settled, so that its last words are not lost."""
        if job_id in self._under_way:
            # The settlement goes by another connection, and would overtake it.
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
                # They gather meanwhile: a job that reports all the time does not ask the store as often.
                await self._availability.pause(self._clock.sleep, until=asyncio.Event())
            news, self._news = self._news, {}
            for job_id in self._kept & news.keys():
                self._news[job_id] = news.pop(job_id)
            if news:
                await self._write_all(news)
            await self._clock.sleep(_PAUSE, until=asyncio.Event())

    def has_news(self, job_id: JobId) -> bool:
        """Whether something about this job waits to be written, or is being written."""
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
        try:
            await self._backend.report(reports)
            self._availability.mark_working(by=_NAME)
        except BackendUnavailableError as error:
            self._availability.mark_failing(error, by=_NAME)
            # The next ones may never come.
            self._availability.mark_idle(by=_NAME)
            with suppress(BaseException):
                _logger.debug("news of %d jobs were not written: %s", len(reports), error)
        except Exception as error:  # noqa: BLE001 - whatever the store refuses, the others' news must go through
            await self._write_apart(reports, error)

    async def _write_apart(self, reports: list[Report], error: Exception) -> None:
        if len(reports) > 1:
            for report in reports:
                await self._write([report])
            return
        job_id = reports[0].id
        with suppress(BaseException):
            _logger.warning(
                "news of the job %s could not be stored and are dropped: %r", job_id, error, extra={"job_id": job_id}
            )

    def _take(self, job_id: JobId, progress: Progress | None, line: str | None) -> None:
        if is_copy_of(self._pid):
            # A copy of this process that the job has forked: its loop is not there.
            return
        # On the loop itself at once: a handler's last words must be here before its attempt is settled.
        if threading.get_ident() == self._thread:
            self._gather(job_id, progress, line)
        else:
            # A thread that runs on after its worker has ended has no reporter to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._gather, job_id, progress, line)

    def _gather(self, job_id: JobId, progress: Progress | None, line: str | None) -> None:
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
