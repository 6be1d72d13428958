"""The access to a manager's store, which is opened at its first use and checked before each."""

from __future__ import annotations

from collections.abc import Callable

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.errors import JobNotFoundError, UnsupportedError
from deeper_tasks.forks import process_watch
from deeper_tasks.manager.transactions import refuse_blocked_write
from deeper_tasks.tasks.quoting import quoted

_NAME = "manager"

OnNewStore = Callable[[bool], object]
"""Called when a store was made where there was none; the argument is whether a worker made it."""


class StoreAccess:
    """
    The one way from a manager to its store.

    Each `ready…` method opens the store if it is not open, and raises where the use that follows is refused.
    """

    def __init__(self, backend: Backend, *, availability: Availability, on_new_store: OnNewStore) -> None:
        self.backend = backend
        self.availability = availability
        self._on_new_store = on_new_store
        self._is_open = self._is_joined = False
        self._closings = 0
        self._has_made_store = self._is_worker = False

    @property
    def is_open(self) -> bool:
        """Whether the store was opened and not closed since."""
        return self._is_open

    @property
    def is_in_use(self) -> bool:
        """Whether the store is open, or an enqueue has used it inside a transaction of its caller."""
        return self._is_open or self._is_joined

    async def open(self, *, create: bool = True) -> None:
        """Open the store; one that is not there is made if `create` is True."""
        closings = self._closings
        is_new = await self.backend.open(create=create)
        # Another thread may have closed it since.
        self._is_open = self._closings == closings
        if is_new:
            self._note_new_store()

    async def close(self) -> None:
        """Close the store, after the calls that are under way."""
        self.mark_closed()
        try:
            await self.backend.close()
        finally:
            # Also a call that found it open just before it was closed.
            self.mark_closed()

    def mark_closed(self) -> None:
        """Have the next use open the store again."""
        self._closings += 1
        self._is_open = self._is_joined = False

    async def ready(self, *, will_join: bool = False) -> None:
        """Open the store if it is not open. With `will_join` an insert through a caller's connection follows."""
        process_watch.notice()
        if self._is_open:
            return
        if not will_join or not self.backend.capabilities.has_transactions:
            await self.open()
            return
        # Not open yet: the schema that the insert makes in the caller's transaction may be rolled back.
        self._is_joined = True
        if await self.backend.open(will_join=True):
            self._note_new_store()

    async def ready_for_worker(self) -> None:
        """Open the store for a worker, which reports a store that was made here, also if an enqueue made it before."""
        self._is_worker = True
        await self.ready()
        if self._has_made_store:
            self._has_made_store = False
            self._on_new_store(True)

    async def ready_to_write(self) -> None:
        """
        Open the store for a write that keeps something new, such as a recurring task.

        Raises:
            TransactionError: the write would wait for the transaction of the job that asks for it.
        """
        await self.ready()
        refuse_blocked_write(self.backend)

    async def ready_to_read(self) -> None:
        """
        Open the store for a question about jobs, queues or recurring tasks.

        Raises:
            UnsupportedError: tasks are disabled here, so the store knows of none.
        """
        await self.ready()
        if not self.backend.capabilities.runs_jobs:
            raise UnsupportedError(
                "tasks are disabled here: an enqueue is accepted, but its job is "
                "neither stored nor run, so no job can be read or changed; set enabled = true, and a url other than noop://"
            )

    async def ready_to_change(self) -> None:
        """
        Open the store for a change of jobs, queues or recurring tasks that are there.

        Raises:
            UnsupportedError: tasks are disabled here, so the store knows of none.
            TransactionError: the change would wait for the transaction of the job that asks for it.
        """
        await self.ready_to_read()
        refuse_blocked_write(self.backend)

    async def id_to_read(self, task_id: str) -> JobId:
        """
        Return the id of a job that is to be read.

        Raises:
            JobNotFoundError: `task_id` is no id.
            UnsupportedError: tasks are disabled here.
        """
        await self.ready_to_read()
        form = self.backend.capabilities.ids
        job_id = form.parse(task_id)
        if job_id is None:
            raise JobNotFoundError(f"no job has the id {quoted(task_id)}: {form.description}")
        return job_id

    async def id_to_change(self, task_id: str) -> JobId:
        """Return the id of a job that is to be changed. Raises as `id_to_read` and `ready_to_change` do."""
        job_id = await self.id_to_read(task_id)
        refuse_blocked_write(self.backend)
        return job_id

    async def get(self, task_id: str) -> Job:
        """Return the job with this id. Raises as `id_to_read`, and JobNotFoundError where there is no such job."""
        job = await self.backend.get(await self.id_to_read(task_id))
        self.availability.mark_working(by=_NAME)
        if job is None:
            raise JobNotFoundError(f"no job has the id {quoted(task_id)}; it may have been cleaned up")
        return job

    def _note_new_store(self) -> None:
        self._has_made_store = True
        if not self._is_worker:
            self._on_new_store(False)
