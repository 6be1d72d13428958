"""The kit: a manager under the control of a test."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State
from deeper_tasks.tasks import TaskId, open_transaction
from deeper_tasks.testing.blocking import BlockingKit
from deeper_tasks.testing.inline import inline
from deeper_tasks.testing.kit_session import MOST_RUNS, KitSession


class TaskKit(KitSession):
    """
    A kit for tests around a manager. `use_memory` makes one, and so does the fixture `task_kit`.

    Nothing runs and no time passes by itself. `drain` runs the pending jobs; `advance` lets time pass and runs the jobs
    that become due, in the order of their due times. Both return when nothing is left to run.

    Attributes:
        manager: the manager, on the store of this test.
        clock: the clock of the store and of all jobs.
        faults: the store as the manager sees it, to put faults before; the kit itself looks past them.
        store: the store behind.
        state: what jobs see as `current_job().state`. A test puts its fakes there; `hooks` runs the start hooks.
    """

    @cached_property
    def sync(self) -> BlockingKit:
        """The same kit, blocking: for tests that are not async."""
        return BlockingKit(self)

    @contextmanager
    def inline(self, *, raise_errors: bool = True, limit: int = MOST_RUNS) -> Iterator[None]:
        """
        Have each enqueue run its job before it returns, in a `with` block of sync or async code.

        The job goes through the store and all steps of a worker. A job that is due later waits for `advance`, and a job
        that a transactional task enqueues waits for the commit. A failure is recorded, then raised by the enqueue; with
        `raise_errors=False` it is only recorded.
        """
        uncommitted: list[TaskId] = []

        async def run(task_ids: Sequence[TaskId]) -> None:
            if open_transaction() is not None:
                uncommitted.extend(task_ids)
                return
            async with self.worker(limit=limit, raise_errors=raise_errors) as worker:
                waiting = deque(task_ids)
                while waiting:
                    task_id = waiting.popleft()
                    while (queue := await self._pending_in(task_id)) is not None and await worker.run_next(queue):
                        pass
                    waiting.extend(uncommitted)
                    uncommitted.clear()

        core = self.manager.core
        with core.exchanged(inline(core.parts, run=run)):
            yield

    def end(self) -> None:
        """End the thread behind `sync`, if it was used."""
        if "sync" in vars(self):
            self.sync.end()

    async def _pending_in(self, task_id: TaskId) -> str | None:
        job = await self.store.get(JobId(task_id))
        return job.queue if job is not None and job.state is State.PENDING else None
