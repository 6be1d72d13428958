"""The terms of a store: what it lacks is refused before anything is done."""

from __future__ import annotations

from msgspec import Struct

from deeper_tasks.backends.protocol import Capabilities, Role
from deeper_tasks.errors import UnsupportedError
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.transactions import TransactionTerms
from deeper_tasks.tasks import JobRequest


class StoreTerms(Struct, frozen=True, kw_only=True):
    """The requests that the store of one manager can meet. `store` is the name of the store in messages."""

    store: str
    capabilities: Capabilities
    transactions: TransactionTerms

    def check(self, task: AnyTask, request: JobRequest) -> None:
        """
        Refuse a task, or a call of it, that this store cannot serve.

        Raises:
            UnsupportedError: the task is transactional or recurring, or the call brings an id, and the store has no
                transactions for jobs, no schedules, or makes the ids itself.
            InvalidOptionError: the timeout is longer than the transaction may be.
        """
        self.transactions.check(task, request)
        if task.schedule is not None:
            self.require(Role.SCHEDULES, f"the task {task.name!r} is recurring")
        if request.task_id is not None and self.capabilities.makes_ids:
            raise UnsupportedError(
                f"option 'task_id' cannot be used: the store {self.store!r} makes the ids of its jobs itself; leave it "
                "out, and use 'unique_key' to enqueue a call once"
            )

    def require(self, role: Role, reason: str) -> None:
        """Raise UnsupportedError, which begins with the reason, if the store lacks a role."""
        if role not in self.capabilities.roles:
            raise UnsupportedError(
                f"{reason}, and the store {self.store!r} keeps no {role}: use a store that does, such as "
                "sqlite:///tasks.db or postgresql://"
            )
