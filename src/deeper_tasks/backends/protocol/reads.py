"""Reads: the role of being looked at, by lists, counts, nodes and queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from deeper_tasks.backends.protocol.values import JobFilter, NodeRecord, QueueSettings
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State


class SortKey(StrEnum):
    """
    The field that a list of jobs is sorted by; the id decides between equals.

    Jobs without the value (not finished) come last, in either direction.
    """

    INSERTED_AT = "inserted_at"
    SCHEDULED_AT = "scheduled_at"
    FINISHED_AT = "finished_at"


class Cursor(Struct, frozen=True, kw_only=True):
    """
    A position in a sorted list: the sort key's value and the id of the last job seen.

    `stored` is the value as the store writes it, given only where no `datetime` can hold it.
    """

    value: datetime | None
    id: JobId
    stored: str | None = None


class JobQuery(Struct, frozen=True, kw_only=True):
    """A page of a list: of the jobs that `filter` selects, `limit` after `offset` or after `after`."""

    filter: JobFilter = JobFilter()
    sort_by: SortKey = SortKey.INSERTED_AT
    is_descending: bool = True
    limit: int = 50
    offset: int = 0
    after: Cursor | None = None


class JobList(Struct, frozen=True, kw_only=True):
    """
    A page of jobs. `total` is exact for filters of states and queue.

    With other conditions a store may stop counting at 10,000, and give up after
    looking at 50,000 jobs; `total_is_exact` says whether that sufficed. If not,
    there are at least `total`.
    """

    jobs: tuple[Job, ...]
    total: int
    total_is_exact: bool
    next: Cursor | None


class QueueCounts(Struct, frozen=True, kw_only=True):
    """
    The jobs of a queue by state, and how many ended today (UTC) and in the last hour, by state.

    Ends are counted by ten minutes: the last hour is the current ten minutes and the six before. An end stays
    counted when its job is retried or deleted, and a job that ends twice counts twice. A count of zero may be left out.
    """

    by_state: dict[State, int]
    ended_today: dict[State, int]
    ended_last_hour: dict[State, int] = {}
    paused_at: datetime | None = None
    damage: tuple[Damage, ...] = ()


class HeldJobs(Struct, frozen=True, kw_only=True):
    """
    The jobs of a queue that a node has claimed and not settled, and how many of them it is known to have begun.

    The others wait in the worker, or are so short that it does not report their start.
    """

    node: NodeId
    queue: str
    claimed: int
    begun: int


class Counts(Struct, frozen=True, kw_only=True):
    """
    The statistics of a store, by queue. The cost does not grow with the number of jobs that no worker holds.

    It names each queue that has jobs, had an end today or in the last hour, or for which something is set.
    """

    queues: dict[str, QueueCounts]
    nodes: tuple[NodeRecord, ...]
    now: datetime
    held: tuple[HeldJobs, ...] = ()


class Service(Struct, frozen=True, kw_only=True):
    """
    The facts that decide when a job of a queue is claimed: the pause of the queue, all nodes, and what they hold.

    `knows_task` says of each node that registered its tasks whether the job's is among them.
    """

    paused_at: datetime | None
    nodes: tuple[NodeRecord, ...]
    held: tuple[HeldJobs, ...]
    knows_task: dict[NodeId, bool]
    now: datetime


class Reads(Protocol):
    """A store that can be looked at. Nothing here changes anything."""

    async def find(self, query: JobQuery) -> JobList:
        """Return a page of jobs."""

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        """
        Return, for each beginning, the first `limit` ids of jobs that begin so, in their order.

        A beginning is the first part of an id as the store writes it; no job has any other text as its beginning.
        It is found by a range of the key, however many jobs there are, and whatever else of their rows is damaged.
        """

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        """Return the counts of every queue, the nodes and what they hold; read no job that no node holds."""

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        """Return what decides when a job of this queue and task is claimed; read no job that no node holds."""

    async def nodes(self) -> list[NodeRecord]:
        """Return the registered nodes."""

    async def queues(self) -> list[QueueSettings]:
        """Return the queues for which something is set."""
