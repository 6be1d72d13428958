"""Conformance: recurring entries, and that each of their runs fires once."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.ids import derived_id
from deeper_tasks.domain.job import JobOptions, JobSpec
from deeper_tasks.domain.schedule import (
    Fired,
    Firing,
    MissedRuns,
    Overlap,
    Schedule,
    ScheduleEntry,
    first_run,
    plan_firing,
)
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    join,
    look,
    may_be_ids_of,
    new_id,
    only,
    settle,
    state_of,
    take,
)

SPEC = JobSpec(task="shop.report", arguments="[[],{}]", queue="default", options=JobOptions(tags=("cron",)))
HOURLY = Schedule(name="nightly report, größe", recurrence=parse_recurrence("0 * * * *"), spec=SPEC)
NO_OVERLAP = replace(HOURLY, overlap=Overlap.SKIP)
DUE = NOW + HOUR


async def entry_of(backend: Backend, schedule: Schedule = HOURLY) -> ScheduleEntry:
    """Return the entry of a schedule that must be there."""
    [entry] = [entry for entry in (await backend.schedules(now=NOW)).entries if entry.schedule.name == schedule.name]
    return entry


async def plan(backend: Backend, schedule: Schedule = HOURLY, *, now: datetime = DUE) -> Firing:
    """Plan the firing of an entry that must be due."""
    firing = plan_firing(await entry_of(backend, schedule), now=now)
    assert firing is not None
    return firing


async def due_entry(backend: Backend, schedule: Schedule = HOURLY) -> Firing:
    """Register an entry and plan its first firing."""
    await backend.put_schedule(schedule, now=NOW)
    return await plan(backend, schedule)


async def fire(backend: Backend, schedule: Schedule = HOURLY, *, now: datetime = DUE) -> Fired:
    """Fire an entry that must be due."""
    fired = await backend.fire(await plan(backend, schedule, now=now), now=now)
    assert fired is not None
    return fired


class EntriesConformance:
    """The contract of `put_schedule`, `pause_schedule`, `remove_schedule`, `schedules` and `fire`."""

    async def test_an_entry_is_kept_as_it_was_registered(self, backend: Backend) -> None:
        schedule = Schedule(
            name="all of it",
            recurrence=parse_recurrence("*/5 3 * * 1", "Europe/Berlin"),
            spec=replace(SPEC, priority=-3, max_attempts=2, expires_in=HOUR),
            unique=Unique(key="given:report", period=1.5 * DAY),
            missed_runs=MissedRuns.ALL,
            overlap=Overlap.SKIP,
            is_declared=True,
        )
        entry = await backend.put_schedule(schedule, now=NOW)
        assert entry == ScheduleEntry(schedule=schedule, next_run=first_run(schedule, None, now=NOW))
        book = await backend.schedules(now=NOW + MINUTE)
        assert (book.now, book.entries) == (NOW + MINUTE, (entry,))

    async def test_entries_are_listed_by_name(self, backend: Backend) -> None:
        for name in ("c", "a", "b"):
            await backend.put_schedule(replace(HOURLY, name=name), now=NOW)
        assert [entry.schedule.name for entry in (await backend.schedules(now=NOW)).entries] == ["a", "b", "c"]

    async def test_an_unchanged_entry_keeps_its_next_run(self, backend: Backend) -> None:
        first = await backend.put_schedule(HOURLY, now=NOW)
        assert await backend.put_schedule(HOURLY, now=NOW + DAY) == first
        assert (await entry_of(backend)).next_run == DUE

    async def test_an_unchanged_entry_keeps_its_last_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        fired = await fire(backend)
        entry = await backend.put_schedule(HOURLY, now=DUE + MINUTE)
        assert (entry.last_run, entry.last_job, entry.next_run) == (DUE, fired.jobs[0], DUE + HOUR)

    async def test_an_entry_with_another_task_keeps_its_next_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        changed = replace(HOURLY, spec=replace(SPEC, task="shop.other"), overlap=Overlap.SKIP)
        entry = await backend.put_schedule(changed, now=NOW + DAY)
        assert (entry.schedule, entry.next_run) == (changed, DUE)
        assert await entry_of(backend) == entry

    async def test_an_entry_with_another_recurrence_starts_anew(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        changed = replace(HOURLY, recurrence=parse_recurrence("30 * * * *"))
        entry = await backend.put_schedule(changed, now=NOW + MINUTE)
        assert entry.next_run == NOW + 30 * MINUTE

    async def test_an_entry_with_another_recurrence_does_not_repeat_its_last_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await fire(backend)
        changed = replace(HOURLY, recurrence=parse_recurrence("0,30 * * * *"))
        entry = await backend.put_schedule(changed, now=DUE - MINUTE)
        assert entry.next_run == DUE + 30 * MINUTE

    async def test_a_removed_entry_is_gone_and_its_jobs_stay(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        fired = await fire(backend)
        assert await backend.remove_schedule(HOURLY.name)
        assert (await backend.schedules(now=NOW)).entries == ()
        assert await state_of(backend, fired.jobs[0]) is State.PENDING

    async def test_removing_an_entry_that_is_not_there_says_so(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        assert not await backend.remove_schedule("another")
        assert await backend.remove_schedule(HOURLY.name)
        assert not await backend.remove_schedule(HOURLY.name)

    async def test_the_definition_of_a_declared_entry_that_is_removed_is_remembered_until_it_is_put_again(
        self, backend: Backend
    ) -> None:
        declared, other = replace(HOURLY, is_declared=True), replace(HOURLY, name="another", is_declared=True)
        await backend.put_schedule(declared, now=NOW)
        await fire(backend)
        await backend.put_schedule(other, now=NOW)
        for schedule in (declared, other):
            assert await backend.remove_schedule(schedule.name, is_remembered=True)
        book = await backend.schedules(now=NOW)
        assert (book.entries, book.removed) == ((), (other, declared))
        assert not await backend.remove_schedule(declared.name, is_remembered=True)
        assert await backend.run_schedule(declared.name, request_id=new_id(), now=NOW) is None
        assert await backend.pause_schedule(declared.name, is_paused=False, now=NOW) is None
        entry = await backend.put_schedule(declared, now=NOW + DAY)
        assert (entry.last_run, entry.next_run) == (None, DUE + DAY)
        assert await backend.schedule_runs(declared.name) == []
        assert (await backend.schedules(now=NOW)).removed == (other,)
        await backend.remove_schedule(other.name)
        assert (await backend.schedules(now=NOW)).removed == ()

    async def test_an_entry_that_no_code_declares_and_one_that_it_has_dropped_are_not_remembered(
        self, backend: Backend
    ) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        assert await backend.remove_schedule(HOURLY.name, is_remembered=True)
        await backend.put_schedule(replace(HOURLY, is_declared=True), now=NOW)
        assert await backend.remove_schedule(HOURLY.name)
        assert (await backend.schedules(now=NOW)).removed == ()

    async def test_a_firing_inserts_the_job_and_moves_the_next_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        fired = await fire(backend, now=DUE + SECOND)
        [job_id] = fired.jobs
        assert may_be_ids_of(backend, [job_id], [derived_id(HOURLY.name, DUE)])
        job = await look(backend, job_id)
        assert (job.state, job.task, job.options) == (State.PENDING, SPEC.task, SPEC.options)
        entry = await entry_of(backend)
        assert (entry.next_run, entry.last_run, entry.last_job) == (DUE + HOUR, DUE, job_id)

    async def test_a_run_fires_once(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        firing = await plan(backend)
        assert await backend.fire(firing, now=DUE) is not None
        assert await backend.fire(firing, now=DUE) is None
        assert await backend.fire(firing, now=DUE + DAY) is None
        assert (await backend.find(JobQuery())).total == 1

    async def test_a_run_is_not_fired_before_it_is_due_by_the_store_s_clock(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        firing = await plan(backend, now=DUE)
        assert await backend.fire(firing, now=DUE - SECOND) is None
        assert (await backend.find(JobQuery())).total == 0
        assert (await entry_of(backend)).next_run == DUE

    async def test_a_removed_entry_does_not_fire(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        firing = await plan(backend)
        await backend.remove_schedule(HOURLY.name)
        assert await backend.fire(firing, now=DUE) is None
        assert (await backend.find(JobQuery())).total == 0

    async def test_a_changed_entry_does_not_fire_its_old_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        firing = await plan(backend)
        await backend.put_schedule(replace(HOURLY, recurrence=parse_recurrence("30 * * * *")), now=DUE)
        assert await backend.fire(firing, now=DUE) is None

    async def test_every_missed_run_can_be_fired_at_once(self, backend: Backend) -> None:
        schedule = replace(HOURLY, missed_runs=MissedRuns.ALL)
        await backend.put_schedule(schedule, now=NOW)
        fired = await fire(backend, schedule, now=NOW + 5 * HOUR)
        requests = [derived_id(schedule.name, NOW + number * HOUR) for number in range(1, 6)]
        assert may_be_ids_of(backend, fired.jobs, requests)
        entry = await entry_of(backend)
        assert (entry.next_run, entry.last_job) == (NOW + 6 * HOUR, fired.jobs[-1])
        jobs = await take(backend, await join(backend), limit=10, now=NOW + 5 * HOUR)
        assert tuple(job.id for job in jobs) == fired.jobs

    async def test_skipped_runs_move_the_entry_on_without_a_job(self, backend: Backend) -> None:
        schedule = replace(HOURLY, missed_runs=MissedRuns.SKIP)
        await backend.put_schedule(schedule, now=NOW)
        now = NOW + 5 * HOUR + 30 * MINUTE
        assert (await fire(backend, schedule, now=now)).jobs == ()
        assert (await entry_of(backend)).next_run == NOW + 6 * HOUR
        assert (await backend.find(JobQuery())).total == 0

    async def test_runs_overlap_where_that_is_allowed(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await fire(backend)
        assert len((await fire(backend, now=DUE + HOUR)).jobs) == 1

    async def test_a_run_is_skipped_while_the_last_job_has_not_ended(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.put_schedule(NO_OVERLAP, now=NOW)
        first = await fire(backend, NO_OVERLAP)
        assert (await fire(backend, NO_OVERLAP, now=DUE + HOUR)).jobs == ()
        jobs = await take(backend, node, now=DUE + HOUR)
        assert (await fire(backend, NO_OVERLAP, now=DUE + 2 * HOUR)).jobs == ()
        entry = await entry_of(backend)
        assert (entry.next_run, entry.last_job) == (DUE + 3 * HOUR, first.jobs[0])
        await settle(backend, jobs, now=DUE + 2 * HOUR)
        assert len((await fire(backend, NO_OVERLAP, now=DUE + 3 * HOUR)).jobs) == 1

    async def test_a_deleted_last_job_holds_no_run_back(self, backend: Backend) -> None:
        await backend.put_schedule(NO_OVERLAP, now=NOW)
        first = await fire(backend, NO_OVERLAP)
        await backend.delete(only(*first.jobs))
        assert len((await fire(backend, NO_OVERLAP, now=DUE + HOUR)).jobs) == 1

    async def test_a_next_run_that_lies_impossibly_far_ahead_is_repaired(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW + 400 * DAY)
        firing = await plan(backend, now=NOW)
        assert firing.is_repair
        fired = await backend.fire(firing, now=NOW)
        assert fired is not None
        assert fired.jobs == ()
        entry = await entry_of(backend)
        assert (entry.next_run, entry.last_run) == (DUE, None)
        assert await backend.fire(firing, now=NOW) is None

    async def test_a_fired_job_that_is_there_already_does_not_hold_the_entry_up(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await fire(backend)
        await backend.remove_schedule(HOURLY.name)
        changed = replace(HOURLY, spec=replace(SPEC, arguments="[[1],{}]"))
        await backend.put_schedule(changed, now=NOW)
        assert await fire(backend) == Fired()
        assert (await entry_of(backend)).next_run == DUE + HOUR
        assert (await backend.find(JobQuery())).total == 1

    # a firing that was planned before the entry changed

    async def test_a_run_planned_before_the_task_changed_is_not_fired(self, backend: Backend) -> None:
        firing = await due_entry(backend)
        changed = replace(HOURLY, spec=replace(SPEC, arguments="[[2],{}]"))
        await backend.put_schedule(changed, now=DUE)
        assert await backend.fire(firing, now=DUE) is None
        assert (await backend.find(JobQuery())).total == 0
        fired = await fire(backend)
        assert (await look(backend, fired.jobs[0])).arguments == "[[2],{}]"

    async def test_a_run_planned_before_a_policy_changed_is_not_fired(self, backend: Backend) -> None:
        firing = await due_entry(backend)
        await backend.put_schedule(NO_OVERLAP, now=DUE)
        assert await backend.fire(firing, now=DUE) is None
        assert may_be_ids_of(backend, (await fire(backend, NO_OVERLAP)).jobs, [derived_id(HOURLY.name, DUE)])

    # pause

    async def test_a_paused_entry_does_not_fire_even_what_was_planned_before(self, backend: Backend) -> None:
        firing = await due_entry(backend)
        entry = await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW + MINUTE)
        assert entry == await entry_of(backend)
        assert (entry.paused_at, entry.next_run) == (NOW + MINUTE, DUE)
        assert await backend.fire(firing, now=DUE) is None
        assert plan_firing(entry, now=DUE) is None
        assert (await backend.find(JobQuery())).total == 0

    async def test_runs_missed_during_a_pause_are_not_made_up_for(self, backend: Backend) -> None:
        schedule = replace(HOURLY, missed_runs=MissedRuns.ALL)
        await backend.put_schedule(schedule, now=NOW)
        await backend.pause_schedule(schedule.name, is_paused=True, now=NOW)
        now = NOW + 5 * HOUR + MINUTE
        entry = await backend.pause_schedule(schedule.name, is_paused=False, now=now)
        assert entry == await entry_of(backend)
        assert (entry.paused_at, entry.next_run) == (None, NOW + 6 * HOUR)
        assert plan_firing(entry, now=now) is None
        fired = await fire(backend, schedule, now=NOW + 6 * HOUR)
        assert may_be_ids_of(backend, fired.jobs, [derived_id(schedule.name, NOW + 6 * HOUR)])

    async def test_an_interval_keeps_its_rhythm_over_a_pause(self, backend: Backend) -> None:
        schedule = replace(HOURLY, recurrence=parse_recurrence("@every 40m"))
        await backend.put_schedule(schedule, now=NOW)
        await backend.pause_schedule(schedule.name, is_paused=True, now=NOW)
        entry = await backend.pause_schedule(schedule.name, is_paused=False, now=NOW + MINUTE)
        assert entry is not None
        assert entry.next_run == NOW + 40 * MINUTE
        await backend.pause_schedule(schedule.name, is_paused=True, now=NOW + MINUTE)
        entry = await backend.pause_schedule(schedule.name, is_paused=False, now=NOW + 90 * MINUTE)
        assert entry is not None
        assert entry.next_run == NOW + 120 * MINUTE

    async def test_a_second_pause_changes_nothing(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        first = await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW)
        assert await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW + DAY) == first

    async def test_resuming_an_entry_that_is_not_paused_keeps_its_missed_runs(self, backend: Backend) -> None:
        entry = await backend.put_schedule(HOURLY, now=NOW)
        assert await backend.pause_schedule(HOURLY.name, is_paused=False, now=NOW + DAY) == entry
        assert (await entry_of(backend)).next_run == DUE

    async def test_a_pause_is_kept_when_the_entry_is_registered_again(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW)
        assert (await backend.put_schedule(HOURLY, now=NOW + MINUTE)).paused_at == NOW
        changed = replace(HOURLY, recurrence=parse_recurrence("30 * * * *"))
        entry = await backend.put_schedule(changed, now=NOW + MINUTE)
        assert (entry.paused_at, entry.schedule) == (NOW, changed)

    async def test_an_entry_that_is_not_there_cannot_be_paused(self, backend: Backend) -> None:
        for is_paused in (True, False):
            assert await backend.pause_schedule("never put", is_paused=is_paused, now=NOW) is None
