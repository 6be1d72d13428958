"""The events of workers."""

from __future__ import annotations

from datetime import timedelta

from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.integrations.events.event import Event


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker has registered and claims jobs. If tasks are switched off, it claims none, and `runs_jobs` is False."""

    node: NodeId
    queues: dict[str, int]
    runs_jobs: bool = True


class QueuesUnserved(Event, frozen=True, kw_only=True):
    """
    A worker has started, and no live worker serves the queues of some of its tasks.

    `unserved` has the names of these tasks by queue; `queues` has the queues that the worker serves.
    """

    node: NodeId
    queues: dict[str, int]
    unserved: dict[str, tuple[str, ...]]


class WorkerStopping(Event, frozen=True, kw_only=True):
    """A worker claims no more jobs, and waits for those that run."""

    node: NodeId
    queues: dict[str, int]
    running: int = 0


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker ended in order."""

    node: NodeId
    queues: dict[str, int]


class WorkerStuck(Event, frozen=True, kw_only=True):
    """A worker cannot go on, for example because it has lost too many slots. It drains and ends."""

    node: NodeId
    queues: dict[str, int]
    reason: str


class NodeLost(Event, frozen=True, kw_only=True):
    """This worker was taken for dead. It stops the jobs that it runs and registers again."""

    node: NodeId


class LoopStalled(Event, frozen=True, kw_only=True):
    """
    The worker's event loop is blocked, so none of its coroutines can go on.

    Reported once for each job whose code blocks it, also if several jobs do so one after another. `stalled_for` is how
    long this code has blocked the loop so far, `in_all` how long the loop has been blocked; `stack` is where. `job_id`,
    `task`, `queue` and `attempt` name the job. `job_id` is None if other code blocks the loop: middleware, a callback,
    a subscriber, the application around the worker.
    """

    stalled_for: timedelta
    stack: str
    in_all: timedelta = timedelta(0)
    job_id: JobId | None = None
    task: str = ""
    queue: str = ""
    attempt: int = 0


class LoopRecovered(Event, frozen=True, kw_only=True):
    """The event loop turns again after the time `after`. Reported once for each `LoopStalled`, with the same job."""

    after: timedelta
    job_id: JobId | None = None
    task: str = ""
    queue: str = ""
    attempt: int = 0
