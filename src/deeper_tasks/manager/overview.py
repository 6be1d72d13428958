"""The overview: the queues and the workers one by one, as an operator looks at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import Counts, NodeRecord, QueueCounts
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.queue_patterns import ServedQueues, is_pattern
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.domain.view import View
from deeper_tasks.worker.host import is_alive


class QueueOverview(View, frozen=True, kw_only=True):
    """
    One queue. `later` counts jobs that are scheduled, blocked or to be retried; `today` is the day in UTC.

    `workers` and `slots` are those of living workers that serve it, by its name or by a pattern; the slots of
    a pattern are shared by all its queues. `damage` names what is stored of its settings and cannot be read.
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
    damage: tuple[Damage, ...] = ()


class WorkerOverview(View, frozen=True, kw_only=True):
    """
    One worker process. `queues` has the slots of each queue, or pattern of queues; `busy` is as of its last beat.

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
    """All queues and all workers at `now`, the store's time."""

    now: datetime
    queues: tuple[QueueOverview, ...]
    workers: tuple[WorkerOverview, ...]


def to_overview(counts: Counts, *, lease: timedelta) -> Overview:
    """Return the counts as an operator looks at them. A queue that only a worker knows by its name is there too."""
    workers = tuple(_worker(record, now=counts.now, lease=lease) for record in counts.nodes)
    living = [(worker.queues, ServedQueues(worker.queues)) for worker in _living(workers)]
    named = {entry for queues, _ in living for entry in queues if not is_pattern(entry)}
    serving: Counter[str] = Counter()
    slots: Counter[str] = Counter()
    for name in counts.queues.keys() | named:
        for queues, served in living:
            entry = served.entry_for(name)
            if entry is not None:
                serving[name] += 1
                slots[name] += queues[entry]
    nothing = QueueCounts(by_state={}, ended_today={})
    return Overview(
        now=counts.now,
        queues=tuple(
            _queue(name, counts.queues.get(name, nothing), workers=serving[name], slots=slots[name])
            for name in sorted(counts.queues.keys() | named)
        ),
        workers=workers,
    )


def _living(workers: Iterable[WorkerOverview]) -> Iterable[WorkerOverview]:
    return (worker for worker in workers if worker.is_alive)


def _worker(record: NodeRecord, *, now: datetime, lease: timedelta) -> WorkerOverview:
    node = record.node
    return WorkerOverview(
        id=node.id,
        name=node.name,
        host=node.host,
        pid=node.pid,
        queues=node.queues,
        slots=sum(node.queues.values()),
        busy=record.busy,
        started_at=record.registered_at,
        beat_at=record.beat_at,
        is_alive=is_alive(record, now=now, lease=lease),
        damage=record.damage,
    )


def _queue(name: str, counts: QueueCounts, *, workers: int, slots: int) -> QueueOverview:
    def count(*states: State) -> int:
        return sum(counts.by_state.get(state, 0) for state in states)

    return QueueOverview(
        name=name,
        pending=count(State.PENDING),
        running=count(State.RUNNING),
        later=count(State.SCHEDULED, State.BLOCKED, State.RETRYABLE),
        dead=count(*DEAD_LETTER),
        completed_today=counts.ended_today.get(State.COMPLETED, 0),
        failed_today=sum(counts.ended_today.get(state, 0) for state in DEAD_LETTER),
        paused_at=counts.paused_at,
        workers=workers,
        slots=slots,
        damage=counts.damage,
    )
