"""The kit: a manager under the control of a test."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from msgspec import Struct

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State
from deeper_tasks.manager import BackgroundTaskManager
from deeper_tasks.tasks import TaskId, open_transaction
from deeper_tasks.testing.blocking import BlockingKit
from deeper_tasks.testing.clock import ManualClock
from deeper_tasks.testing.demands import Demands
from deeper_tasks.testing.faulty import FaultyBackend
from deeper_tasks.testing.kit_session import MOST_RUNS, KitSession
from deeper_tasks.testing.turns import Turns


class _InlineBlock(Struct, eq=False):
    """The options of a block in which each enqueue runs its job."""

    raise_errors: bool
    limit: int


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

    def __init__(
        self,
        manager: BackgroundTaskManager,
        *,
        store: Backend,
        faults: FaultyBackend,
        clock: ManualClock,
        patience: float,
    ) -> None:
        super().__init__(manager, store=store, faults=faults, clock=clock, patience=patience)
        self._inline_blocks: list[_InlineBlock] = []
        self._inline_turns = Turns(
            "a test that runs at the same time in this process is in a block of `inline` of this kit; "
            "enter the block once, around both"
        )
        self._inline_depth = 0
        self._uncommitted: list[TaskId] = []

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
        `raise_errors=False` it is only recorded. `enqueue_many` enqueues all its jobs, then runs them in order until a
        failure is raised; the jobs after it stay pending.

        Blocks may stand in each other. The options of the block that began last and has not ended hold, in whatever
        order they end.

        Raises:
            OverlapError: another asyncio task or thread, which runs at the same time, is in such a block.
        """
        block = _InlineBlock(raise_errors=raise_errors, limit=limit)
        with self._inline_turns.taken():
            self._inline_blocks.append(block)
            try:
                yield
            finally:
                self._inline_blocks.remove(block)

    async def run_inline(self, task_ids: Sequence[TaskId]) -> None:
        """Run jobs that were just enqueued, if the caller is in a block of `inline`."""
        if not self._inline_blocks:
            return
        if open_transaction() is not None:
            self._uncommitted.extend(task_ids)
            return
        block = self._inline_blocks[-1]
        if task_ids and self._inline_depth >= block.limit:
            # Each job runs inside the enqueue of the one before.
            job = await self.store.get(JobId(task_ids[0]))
            demands = Demands(limit=block.limit, patience=0, recurring=False)
            raise demands.too_many([], next_task="a job" if job is None else job.task)
        self._inline_depth += 1
        try:
            await self._run_in(block, task_ids)
        finally:
            self._inline_depth -= 1

    async def _run_in(self, block: _InlineBlock, task_ids: Sequence[TaskId]) -> None:
        async with self.worker(limit=block.limit, raise_errors=block.raise_errors) as worker:
            waiting = deque(task_ids)
            while waiting:
                task_id = waiting.popleft()
                while (queue := await self._pending_in(task_id)) is not None and await worker.run_next(queue):
                    pass
                waiting.extend(self._uncommitted)
                self._uncommitted.clear()

    def end(self) -> None:
        """End the thread behind `sync`, if it was used."""
        if "sync" in vars(self):
            self.sync.end()

    async def _pending_in(self, task_id: TaskId) -> str | None:
        job = await self.store.get(JobId(task_id))
        return job.queue if job is not None and job.state is State.PENDING else None
