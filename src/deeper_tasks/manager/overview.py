"""The overview: the queues and the workers one by one, as an operator looks at them."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import Counts, NodeRecord, QueueCounts
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.queue_patterns import is_pattern
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.domain.view import View
from deeper_tasks.manager.end_counts import Ends
from deeper_tasks.manager.live_workers import Fleet, by_state


class QueueOverview(View, frozen=True, kw_only=True):
    """
    One queue. `later` counts jobs that are scheduled, blocked or to be retried; `today` is the day in UTC.

    A job that a worker has claimed ahead of its turn counts as pending. `ended` and `failed` count ends, and the error
    rates are the share of failures in them, all as in `QueueStatistics`. `workers` and `slots` are those of living
    workers that serve it, by its name or by a pattern; the slots of a pattern are shared by all its queues. `damage`
    names what is stored of its settings and cannot be read.
    """

    name: str
    pending: int
    running: int
    later: int
    dead: int
    completed_today: int
    failed_today: int
    paused_at: datetime | None
    workers: int
    slots: int
    ended_today: int = 0
    ended_last_hour: int = 0
    failed_last_hour: int = 0
    error_rate_today: float | None = None
    error_rate_last_hour: float | None = None
    damage: tuple[Damage, ...] = ()


class WorkerOverview(View, frozen=True, kw_only=True):
    """
    One worker process. `queues` has the slots of each queue, or pattern of queues; `busy` is how many of its slots run
    a job.

    It is not alive when its process has ended, or its beat is older than a lease by the store's clock.
    `damage` names what is stored of it and cannot be read.
    """

    id: str
    name: str
    host: str
    pid: int
    queues: dict[str, int]
    slots: int
    busy: int
    started_at: datetime
    beat_at: datetime
    is_alive: bool
    damage: tuple[Damage, ...] = ()


class Overview(View, frozen=True, kw_only=True):
    """All queues and all workers at `now`, the store's time. The error rates are those of all queues together."""

    now: datetime
    queues: tuple[QueueOverview, ...]
    workers: tuple[WorkerOverview, ...]
    error_rate_today: float | None = None
    error_rate_last_hour: float | None = None


def to_overview(counts: Counts, *, lease: timedelta) -> Overview:
    """Return the counts as an operator looks at them. A queue that only a worker knows by its name is there too."""
    fleet = Fleet(counts.nodes, counts.held, now=counts.now, lease=lease)
    named = {entry for record in fleet.living for entry in record.node.queues if not is_pattern(entry)}
    nothing = QueueCounts(by_state={}, ended_today={})
    living = {record.node.id for record in fleet.living}
    return Overview(
        now=counts.now,
        queues=tuple(
            _queue(name, counts.queues.get(name, nothing), fleet) for name in sorted(counts.queues.keys() | named)
        ),
        workers=tuple(_worker(record, fleet, is_alive=record.node.id in living) for record in counts.nodes),
        error_rate_today=Ends.of(*(queue.ended_today for queue in counts.queues.values())).error_rate,
        error_rate_last_hour=Ends.of(*(queue.ended_last_hour for queue in counts.queues.values())).error_rate,
    )


def _worker(record: NodeRecord, fleet: Fleet, *, is_alive: bool) -> WorkerOverview:
    node = record.node
    return WorkerOverview(
        id=node.id,
        name=node.name,
        host=node.host,
        pid=node.pid,
        queues=node.queues,
        slots=sum(node.queues.values()),
        busy=fleet.busy_of(node.id),
        started_at=record.registered_at,
        beat_at=record.beat_at,
        is_alive=is_alive,
        damage=record.damage,
    )


def _queue(name: str, counts: QueueCounts, fleet: Fleet) -> QueueOverview:
    jobs = by_state(counts, running=fleet.running(name))
    today, last_hour = Ends.of(counts.ended_today), Ends.of(counts.ended_last_hour)

    def count(*states: State) -> int:
        return sum(jobs[state] for state in states)

    return QueueOverview(
        name=name,
        pending=count(State.PENDING),
        running=count(State.RUNNING),
        later=count(State.SCHEDULED, State.BLOCKED, State.RETRYABLE),
        dead=count(*DEAD_LETTER),
        completed_today=counts.ended_today.get(State.COMPLETED, 0),
        failed_today=today.failed,
        paused_at=counts.paused_at,
        workers=len(fleet.serving(name)),
        slots=fleet.slots_for(name),
        ended_today=today.ended,
        ended_last_hour=last_hour.ended,
        failed_last_hour=last_hour.failed,
        error_rate_today=today.error_rate,
        error_rate_last_hour=last_hour.error_rate,
        damage=counts.damage,
    )
