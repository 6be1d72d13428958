"""Why a job waits, by what the store knows of its queue and of the workers."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import NodeRecord, Service
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import AWAITS_ITS_TIME, State
from deeper_tasks.domain.waiting import WaitingFor, WaitReason
from deeper_tasks.manager.live_workers import Fleet

_WAITING = AWAITS_ITS_TIME | {State.PENDING}


def is_unbegun(job: Job) -> bool:
    """Whether a worker has claimed the job and, as far as the store knows, has not begun it."""
    return job.state is State.RUNNING and job.attempted_at is None


def may_wait(job: Job) -> bool:
    """Whether a job has not begun, and something may hold it."""
    return job.state in _WAITING or is_unbegun(job)


def waiting_for(job: Job, service: Service, *, lease: timedelta) -> WaitingFor | None:
    """Return why a job that has not started waits; None if a worker has a slot for it, or the reason is unknown."""
    fleet = Fleet(service.nodes, service.held, now=service.now, lease=lease)
    if is_unbegun(job):
        return _claimed(job, fleet)
    is_due = job.state not in AWAITS_ITS_TIME or job.scheduled_at <= service.now
    # Workers that do not know its task release it again and again, so its due time is not the reason.
    if not is_due and (job.unknown_since is None or not _is_unknown(service, fleet.serving(job.queue))):
        return _until(job.scheduled_at, now=service.now)
    if service.paused_at is not None:
        message = f"the queue {job.queue!r} is paused, since {_clock(service.paused_at)}"
        return WaitingFor(reason=WaitReason.QUEUE_PAUSED, message=message)
    return _unclaimed(job, service, fleet)


def _claimed(job: Job, fleet: Fleet) -> WaitingFor:
    if any(record.node.id == job.node for record in fleet.living):
        message = f"the worker {job.node} has claimed it and not begun it yet: it waits there for its turn"
    elif fleet.living:
        message = f"the worker {job.node}, which has claimed it, is silent or dead; a live one takes it within a lease"
    else:
        return _unserved(job, fleet)
    return WaitingFor(reason=WaitReason.CLAIMED, message=message)


def _unclaimed(job: Job, service: Service, fleet: Fleet) -> WaitingFor | None:
    serving = fleet.serving(job.queue)
    if not serving:
        return _unserved(job, fleet)
    if _is_unknown(service, serving):
        message = f"no live worker that serves the queue {job.queue!r} knows the task {job.task!r}"
        return WaitingFor(reason=WaitReason.TASK_UNKNOWN, message=message)
    if not fleet.idle_for(job.queue):
        return _busy(job, serving, slots=fleet.slots_for(job.queue))
    if not job.is_quarantined:
        return None
    return WaitingFor(reason=WaitReason.QUARANTINE, message="it waits for a place in quarantine")


def _is_unknown(service: Service, serving: list[NodeRecord]) -> bool:
    """Whether workers serve the queue, all have registered their tasks, and none knows the job's task."""
    return bool(serving) and not any(service.knows_task.get(each.node.id, True) for each in serving)


def _until(moment: datetime, *, now: datetime) -> WaitingFor:
    message = f"not due until {_clock(moment)}, in {readable(moment - now)}"
    return WaitingFor(reason=WaitReason.NOT_DUE, message=message, until=moment)


def _unserved(job: Job, fleet: Fleet) -> WaitingFor:
    message = f"no live worker serves the queue {job.queue!r}"
    if not fleet.living:
        message += "; none is alive at all"
    return WaitingFor(reason=WaitReason.QUEUE_UNSERVED, message=message)


def _busy(job: Job, serving: list[NodeRecord], *, slots: int) -> WaitingFor:
    workers = "1 worker" if len(serving) == 1 else f"{len(serving)} workers"
    all_slots = "the only slot" if slots == 1 else f"all {slots} slots"
    is_busy = "is" if slots == 1 else "are"
    message = f"{all_slots} for the queue {job.queue!r}, of {workers}, {is_busy} busy"
    return WaitingFor(reason=WaitReason.SLOTS_BUSY, message=message)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
