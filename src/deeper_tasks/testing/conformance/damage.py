"""Conformance: rows that cannot be read, and that harm no other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

import pytest

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, QueueSettings, Retention, SortKey
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import JobOptions, JobSpec, Progress
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.settlement import End, Report, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    every_job,
    in_order,
    join,
    look,
    new_id,
    new_token,
    only,
    put,
    put_many,
    rescue_all,
    settlement,
    state_of,
    take,
)

TAGGED = JobOptions(tags=("red",), meta={"a": 1})


class Harm(StrEnum):
    """How a field is damaged. A store's fixture writes what comes nearest to it there."""

    TRUNCATED = "truncated"
    """A document that ends in the middle."""
    OTHER_SHAPE = "of another shape"
    """A document that is JSON, and nothing that is expected there."""
    TOO_DEEP = "too deep"
    """A document of 5,000 levels."""
    TOO_LATE = "too late"
    """A moment after the calendar's end."""
    TOO_EARLY = "too early"
    """A moment before the calendar's start."""


DOCUMENT_HARMS = (Harm.TRUNCATED, Harm.OTHER_SHAPE, Harm.TOO_DEEP)
MOMENT_HARMS = (Harm.TOO_LATE, Harm.TOO_EARLY)

Damager = Callable[[str, str, str, Harm], Awaitable[None]]
"""
Damages one field of a row behind the store's back: `await damage("job", job_id, "options", Harm.TRUNCATED)`.

The rows are those of a `job`, `node`, `queue` or `schedule`, named by id or
name. Of a job the fields are documents (`options`, `errors`, `progress`, `log`)
and moments (`inserted_at`, `scheduled_at`, `expires_at`, `finished_at`); of a
node and a schedule it is `document`, of a schedule also `next_run`, of a queue
`paused_at`.
"""

DAMAGEABLE = ("options", "errors", "progress", "log")
"""The documents of a job."""


async def some_schedule(backend: Backend, name: str) -> Schedule:
    """Put a schedule of every minute; returns it."""
    spec = JobSpec(task="shop.mails.send", arguments="[[],{}]", queue=QUEUE)
    schedule = Schedule(name=name, recurrence=parse_recurrence("* * * * *"), spec=spec)
    await backend.put_schedule(schedule, now=NOW)
    return schedule


def fields_of(damage: tuple[Damage, ...]) -> list[str]:
    """Return the names of the fields that are damaged."""
    return [each.field for each in damage]


class DamagedJobsConformance:
    """
    The contract of a store whose rows can be damaged: by hand, by another program, by a disk.

    Its test class gives it the fixture `damage`, a `Damager`.
    """

    # claims

    @pytest.mark.parametrize("queue", [QUEUE, QueuePattern(prefix="")], ids=["one queue", "a pattern"])
    async def test_a_claim_marks_damaged_options_and_leaves_the_neighbours_whole(
        self, backend: Backend, damage: Damager, queue: str | QueuePattern
    ) -> None:
        ids = await put_many(backend, 5, options=TAGGED)
        for job_id, harm in zip(ids[1:], DOCUMENT_HARMS, strict=False):
            await damage("job", job_id, "options", harm)
        node, token = await join(backend), new_token()
        jobs = await take(backend, node, queue=queue, limit=10, token=token)
        assert [job.id for job in jobs] == ids
        assert [fields_of(job.damage) for job in jobs] == [[], ["options"], ["options"], ["options"], []]
        assert all(job.has_started for job in jobs)
        assert [job.attempt for job in jobs] == [1] * 5
        assert jobs[0].options == jobs[4].options == TAGGED
        assert (jobs[1].task, jobs[1].arguments) == (jobs[0].task, jobs[0].arguments)
        assert await take(backend, node, queue=queue, limit=10, token=token) == jobs

    async def test_a_claim_marks_moments_that_no_calendar_has(self, backend: Backend, damage: Damager) -> None:
        ids = await put_many(backend, 4, expires_in=DAY)
        fields = ["inserted_at", "scheduled_at", "expires_at"]
        for job_id, field in zip(ids, fields, strict=False):
            await damage("job", job_id, field, Harm.TOO_LATE)
        node, token = await join(backend), new_token()
        jobs = {job.id: job for job in await take(backend, node, limit=10, token=token)}
        assert [fields_of(jobs[job_id].damage) for job_id in ids] == [*([field] for field in fields), []]
        assert {job.id: job for job in await take(backend, node, limit=10, token=token)} == jobs

    async def test_a_claim_finds_what_comes_after_a_damaged_job(self, backend: Backend, damage: Damager) -> None:
        hurt = await put(backend)
        await damage("job", hurt, "scheduled_at", Harm.TOO_LATE)
        node = await join(backend)
        [job] = await take(backend, node)
        assert fields_of(job.damage) == ["scheduled_at"]
        later = await put(backend)
        assert [job.id for job in await take(backend, node)] == [later]

    async def test_the_end_of_a_damaged_job_is_written_beside_the_others(
        self, backend: Backend, damage: Damager
    ) -> None:
        node = await join(backend)
        ids = await put_many(backend, 4)
        jobs = await take(backend, node, limit=4)
        for job_id, harm in zip(ids, DOCUMENT_HARMS, strict=False):
            for field in DAMAGEABLE:
                await damage("job", job_id, field, harm)
        ends = [settlement(job, End.FAIL, error=BOOM) for job in jobs]
        settled = await backend.settle(ends, now=NOW)
        assert settled == [Settled(id=job_id, state=State.FAILED) for job_id in ids]
        assert await backend.settle(ends, now=NOW) == settled
        for job_id in ids:
            job = await look(backend, job_id)
            assert [error.message for error in job.errors] == ["boom"]

    # readers

    async def test_a_damaged_job_is_found_with_what_can_be_read(self, backend: Backend, damage: Damager) -> None:
        whole = await put(backend, options=TAGGED)
        for field in DAMAGEABLE:
            for harm in DOCUMENT_HARMS:
                hurt = await put(backend, options=TAGGED)
                await damage("job", hurt, field, harm)
                job = await look(backend, hurt)
                assert fields_of(job.damage) == [field]
                assert all(each.reason for each in job.damage)
                assert (job.state, job.task, job.inserted_at) == (State.PENDING, "shop.mails.send", NOW)
                assert (job.errors, job.progress, job.log) == ((), None, ())
                assert job.options == (JobOptions() if field == "options" else TAGGED)
        found = await every_job(backend)
        assert [job.id for job in found if not job.damage] == [whole]
        assert found == [await backend.get(job.id) for job in found]
        assert len((await backend.find(JobQuery(filter=JobFilter(tag="red")))).jobs) == len(found) - len(DOCUMENT_HARMS)

    async def test_a_list_has_every_job_once_whatever_its_moments_are(self, backend: Backend, damage: Damager) -> None:
        ids = await put_many(backend, 13, expires_in=DAY)
        cases = [(field, harm) for field in ("inserted_at", "scheduled_at", "expires_at") for harm in MOMENT_HARMS]
        # Two of each: equal ones must not hide one another.
        for job_id, (field, harm) in zip(ids, cases * 2, strict=False):
            await damage("job", job_id, field, harm)
        for key in SortKey:
            for is_descending in (True, False):
                found = await every_job(backend, sort_by=key, is_descending=is_descending, limit=1)
                assert in_order(job.id for job in found) == ids
        damaged = [fields_of((await look(backend, job_id)).damage) for job_id in ids]
        assert damaged == [*([field] for field, _ in cases * 2), []]

    # control and maintenance

    async def test_damaged_jobs_are_promoted_expired_cancelled_retried_pruned_and_deleted(
        self, backend: Backend, damage: Damager
    ) -> None:
        async def put_three(**fields: Any) -> set[JobId]:
            ids = await put_many(backend, 3, **fields)
            for job_id, harm in zip(ids, DOCUMENT_HARMS, strict=True):
                for field in DAMAGEABLE:
                    await damage("job", job_id, field, harm)
            return set(ids)

        due, expiring = await put_three(delay=SECOND), await put_three(expires_in=SECOND)
        unwanted = await put_three(delay=DAY)
        assert (await backend.promote(now=NOW + MINUTE)).count == 3
        assert {job.id for job in await backend.expire(now=NOW + MINUTE)} == expiring
        for job_id in expiring:
            assert [error.kind for error in (await look(backend, job_id)).errors] == ["Expired"]
        scheduled = JobFilter(states=frozenset({State.SCHEDULED}))
        assert {job.id for job in await backend.cancel(scheduled, reason="no", now=NOW + MINUTE)} == unwanted
        assert {job.id for job in await backend.retry(only(*expiring), now=NOW + MINUTE)} == expiring
        assert await backend.prune(Retention(), now=NOW + 31 * DAY) == 3
        assert set(await backend.delete(JobFilter())) == due | expiring

    async def test_a_rescue_takes_damaged_jobs_from_a_damaged_node(self, backend: Backend, damage: Damager) -> None:
        node = await join(backend)
        ids = await put_many(backend, 4)
        await take(backend, node, limit=4)
        for job_id, harm in zip(ids, DOCUMENT_HARMS, strict=False):
            for field in DAMAGEABLE:
                await damage("job", job_id, field, harm)
        await damage("node", node, "document", Harm.TRUNCATED)
        assert set((await backend.beat(node, now=NOW)).held) == set(ids)
        assert {job.id for job in await rescue_all(backend, node, now=NOW)} == set(ids)
        for job_id in ids:
            assert [error.kind for error in (await look(backend, job_id)).errors] == ["WorkerLost"]
        assert await backend.nodes() == []

    async def test_a_job_due_beyond_the_calendar_does_not_keep_the_others_from_their_time(
        self, backend: Backend, damage: Damager
    ) -> None:
        never, later = await put(backend, delay=DAY), await put(backend, delay=MINUTE)
        await damage("job", never, "scheduled_at", Harm.TOO_LATE)
        assert (await backend.promote(now=NOW)).count == 0
        assert (await backend.promote(now=NOW + MINUTE)).count == 1
        assert await state_of(backend, later) is State.PENDING
        # Now it is the only one that waits.
        assert (await backend.promote(now=NOW + MINUTE)).count == 0
        await backend.cancel(only(never), reason="no", now=NOW)
        await backend.retry(only(never), now=NOW)
        assert (await look(backend, never)).scheduled_at == NOW

    async def test_a_job_whose_moments_no_calendar_has_can_be_given_another_due_time(
        self, backend: Backend, damage: Damager
    ) -> None:
        for field in ("scheduled_at", "expires_at"):
            for harm in MOMENT_HARMS:
                job_id = await put(backend, delay=DAY, expires_in=DAY)
                await damage("job", job_id, field, harm)
                for due in (NOW + MINUTE, MINUTE):
                    done = await backend.reschedule(job_id, due=due, now=NOW)
                    assert done is not None
                    assert (done.state, done.scheduled_at) == (State.SCHEDULED, NOW + MINUTE)
                job = await look(backend, job_id)
                assert (job.state, job.scheduled_at) == (State.SCHEDULED, NOW + MINUTE)
                assert await backend.reschedule(job_id, due=None, now=NOW) is not None
                assert await state_of(backend, job_id) is State.PENDING
                await damage("job", job_id, "scheduled_at", harm)
                assert await backend.reschedule(job_id, due=None, now=NOW) is not None

    # nodes and queues

    async def test_a_damaged_node_is_listed_by_its_id(self, backend: Backend, damage: Damager) -> None:
        whole = await join(backend)
        hurt = {await join(backend): harm for harm in DOCUMENT_HARMS}
        for node, harm in hurt.items():
            await damage("node", node, "document", harm)
        records = {record.node.id: record for record in await backend.nodes()}
        assert records.keys() == {whole, *hurt}
        assert [node for node, record in records.items() if not record.damage] == [whole]
        assert len((await backend.statistics(now=NOW)).nodes) == len(records)

    async def test_a_queue_whose_pause_cannot_be_read_is_paused_and_can_be_resumed(
        self, backend: Backend, damage: Damager
    ) -> None:
        node = await join(backend)
        for harm in MOMENT_HARMS:
            await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
            await damage("queue", QUEUE, "paused_at", harm)
            await put(backend)
            [settings] = await backend.queues()
            counts = (await backend.statistics(now=NOW)).queues[QUEUE]
            assert fields_of(settings.damage) == fields_of(counts.damage) == ["paused_at"]
            assert settings.paused_at == counts.paused_at is not None
            assert await take(backend, node) == ()
            await backend.put_queue(QueueSettings(name=QUEUE))
            assert await backend.queues() == [QueueSettings(name=QUEUE)]
            assert len(await take(backend, node)) == 1


class DamagedReportsConformance:
    """The contract of `report` for a job whose rows are damaged; fixture `damage` as in `DamagedJobsConformance`."""

    async def test_a_report_to_a_damaged_job_begins_its_progress_and_log_anew(
        self, backend: Backend, damage: Damager
    ) -> None:
        node = await join(backend)
        ids = await put_many(backend, 4)
        jobs = await take(backend, node, limit=4)
        for job_id, harm in zip(ids, DOCUMENT_HARMS, strict=False):
            for field in DAMAGEABLE:
                await damage("job", job_id, field, harm)
        news = [Report(id=job.id, token=job.token, progress=Progress(fraction=0.5), lines=("here",)) for job in jobs]
        assert await backend.report(news, now=NOW) == ids
        for job_id in ids:
            job = await look(backend, job_id)
            assert (job.log, job.progress) == (("here",), Progress(fraction=0.5))


class DamagedSchedulesConformance:
    """The contract of damaged schedules; fixture `damage` as in `DamagedJobsConformance`."""

    async def test_a_damaged_schedule_fires_nothing_until_it_is_registered_again_and_the_others_go_on(
        self, backend: Backend, damage: Damager
    ) -> None:
        harms = [*(("document", harm) for harm in DOCUMENT_HARMS), *(("next_run", harm) for harm in MOMENT_HARMS)]
        hurt = [await some_schedule(backend, f"{field} {harm}") for field, harm in harms]
        await some_schedule(backend, "whole")
        due = NOW + MINUTE
        book = await backend.schedules(now=due)
        planned = {entry.schedule.name: plan_firing(entry, now=due) for entry in book.entries}
        for schedule, (field, harm) in zip(hurt, harms, strict=True):
            await damage("schedule", schedule.name, field, harm)
        entries = (await backend.schedules(now=due)).entries
        assert [entry.schedule.name for entry in entries] == list(planned)
        assert [entry.schedule.name for entry in entries if not entry.damage] == ["whole"]
        assert [entry.schedule.name for entry in entries if plan_firing(entry, now=due)] == ["whole"]
        fired = {name: await backend.fire(firing, now=due) for name, firing in planned.items() if firing is not None}
        assert [name for name, what in fired.items() if what is not None] == ["whole"]
        for schedule in hurt:
            await _is_put_right_by_registering(backend, schedule, now=due)


class DamageConformance(DamagedJobsConformance, DamagedReportsConformance, DamagedSchedulesConformance):
    """The contract of a store whose rows can be damaged, with all roles; the fixture `damage` is a `Damager`."""


async def _is_put_right_by_registering(backend: Backend, schedule: Schedule, *, now: datetime) -> None:
    name, job_id = schedule.name, new_id()
    paused = await backend.pause_schedule(name, is_paused=True, now=now)
    ran = await backend.run_schedule(name, request_id=job_id, now=now)
    assert paused is not None
    assert ran is not None
    assert fields_of(paused.damage) == fields_of(ran.entry.damage) != []
    assert not ran.job.is_new
    assert await backend.get(job_id) is None
    entry = await backend.put_schedule(schedule, now=now)
    assert (entry.schedule, entry.damage, entry.next_run) == (schedule, (), now + MINUTE)
    firing = plan_firing(entry, now=now + MINUTE)
    assert firing is not None
    assert await backend.fire(firing, now=now + MINUTE) is not None
