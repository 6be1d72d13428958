"""The process executor: runs a task in a child process, which an interruption kills with all it started."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks.arguments import UnfitArgumentsError
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.executors import frames
from deeper_tasks.worker.execution.executors.application import Application
from deeper_tasks.worker.execution.executors.family import is_memory_known, memory_above
from deeper_tasks.worker.execution.executors.forked_child import ForkedChild, ProcessDiedError
from deeper_tasks.worker.execution.executors.frames import (
    Declined,
    Done,
    GarbledError,
    Logged,
    ProgressMade,
    StopNotice,
)
from deeper_tasks.worker.execution.executors.preparation import Preparation, wait_for_first
from deeper_tasks.worker.execution.executors.zygote_client import ZygoteClient
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.execution.parts import ExecutionParts

_logger = logging.getLogger("deeper_tasks")

_MEGABYTE = 1024 * 1024
_MOST_NEWS, _LONGEST_ESCAPE = 64 * _MEGABYTE, 6
"""Bytes of a frame without its result, and bytes of one escaped character of the result."""


class ProcessExecutor:
    """
    Runs calls in children of a zygote, which has imported the application.

    Children are used again and again; a child that was killed or died is replaced.
    With a child, and at the end of the worker, all processes end that were started there,
    on Linux also those in a session of their own.
    """

    def __init__(
        self, parts: ExecutionParts, *, application: Application | None = None, records: JobRecords | None = None
    ) -> None:
        self.zygote = ZygoteClient(application or Application(), records=records, on_unwatched=self._put_back)
        self._reporter = parts.reporter
        self._settings = parts.call_settings
        self._deadlines = parts.deadlines
        self._memory_limit_mb = parts.settings.process_memory_limit_mb
        self._idle: list[ForkedChild] = []
        self._has_warned = False

    async def warm_up(self) -> None:
        """Start the zygote. An error is left to the first job that needs it."""
        with suppress(ProcessDiedError):
            await self.zygote.start()

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call in a child and wait until it answered or its process is gone."""
        limit = self.memory_limit(call)
        # The application's import does not count as the job's time.
        self._deadlines.hold(attempt)
        child = await self.obtain(attempt, limit=limit)
        if child is None:
            return verdict.unbegun(call, attempt)
        if not await self._begins(attempt, child):
            return verdict.unbegun(call, attempt)
        assert attempt.context is not None
        self._deadlines.watch(attempt, attempt.context.timeout)
        end = await self.run_in(child, attempt, call, limit=limit)
        if isinstance(end, Declined):
            # Most likely because of an earlier job in that process.
            _logger.warning("a process for jobs could not run another job, which a new one runs now: %s", end.reason)
            child = await self._fork_for(attempt)
            if child is None:
                return verdict.unbegun(call, attempt)
            end = await self.run_in(child, attempt, call, limit=limit)
        if isinstance(end, Declined):
            raise ProcessDiedError(f"a new process for jobs could not run it: {end.reason}")
        if isinstance(end, Settlement):
            return end
        if attempt.forced or end.is_worn:
            # After a stop an order to kill the child may still be under way, and would hit the next job.
            child.writer.close()
        elif limit is None:
            self._idle.append(child)
        else:
            # Idle only when the zygote has ended the watch, because the limit is not the next job's.
            self.zygote.unwatch(child)
        if end.settlement.is_unfit:
            raise UnfitArgumentsError(end.settlement.reason)
        return end.settlement

    async def _begins(self, attempt: Attempt, child: ForkedChild) -> bool:
        """Announce that the handler is about to be called; False if the attempt was stopped, and the child is free."""
        if attempt.begin is None:
            return True
        is_begun = False
        try:
            await attempt.begin()
            is_begun = not attempt.forced
        finally:
            if not is_begun:
                self._idle.append(child)
        return is_begun

    async def obtain(self, attempt: Attempt, *, limit: int | None = None) -> ForkedChild | None:
        """
        Return a child for a job that may use so many bytes of memory; None if the attempt was stopped meanwhile.

        Raises:
            ProcessDiedError: none can be forked.
        """
        return self._take_idle(limit) or await self._fork_for(attempt)

    async def run_in(
        self, child: ForkedChild, attempt: Attempt, call: Call, *, limit: int | None, at_start: int = 0
    ) -> Done | Declined | Settlement:
        """
        Run a call in this child, which may use so many bytes of memory beyond those that it used `at_start`.

        Returns the child's last frame, or a settlement if its process is gone. A child that has declined ends.
        """
        if limit is not None:
            self.zygote.watch(child, limit + at_start)
        attempt.interrupt = lambda: self.zygote.kill(child)
        if attempt.forced:
            attempt.interrupt()
        started = time.monotonic()
        try:
            done = await self._converse(child, attempt, call)
        except asyncio.CancelledError:
            # The middleware cancels, as at its own timeout. The child must not go on, because no task reads its frames.
            self.zygote.kill(child)
            await child.until_exited()
            child.writer.close()
            raise
        finally:
            attempt.interrupt = attempt.pass_on = None
        if isinstance(done, Declined):
            child.writer.close()
        if done is not None:
            return done
        error = await self.zygote.death(child, _over(limit or 0, at_start=at_start))
        ran_for = timedelta(seconds=time.monotonic() - started)
        settlement = verdict.broken_off(call, error, ran_for, attempt) or call.broken_off(error, ran_for)
        if child.is_orphaned and call.task.has_quarantine:
            # Its job may be the one that killed the zygote, and would do so again.
            settlement = msgspec.structs.replace(settlement, is_process_lost=True)
        return settlement

    async def close(self) -> None:
        """Kill the children and the zygote."""
        await self.zygote.close()

    def memory_limit(self, call: Call) -> int | None:
        """Return how many bytes of memory a job in a process may use; None if there is no limit."""
        own = call.task.memory_limit_mb
        limit = self._memory_limit_mb if own is UNSET else own
        if limit is not None and not self._has_warned and not is_memory_known():
            self._has_warned = True
            _logger.warning("memory limits are not enforced: this system does not show the memory of processes")
        return None if limit is None else limit * _MEGABYTE

    async def _converse(self, child: ForkedChild, attempt: Attempt, call: Call) -> Done | Declined | None:
        """Hand the job over and read frames until its end; None if the connection has ended."""
        assert attempt.context is not None
        child.writer.write(
            frames.encode(
                frames.Run(
                    module=call.task.module or "",
                    qualname=call.task.qualname,
                    job=call.job,
                    timeout=attempt.context.timeout,
                    settings=self._settings(),
                )
            )
        )
        attempt.pass_on = lambda stop, reason: child.writer.write(frames.encode(StopNotice(stop=stop, reason=reason)))
        for stop in attempt.announced:
            attempt.pass_on(stop, attempt.reason)
        most = _MOST_NEWS + _LONGEST_ESCAPE * self._settings().max_result_bytes
        try:
            while True:
                match await frames.read(child.reader, most=most):
                    case ProgressMade(progress=Progress() as progress):
                        self._reporter.progress(call.job.id, progress)
                    case Logged(line=line):
                        self._reporter.log(call.job.id, line)
                    case (Done() | Declined()) as done:
                        return done
                    case _:
                        return None
        except GarbledError:
            self.zygote.give_up(child, "wrote something of its own to the worker's connection")
            return None

    def _take_idle(self, limit: int | None) -> ForkedChild | None:
        while self._idle:
            child = self._idle.pop()
            if not child.exited.done() and not _is_too_big(child, limit):
                return child
            child.writer.close()
        return None

    async def _fork_for(self, attempt: Attempt) -> ForkedChild | None:
        """Return a new child; None if the attempt was stopped before there was one, as during the import."""
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        preparation = Preparation()
        forking = asyncio.create_task(self.zygote.fork(preparation), context=Context())
        attempt.interrupt = lambda: None if stopped.done() else stopped.set_result(None)
        try:
            either: set[asyncio.Future[Any]] = {forking, stopped}
            await wait_for_first(either, job=attempt.job, doing=lambda: self.zygote.busy_with(preparation))
        finally:
            attempt.interrupt = None
            if not forking.done():
                forking.add_done_callback(self._keep)
        return forking.result() if forking.done() else None

    def _put_back(self, child: ForkedChild) -> None:
        self._idle.append(child)

    def _keep(self, forking: asyncio.Task[ForkedChild]) -> None:
        """Keep a child that came too late for the attempt that wanted it."""
        if not forking.cancelled() and forking.exception() is None:
            self._idle.append(forking.result())


def _is_too_big(child: ForkedChild, limit: int | None) -> bool:
    """Whether a child uses so much memory after earlier jobs that the next job might be killed for it."""
    return limit is not None and memory_above(child.pid, limit // 2) is not None


def _over(limit: int, *, at_start: int) -> str:
    said = f"used more than {limit // _MEGABYTE} MB of memory"
    return f"{said}, what its process used before its start not counted" if at_start else said
