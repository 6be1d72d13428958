"""Damaged rows: rows that the store holds and nothing can read. Some are named, all are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from shlex import quote

from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, JobQuery, Scanning
from deeper_tasks.backends.reading import COUNTERS
from deeper_tasks.domain.damage import Damage, described
from deeper_tasks.domain.finding import Finding, fine, warning
from deeper_tasks.domain.job import Job
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import count
from deeper_tasks.manager.views import to_status

MOST_NAMED = 20

_CHECK = "damaged rows"
_OF_JOB = (
    "a worker fails such a job when it claims it; see what can be read: deeper status {name}; then mend the row, or "
    "remove it: deeper delete {name}"
)
_OF_ENTRY = (
    "it fires nothing: register it again, by a start of the worker that declares it or by schedule_recurring_task, or "
    "remove it: deeper schedules remove {name}"
)
_OF_HISTORY = "it changes nothing: removing the recurring task removes its history too"
_OF_QUEUE = "set it anew: deeper queues resume {name}, or deeper queues pause {name}"
_OF_COUNTERS = "see what 'deeper doctor --deep' says of the counters, and how to mend them"
_OF_WORKER = "its jobs are given to others if it falls silent for a lease; a restart of the worker registers it anew"


class Damaged(Struct, frozen=True, kw_only=True):
    """A damaged row: its kind and name, its damage, and how to mend it."""

    what: str
    name: str
    damage: tuple[Damage, ...]
    remedy: str

    def finding(self) -> Finding:
        """Return the row as a finding."""
        return warning(
            _CHECK,
            f"{self.what} {self.name}: {described(self.damage)}",
            self.remedy.format(name=quote(self.name)),
            subject=self.name,
        )


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return the damaged rows among those that the other checks read, because they may mislead these checks."""
    jobs = {job.id: job for job in (*snapshot.running, *snapshot.waiting, *snapshot.oldest.values()) if job.damage}
    damaged = [*_of_scene(snapshot), *(_job(job, job.damage) for job in jobs.values())]
    return _limited(damaged[:MOST_NAMED], more=max(0, len(damaged) - MOST_NAMED))


async def examine_deeply(backend: Backend, snapshot: StoreSnapshot) -> list[Finding]:
    """Return the damaged rows among all rows, which are read batch by batch."""
    named = list(_of_scene(snapshot))
    number = len(named)
    jobs = 0
    async for job in _all_jobs(backend):
        jobs += 1
        # As a reader sees it: the store looks neither into arguments nor into results.
        damage = to_status(job).damage
        if damage:
            number += 1
            if len(named) < MOST_NAMED:
                named.append(_job(job, damage))
    for entry in snapshot.book.entries:
        damage = tuple(each for run in await backend.schedule_runs(entry.schedule.name) for each in run.damage)
        if damage:
            number += 1
            named.append(
                Damaged(
                    what="the history of the recurring task",
                    name=entry.schedule.name,
                    damage=damage[:1],
                    remedy=_OF_HISTORY,
                )
            )
    named = named[:MOST_NAMED]
    return _limited(named, more=number - len(named)) or [fine(_CHECK, f"none: {count(jobs, 'job')} can be read")]


async def _all_jobs(backend: Backend) -> AsyncIterator[Job]:
    if isinstance(backend, Scanning):
        # Lists go by the counters and the states, which may be what is damaged.
        jobs: list[Job] = await backend.walk(after=None, limit=backend.capabilities.max_batch)
        while jobs:
            for job in jobs:
                yield job
            jobs = await backend.walk(after=jobs[-1].id, limit=backend.capabilities.max_batch)
        return
    query = JobQuery(is_descending=False, limit=backend.capabilities.max_batch)
    while True:
        page = await backend.find(query)
        for job in page.jobs:
            yield job
        if page.next is None:
            return
        query = JobQuery(is_descending=False, limit=backend.capabilities.max_batch, after=page.next)


def _of_scene(snapshot: StoreSnapshot) -> Iterator[Damaged]:
    for entry in snapshot.book.entries:
        if entry.damage:
            yield Damaged(what="the recurring task", name=entry.schedule.name, damage=entry.damage, remedy=_OF_ENTRY)
    for queue in snapshot.overview.queues:
        settings = tuple(each for each in queue.damage if each.field != COUNTERS)
        counters = tuple(each for each in queue.damage if each.field == COUNTERS)
        if settings:
            yield Damaged(what="the settings of the queue", name=queue.name, damage=settings, remedy=_OF_QUEUE)
        if counters:
            yield Damaged(what="the counters of the queue", name=queue.name, damage=counters, remedy=_OF_COUNTERS)
    for worker in snapshot.overview.workers:
        if worker.damage:
            yield Damaged(what="the worker", name=worker.id, damage=worker.damage, remedy=_OF_WORKER)


def _job(job: Job, damage: tuple[Damage, ...]) -> Damaged:
    return Damaged(what=f"the {job.state} job", name=job.id, damage=damage, remedy=_OF_JOB)


def _limited(named: list[Damaged], *, more: int) -> list[Finding]:
    findings = [each.finding() for each in named]
    if more:
        findings.append(
            warning(_CHECK, f"and {count(more, 'damaged row')} more", "mend or remove these, and look again")
        )
    return findings
