"""The jobs: dead letters and error rates, runs that outlast their timeout, tasks that no worker knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from shlex import quote

from msgspec import UNSET

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning
from deeper_tasks.domain.job import Job
from deeper_tasks.errors import TaskNotFoundError
from deeper_tasks.manager.diagnosis.store_snapshot import MOST_READ, StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import count, names, share
from deeper_tasks.tasks.registry import AnyTask

_ENOUGH_ENDED, _MANY_FAIL = 10, 0.1
"""The number of ends in an hour, and the share of failures in them, from which on a queue is reported."""
_TOLERATED = timedelta(seconds=30)
"""How long a job may take to stop, and its worker to say so, after its timeout."""


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return what is found about the jobs."""
    return [*_dead_letters(snapshot), *_error_rates(snapshot), *_overdue(snapshot), *_unknown(snapshot)]


def _dead_letters(snapshot: StoreSnapshot) -> Iterator[Finding]:
    today = sum(queue.failed_today for queue in snapshot.overview.queues)
    if today:
        message = f"{count(today, 'dead letter')} since midnight (UTC)"
        yield warning("dead letters", message, "see why: deeper list --dead; run them again: deeper retry --all-dead")
    else:
        yield fine("dead letters", "none since midnight (UTC)")


def _error_rates(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Yield the share of failures. A queue in which few jobs ended is left out, for its share means nothing."""
    queues, overview = snapshot.overview.queues, snapshot.overview
    last_hour = sum(queue.ended_last_hour for queue in queues)
    message = (
        f"{share(overview.error_rate_today)} of {count(sum(queue.ended_today for queue in queues), 'job')} "
        f"that ended today, {share(overview.error_rate_last_hour)} of {last_hour:,} in the last hour"
    )
    failing = [
        queue
        for queue in queues
        if queue.ended_last_hour >= _ENOUGH_ENDED and (queue.error_rate_last_hour or 0) >= _MANY_FAIL
    ]
    for queue in failing:
        yield warning(
            "error rate",
            f"in the queue {queue.name!r} {queue.failed_last_hour:,} of {queue.ended_last_hour:,} jobs that ended in "
            f"the last hour failed ({share(queue.error_rate_last_hour)})",
            f"see why: deeper list --dead --queue {quote(queue.name)}",
        )
    if not failing and overview.error_rate_today is not None:
        yield fine("error rate", message)


def _overdue(snapshot: StoreSnapshot) -> Iterator[Finding]:
    for job in snapshot.running:
        limit = _timeout(snapshot, job)
        if job.attempted_at is None or limit is None:
            continue
        ran = snapshot.now - job.attempted_at
        if ran > limit + _TOLERATED:
            yield warning(
                "overdue job",
                f"{job.id} ({job.task}) has run for {readable(ran)}, "
                f"beyond {_whose_timeout(snapshot, job)} of {readable(limit)}",
                f"its worker is dead, or its thread does not stop and keeps a slot; restart the worker {job.node}",
                subject=job.id,
            )


def _whose_timeout(snapshot: StoreSnapshot, job: Job) -> str:
    if job.options.timeout is not None or _task(snapshot, job.task) is not None:
        return "its timeout"
    return "the settings' timeout (its task's own is known only with --app)"


def _timeout(snapshot: StoreSnapshot, job: Job) -> timedelta | None:
    """Return how long an attempt may take; None: without limit. The settings decide where the application does not."""
    if job.options.timeout is not None:
        return job.options.timeout or None
    task = _task(snapshot, job.task)
    if task is not None and task.request.timeout is not UNSET:
        return task.request.timeout or None
    seconds = snapshot.settings.default_timeout_seconds
    return None if seconds is None else timedelta(seconds=seconds)


def _unknown(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Yield the tasks of waiting jobs that the application does not have, if it has any tasks."""
    if not any(True for _ in snapshot.registry):
        return
    waiting = Counter(job.task for job in snapshot.waiting if not is_known(snapshot, job.task))
    if waiting:
        among = "" if len(snapshot.waiting) < MOST_READ else f" among the first {MOST_READ:,}"
        message = f"{count(waiting.total(), 'job')}{among} waiting for tasks that the application does not have"
        yield warning(
            "unknown tasks",
            f"{message}: {names(waiting)}",
            "deploy the code that has them, import its modules with the manager's, or deeper cancel --task NAME",
        )
    else:
        yield fine(
            "tasks", f"the application has {count(len(list(snapshot.registry)), 'task')}, and all that jobs wait for"
        )


def is_known(snapshot: StoreSnapshot, task: str) -> bool:
    """Whether the application has a task: registered, or a function of a module that the settings allow."""
    return _task(snapshot, task) is not None


def _task(snapshot: StoreSnapshot, name: str) -> AnyTask | None:
    with suppress(TaskNotFoundError):  # an allowed module that cannot be imported
        return snapshot.registry.resolve_for_run(name)
    return None
