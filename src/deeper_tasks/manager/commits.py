"""The commit watch: finds the jobs of callers' transactions after their commit, and has them reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context

from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery
from deeper_tasks.domain.ids import JobId
from deeper_tasks.forks import process_watch
from deeper_tasks.sync import LoopThread

_logger = logging.getLogger("deeper_tasks")

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.003, 0.25, 1.5
_MOST_AT_ONCE = 1_000
_REST = 10
"""The pause after a look, as a multiple of the time it took, so that watching does not slow down thousands of jobs."""


class _Expected(Struct):
    """A job that will be there when its transaction commits."""

    job_id: JobId
    report: Callable[[], Awaitable[None]]
    given_up_at: float
    look_at: float
    pause: float = _FIRST_PAUSE


class CommitWatch:
    """
    Looks for expected jobs, after growing pauses, until they are there.

    A hint sent before the commit would wake workers for nothing, and an event might report a job that never comes.
    No driver says when a caller commits. A job that is not there after `patience` seconds is given up: it was rolled
    back, or the workers find it by polling. The watch has a thread of its own, because the caller may have no event
    loop, or one that ends before the commit.
    """

    def __init__(self, backend: Backend, *, patience: float = 60.0) -> None:
        self._backend = backend
        self._patience = patience
        self._thread = LoopThread("deeper-commits")
        self._is_used = False
        self._expected: list[_Expected] = []
        self._rests_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        process_watch.add(self)

    def forget_parent(self) -> None:
        """In the child of a fork: its parent goes on to look for what it expects."""
        self._is_used = False
        self._expected = []
        self._rests_until = 0.0
        self._timer = self._looking = None

    def expect(self, job_id: JobId, report: Callable[[], Awaitable[None]]) -> None:
        """Have `report` called once when the job is there. Returns at once, in any thread."""
        self._is_used = True
        # In a context of its own: the caller's may belong to a job, which has ended when the commit is reported.
        Context().run(self._thread.call_soon, self._add, job_id, report)

    async def close(self) -> None:
        """Look a last time, give up the jobs that are not there, and end the thread."""
        if self._is_used:
            self._is_used = False
            await asyncio.wrap_future(self._thread.submit(self._finish()))
            self._thread.stop()

    # in the thread

    def _add(self, job_id: JobId, report: Callable[[], Awaitable[None]]) -> None:
        now = _now()
        self._expected.append(
            _Expected(job_id=job_id, report=report, given_up_at=now + self._patience, look_at=now + _FIRST_PAUSE)
        )
        # Not by going through all expected jobs: thousands may come in one transaction.
        self._look_by(now + _FIRST_PAUSE)

    async def _finish(self) -> None:
        if self._looking is not None:
            await self._looking
        self._cancel_timer()
        while self._expected:
            await self._look(at=float("inf"))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        self._cancel_timer()
        if self._expected:
            self._look_by(min(each.look_at for each in self._expected))

    def _look_by(self, moment: float) -> None:
        look_at = max(moment, self._rests_until)
        if self._timer is None or look_at < self._timer.when():
            self._cancel_timer()
            self._timer = asyncio.get_running_loop().call_at(look_at, self._start_to_look)

    def _start_to_look(self) -> None:
        self._timer = None
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(at=_now()))
            self._looking.add_done_callback(lambda _: self._plan())

    async def _look(self, *, at: float) -> None:
        """Look for the jobs whose next look is due. Jobs that are found, or given up, are not expected any more."""
        began = _now()
        due: list[_Expected] = []
        others: list[_Expected] = []
        for each in self._expected:
            (due if each.look_at <= at and len(due) < _MOST_AT_ONCE else others).append(each)
        self._expected = others
        there = await self._find({each.job_id for each in due})
        for each in due:
            if each.job_id in there:
                await _report(each)
            elif each.given_up_at > at:
                each.pause = min(each.pause * _GROWTH, _LONGEST_PAUSE)
                each.look_at = _now() + each.pause
                self._expected.append(each)
        self._rests_until = _now() + _REST * (_now() - began)

    async def _find(self, ids: set[JobId]) -> set[JobId]:
        query = JobQuery(filter=JobFilter(ids=tuple(ids)), limit=len(ids))
        try:
            return {job.id for job in (await self._backend.find(query)).jobs}
        except Exception:  # noqa: BLE001 - whatever a store fails with, it is asked again
            return set()


async def _report(expected: _Expected) -> None:
    try:
        await expected.report()
    except Exception as error:  # noqa: BLE001 - whatever the store fails with, the other jobs must be reported
        _logger.warning("the committed job %s could not be reported: %s", expected.job_id, error)


def _now() -> float:
    return asyncio.get_running_loop().time()
