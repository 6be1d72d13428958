"""The nursery: makes child processes that start like a worker and run one attempt each, for the quarantine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import ExecutorKind
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.executors import frames
from deeper_tasks.worker.execution.executors.family import memory_above
from deeper_tasks.worker.execution.executors.forked_child import ForkedChild, ProcessDiedError
from deeper_tasks.worker.execution.executors.frames import Declined, Done, GarbledError, Prepare, Prepared
from deeper_tasks.worker.execution.executors.preparation import Preparation, wait_for_first
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.quarantine import NoChildError
from deeper_tasks.worker.home import Home, NoHomeError

_LONGEST_FAREWELL = 15.0
"""Seconds that a child gets to run its stop hooks."""


class Nursery:
    """
    Forks children that have imported nothing of the application, and has each import the manager's module.

    `processes` is a separate executor, whose zygote imports no module, so that threads which the application starts
    at its import are never forked. `home` returns where the manager is imported from, or raises
    NoHomeError. A child is killed with all it started, like the children for tasks with `executor="process"`.
    """

    def __init__(self, *, processes: ProcessExecutor, home: Callable[[], Home]) -> None:
        self._processes = processes
        self._home = home

    async def make(self, attempt: Attempt, call: Call) -> QuarantineChild | None:
        """
        Return a child that has imported the application and run its start hooks; None if the attempt was stopped.

        Raises:
            NoChildError: no child can be made.
        """
        try:
            home = self._home()
            child = await self._processes.obtain(attempt)
        except (NoHomeError, ProcessDiedError, OSError) as error:
            # The system has no process, memory or file descriptor to give.
            raise NoChildError(str(error)) from error
        if child is None:
            return None
        made = QuarantineChild(child, processes=self._processes)
        attempt.interrupt = lambda: self._processes.zygote.kill(child)
        try:
            problem = await made.prepare(Prepare(home=home, task=call.job.task, module=call.task.module), call.job)
        except BaseException:
            self._processes.zygote.kill(child)
            raise
        finally:
            attempt.interrupt = None
        if problem is None and attempt.stop is None:
            return made
        self._processes.zygote.kill(child)
        await made.close()
        if attempt.stop is not None:
            return None
        raise NoChildError(problem)

    async def close(self) -> None:
        """Kill the children that are left."""
        await self._processes.close()


class QuarantineChild:
    """A child as the executor of its one attempt."""

    def __init__(self, child: ForkedChild, *, processes: ProcessExecutor) -> None:
        self.is_lost = False
        self._child = child
        self._processes = processes

    async def prepare(self, prepare: Prepare, job: ClaimedJob) -> str | None:
        """Have the child get ready; return the problem in words, or None."""
        self._child.writer.write(frames.encode(prepare))
        preparation = Preparation()
        reading = asyncio.ensure_future(preparation.read(self._child.reader))
        try:
            await wait_for_first((reading,), job=job, doing=lambda: preparation.doing)
            prepared = reading.result()
        except GarbledError:
            return "it wrote something of its own to the worker's connection"
        except TimeoutError as late:
            return str(late)
        finally:
            reading.cancel()
        if isinstance(prepared, Prepared):
            return prepared.error
        error = await self._processes.zygote.death(self._child)
        return f"while it was made, {error}"

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run the attempt, with the middleware around it, and wait until it ended or the process is gone."""
        limit = self._processes.memory_limit(call) if call.task.executor is ExecutorKind.PROCESS else None
        # The memory of the import does not count, because children of the other zygote share it.
        at_start = 0 if limit is None else memory_above(self._child.pid, 0) or 0
        end = await self._processes.run_in(self._child, attempt, call, limit=limit, at_start=at_start)
        if isinstance(end, Done):
            return end.settlement
        self.is_lost = True
        if isinstance(end, Declined):
            raise ProcessDiedError(end.reason)
        return end

    async def close(self) -> None:
        """Let the child run its stop hooks; returns when its process has ended."""
        self._child.writer.close()
        await asyncio.wait({self._child.exited}, timeout=_LONGEST_FAREWELL)
        if not self._child.exited.done():
            self._processes.zygote.kill(self._child)
            await self._child.exited
