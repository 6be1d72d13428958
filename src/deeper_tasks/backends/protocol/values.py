"""Values that several roles share: nodes, the settings of a queue, and which jobs a call is about."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import JobOptions
from deeper_tasks.domain.state import State


class Node(Struct, frozen=True, kw_only=True):
    """
    One start of a worker process. A worker that starts again is another node.

    `host`, `scope`, `pid` and `pid_started` let another process find out whether it lives on the same machine.
    """

    id: NodeId
    name: str
    host: str
    scope: str
    pid: int
    pid_started: str
    queues: dict[str, int]
    """The concurrency of each queue it serves, or of each pattern, which its queues share; see `ServedQueues`."""
    queue_capacity: int | None = None
    """The number of pending jobs that a queue should not exceed. Of the workers with the same number, one warns."""


class NodeRecord(Struct, frozen=True, kw_only=True):
    """
    A registered node. `beat` is a count: a worker that sees it unchanged through a lease may call `rescue`.

    `damage` names the parts of it that cannot be read: then `node` has its id, and no other content.
    """

    node: Node
    beat: int
    busy: int
    registered_at: datetime
    beat_at: datetime
    is_lost: bool = False
    damage: tuple[Damage, ...] = ()


class QueueSettings(Struct, frozen=True, kw_only=True):
    """The settings of a queue at run time, for all workers. `damage` names the parts that cannot be read."""

    name: str
    paused_at: datetime | None = None
    damage: tuple[Damage, ...] = ()


class JobFilter(Struct, frozen=True, kw_only=True):
    """
    The conditions that select jobs; every condition given must hold, an empty filter selects all.

    `worker_module` selects a job if its task's name begins with that module, or if the module of the task's function
    did at the enqueue (`JobOptions.path`). `has_begun` selects only jobs with a reported start of an attempt; a job
    that a worker has claimed ahead has none.
    """

    ids: tuple[JobId, ...] | None = None
    states: frozenset[State] | None = None
    queue: str | None = None
    task: str | None = None
    worker_module: str | None = None
    tag: str | None = None
    has_begun: bool = False

    def matches(self, *, state: State, queue: str, task: str, options: JobOptions, has_begun: bool) -> bool:
        """Return whether such a job meets all conditions but that of the ids."""
        return (
            (self.states is None or state in self.states)
            and (self.queue is None or queue == self.queue)
            and (self.task is None or task == self.task)
            and (self.worker_module is None or _is_of_module(self.worker_module, task, options.path))
            and (self.tag is None or self.tag in options.tags)
            and (has_begun or not self.has_begun)
        )


def _is_of_module(module: str, *paths: str | None) -> bool:
    return any(path is not None and path.startswith(module + ".") for path in paths)
