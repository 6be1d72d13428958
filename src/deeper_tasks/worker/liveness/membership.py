"""The membership of a worker: the node under which the store knows it, renewed when it was taken for dead."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from deeper_tasks.backends.protocol import MAX_NODE_TASKS, Backend, Node
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.errors import BackendError
from deeper_tasks.worker.liveness.host import describe_node, since_boot
from deeper_tasks.worker.settings import WorkerSettings


class Membership:
    """
    The node that this worker is now.

    The age of its beats is measured by `now`, the machine's own clock, whatever clock the worker has been
    given. That clock goes on while the machine is suspended, as the leases do that other machines grant.

    If a worker is taken for dead although its beats were answered, another one has misjudged its
    process: from then on its nodes are judged by their beats alone.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        settings: WorkerSettings,
        tasks: Callable[[], frozenset[str] | None] = lambda: None,
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._backend = backend
        self._tasks = tasks
        self._registered: frozenset[str] | None = None
        self._settings = settings
        self._lease = settings.lease.total_seconds()
        self.now = now
        self._known_at = now()
        self._is_lost = False
        self._may_be_judged = True
        self.node: Node = self._new_node()

    @property
    def node_id(self) -> NodeId:
        """The id under which this worker claims."""
        return self.node.id

    @property
    def is_in_doubt(self) -> bool:
        """Whether other workers have this node's jobs, or may have: no beat was answered for a lease."""
        return self.now() - self._known_at >= self._lease

    def confirm(self, at: float) -> None:
        """Note that the store knew this node at this time of `now`. Safe to call from any thread."""
        if not self._is_lost:
            self._known_at = at

    async def join(self) -> None:
        """Register this worker in the store, with the tasks that it knows unless they are too many."""
        await self._join_as(self.node)

    @property
    def has_new_tasks(self) -> bool:
        """Whether this worker knows other tasks than the store has registered for it."""
        return self._tasks_to_register() != self._registered

    async def register_tasks(self) -> None:
        """Register the tasks that this worker knows now; if the store fails, a later call does it."""
        tasks = self._tasks_to_register()
        with suppress(BackendError):
            await self._backend.register(self.node, tasks=tasks)
            self._registered = tasks

    def _tasks_to_register(self) -> frozenset[str] | None:
        tasks = self._tasks()
        return None if tasks is None or len(tasks) > MAX_NODE_TASKS else tasks

    def lose(self) -> None:
        """Note that the store has lost this node, which is in doubt until it joins anew, whatever is answered."""
        if not self._is_lost:
            self._may_be_judged = self._may_be_judged and self.is_in_doubt
            self._is_lost, self._known_at = True, -math.inf

    async def join_anew(self) -> None:
        """Register as another node: other workers have the jobs of the old one."""
        self.lose()
        await self._join_as(self._new_node())

    async def _join_as(self, node: Node) -> None:
        at = self.now()
        tasks = self._tasks_to_register()
        await self._backend.register(node, tasks=tasks)
        self.node, self._registered, self._is_lost = node, tasks, False
        self.confirm(at)

    async def leave(self) -> None:
        """Remove this worker from the store, after it has stopped in order."""
        await self._backend.deregister(self.node_id)

    def _new_node(self) -> Node:
        settings = self._settings
        return describe_node(
            settings.name,
            settings.queues,
            queue_capacity=settings.queue_capacity,
            may_be_judged=self._may_be_judged,
        )
