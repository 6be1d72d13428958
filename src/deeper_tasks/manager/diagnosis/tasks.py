"""The tasks that jobs wait for: those that no worker knows, and jobs whose arguments fit no worker's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from shlex import quote

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, warning
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.queue_patterns import ServedQueues
from deeper_tasks.domain.state import State
from deeper_tasks.manager.diagnosis.store_snapshot import MOST_READ, StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import count

Knows = Callable[[str, str], bool | None]
"""Whether a live worker of a queue knows a task; None if no worker lives, or not all have registered their tasks."""


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return the findings about the tasks of waiting jobs and recurring tasks, by what the workers have registered."""
    knows = _knowledge(snapshot)
    return [*_unknown(snapshot, knows), *_unfit(snapshot), *_recurring(snapshot, knows)]


def _unknown(snapshot: StoreSnapshot, knows: Knows) -> Iterator[Finding]:
    def is_unknown(job: Job) -> bool:
        known = knows(job.queue, job.task)
        return known is False or (known is None and job.unknown_since is not None)

    for task, jobs in _by_task(snapshot.waiting, is_unknown):
        message = f"{_waiting(snapshot, jobs)} for the task {task!r}, which no live worker knows that serves the queue"
        grace = snapshot.settings.unknown_task_grace_seconds
        # A scheduled job may find a worker when it is due; the other jobs cannot run now.
        is_held = any(job.state is State.PENDING or job.unknown_since is not None for job in jobs)
        yield (fault if is_held else warning)(
            "task of no worker",
            message
            + _given_back(snapshot, [job.unknown_since for job in jobs], grace, setting="unknown_task_grace_seconds"),
            f"start workers anew with the code that has it, or: deeper cancel --task {quote(task)}",
            subject=task,
        )


def _unfit(snapshot: StoreSnapshot) -> Iterator[Finding]:
    for task, jobs in _by_task(snapshot.waiting, lambda job: job.unfit_since is not None):
        message = f"{_waiting(snapshot, jobs)} for code of the task {task!r} that their arguments fit"
        grace = snapshot.settings.deploy_grace_seconds
        yield fault(
            "unfit jobs",
            message + _given_back(snapshot, [job.unfit_since for job in jobs], grace, setting="deploy_grace_seconds"),
            f"start workers anew with code that takes these arguments, or: deeper cancel --task {quote(task)}",
            subject=task,
        )


def _recurring(snapshot: StoreSnapshot, knows: Knows) -> Iterator[Finding]:
    for entry in snapshot.book.entries:
        name, spec = entry.schedule.name, entry.schedule.spec
        if not entry.damage and entry.paused_at is None and knows(spec.queue, spec.task) is False:
            yield warning(
                "recurring task of no worker",
                f"the recurring task {name!r} is of {spec.task!r}, which no live worker knows that serves the queue "
                f"{spec.queue!r}",
                "start workers anew with the code that has it, or remove the entry: "
                f"deeper schedules remove {quote(name)}",
                subject=name,
            )


def _knowledge(snapshot: StoreSnapshot) -> Knows:
    served = {NodeId(each.id): ServedQueues(each.queues) for each in snapshot.overview.workers if each.is_alive}

    @cache
    def knows(queue: str, task: str) -> bool | None:
        registered = snapshot.knowing.get(task, {})
        serving = [worker for worker, queues in served.items() if queue in queues]
        if any(registered.get(worker) for worker in serving):
            return True
        return False if serving and all(worker in registered for worker in serving) else None

    return knows


def _by_task(jobs: Iterable[Job], is_wanted: Callable[[Job], bool]) -> list[tuple[str, list[Job]]]:
    """Return the wanted jobs by their tasks, the task with the most jobs first."""
    found: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if not job.damage and is_wanted(job):
            found[job.task].append(job)
    return sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))


def _waiting(snapshot: StoreSnapshot, jobs: list[Job]) -> str:
    among = "" if len(snapshot.waiting) < MOST_READ else f" among the first {MOST_READ:,}"
    return f"{count(len(jobs), 'job')}{among} {'waits' if len(jobs) == 1 else 'wait'}"


def _given_back(snapshot: StoreSnapshot, marks: Iterable[datetime | None], grace: float, *, setting: str) -> str:
    """Say since when workers give jobs back, and when the first of them fails, as far as these settings tell."""
    first = min((mark for mark in marks if mark is not None), default=None)
    if first is None:
        return ""
    limit = timedelta(seconds=grace)
    left = limit - (snapshot.now - first)
    fails = f"in {readable(left)}" if left > timedelta(0) else "when a worker takes it next"
    given_back = f"given back since {first:%Y-%m-%d %H:%M:%S} UTC"
    return f"; {given_back}, the first fails {fails} ({setting} is {readable(limit)} here)"
