"""Conformance: the runs of recurring entries, by hand and by due time, in their history and under any clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.ids import JobId, derived_id
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.schedule import MissedRuns, Overlap, RunNow, Schedule, plan_firing
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, RunOutcome, ScheduleRun
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
    new_job,
    only,
    put,
    settle,
    take,
)
from deeper_tasks.testing.conformance.schedules import (
    DUE,
    HOURLY,
    NO_OVERLAP,
    SPEC,
    due_entry,
    entry_of,
    fire,
)

UNIQUE = replace(HOURLY, unique=Unique(key="given:report"))


async def history(backend: Backend, schedule: Schedule = HOURLY) -> list[tuple[datetime, RunOutcome]]:
    """Return the due time and the outcome of each run, the newest first."""
    return [(run.due, run.outcome) for run in await backend.schedule_runs(schedule.name)]


class ScheduleRunsConformance:
    """The contract of `run_schedule` and `schedule_runs`, and of runs under clocks that are set."""

    # run now

    async def test_an_entry_is_run_now_and_its_due_times_stay(self, backend: Backend) -> None:
        before = await backend.put_schedule(HOURLY, now=NOW)
        done = await backend.run_schedule(HOURLY.name, request_id=new_id(), now=NOW + MINUTE)
        assert done is not None
        job_id = done.job.id
        assert done == RunNow(entry=replace(before, last_job=job_id), job=Insertion(id=job_id, is_new=True))
        assert await entry_of(backend) == done.entry
        job = await look(backend, job_id)
        assert (job.state, job.task, job.options, job.scheduled_at) == (
            State.PENDING,
            SPEC.task,
            SPEC.options,
            NOW + MINUTE,
        )
        [run] = await backend.schedule_runs(HOURLY.name)
        assert run == ScheduleRun(
            due=NOW + MINUTE,
            fired_at=NOW + MINUTE,
            outcome=RunOutcome.RUN_NOW,
            job=job_id,
            state=State.PENDING,
        )

    async def test_running_now_again_with_the_same_id_makes_no_second_job(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        request_id = new_id()
        first = await backend.run_schedule(HOURLY.name, request_id=request_id, now=NOW)
        again = await backend.run_schedule(HOURLY.name, request_id=request_id, now=NOW + MINUTE)
        assert first is not None
        assert again == RunNow(entry=await entry_of(backend), job=Insertion(id=first.job.id, is_new=False))
        assert (await backend.find(JobQuery())).total == 1
        assert len(await backend.schedule_runs(HOURLY.name)) == 1

    async def test_a_paused_entry_is_run_now_and_stays_paused(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW)
        done = await backend.run_schedule(HOURLY.name, request_id=new_id(), now=NOW)
        assert done is not None
        assert done.entry.paused_at == NOW
        assert (await backend.find(JobQuery())).total == 1

    async def test_an_entry_that_is_not_there_is_not_run(self, backend: Backend) -> None:
        assert await backend.run_schedule("never put", request_id=new_id(), now=NOW) is None
        assert (await backend.find(JobQuery())).total == 0

    async def test_a_run_is_skipped_while_a_job_run_now_has_not_ended(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.put_schedule(NO_OVERLAP, now=NOW)
        await fire(backend, NO_OVERLAP)
        [due] = await take(backend, node, now=DUE)
        await backend.run_schedule(HOURLY.name, request_id=new_id(), now=DUE)
        [by_hand] = await take(backend, node, now=DUE)
        await settle(backend, [by_hand], now=DUE)
        assert (await fire(backend, NO_OVERLAP, now=DUE + HOUR)).jobs == ()
        await settle(backend, [due], now=DUE + HOUR)
        assert len((await fire(backend, NO_OVERLAP, now=DUE + 2 * HOUR)).jobs) == 1

    # history

    async def test_the_history_tells_what_became_of_each_run_the_newest_first(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.put_schedule(NO_OVERLAP, now=NOW)
        first = await fire(backend, NO_OVERLAP, now=DUE + SECOND)
        held_back = await fire(backend, NO_OVERLAP, now=DUE + HOUR)
        await settle(backend, await take(backend, node, now=DUE + HOUR), now=DUE + HOUR)
        second = await fire(backend, NO_OVERLAP, now=DUE + 2 * HOUR)
        fired = RunOutcome.FIRED
        expected = [
            ScheduleRun(due=DUE + 2 * HOUR, fired_at=DUE + 2 * HOUR, outcome=fired, job=second.jobs[0]),
            ScheduleRun(due=DUE + HOUR, fired_at=DUE + HOUR, outcome=RunOutcome.SKIPPED_OVERLAP),
            ScheduleRun(due=DUE, fired_at=DUE + SECOND, outcome=fired, job=first.jobs[0]),
        ]
        assert [*second.runs, *held_back.runs, *first.runs] == expected
        states = [State.PENDING, None, State.COMPLETED]
        assert await backend.schedule_runs(HOURLY.name) == [
            replace(run, state=state) for run, state in zip(expected, states, strict=True)
        ]

    async def test_the_history_has_the_missed_runs(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        await fire(backend, now=DUE + 2 * HOUR)
        assert await history(backend) == [
            (DUE + 2 * HOUR, RunOutcome.FIRED),
            (DUE + HOUR, RunOutcome.SKIPPED_MISSED),
            (DUE, RunOutcome.SKIPPED_MISSED),
        ]

    async def test_the_history_knows_no_state_of_a_job_that_is_gone(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        fired = await fire(backend)
        await backend.delete(only(*fired.jobs))
        [run] = await backend.schedule_runs(HOURLY.name)
        assert (run.job, run.state) == (fired.jobs[0], None)

    async def test_a_firing_that_is_refused_is_not_in_the_history(self, backend: Backend) -> None:
        firing = await due_entry(backend)
        await backend.fire(firing, now=DUE)
        await backend.fire(firing, now=DUE)
        assert await history(backend) == [(DUE, RunOutcome.FIRED)]

    async def test_the_history_keeps_the_newest_runs(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        for number in range(3):
            await fire(backend, now=DUE + number * HOUR)
        now = DUE + 250 * HOUR
        await fire(backend, now=now)
        kept = await history(backend)
        assert kept[0] == (now, RunOutcome.FIRED)
        assert [due for due, _ in kept] == [now - number * HOUR for number in range(MAX_KEPT_RUNS)]
        newest = await backend.schedule_runs(HOURLY.name, limit=2)
        assert [run.due for run in newest] == [now, now - HOUR]

    async def test_each_entry_has_a_history_of_its_own_which_goes_with_it(self, backend: Backend) -> None:
        other = replace(HOURLY, name="other")
        await backend.put_schedule(HOURLY, now=NOW)
        await backend.put_schedule(other, now=NOW)
        await fire(backend)
        await fire(backend, other, now=DUE + HOUR)
        await backend.remove_schedule(HOURLY.name)
        await backend.put_schedule(HOURLY, now=NOW)
        assert await history(backend) == []
        assert [due for due, _ in await history(backend, other)] == [DUE + HOUR, DUE]
        assert await backend.schedule_runs("never put") == []

    # unique keys

    async def test_a_run_makes_no_job_while_another_job_holds_its_unique_key(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.put_schedule(UNIQUE, now=NOW)
        first = await fire(backend, UNIQUE)
        assert (await fire(backend, UNIQUE, now=DUE + HOUR)).jobs == ()
        entry = await entry_of(backend)
        assert (entry.next_run, entry.last_run, entry.last_job) == (DUE + 2 * HOUR, DUE, first.jobs[0])
        await settle(backend, await take(backend, node, now=DUE + HOUR), now=DUE + HOUR)
        assert len((await fire(backend, UNIQUE, now=DUE + 2 * HOUR)).jobs) == 1
        assert await history(backend) == [
            (DUE + 2 * HOUR, RunOutcome.FIRED),
            (DUE + HOUR, RunOutcome.SKIPPED_UNIQUE),
            (DUE, RunOutcome.FIRED),
        ]

    async def test_a_unique_key_held_for_a_period_holds_runs_back_though_the_job_has_ended(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        schedule = replace(UNIQUE, unique=Unique(key="given:report", period=90 * MINUTE))
        await backend.put_schedule(schedule, now=NOW)
        await fire(backend, schedule)
        await settle(backend, await take(backend, node, now=DUE), now=DUE)
        assert (await fire(backend, schedule, now=DUE + HOUR)).jobs == ()
        assert len((await fire(backend, schedule, now=DUE + 2 * HOUR)).jobs) == 1

    async def test_a_job_of_another_kind_that_holds_the_unique_key_holds_a_run_back(self, backend: Backend) -> None:
        await backend.put_schedule(UNIQUE, now=NOW)
        await put(backend, unique=UNIQUE.unique)
        assert (await fire(backend, UNIQUE)).jobs == ()
        assert await history(backend) == [(DUE, RunOutcome.SKIPPED_UNIQUE)]
        assert (await backend.find(JobQuery())).total == 1

    async def test_a_job_that_a_run_made_holds_the_unique_key_against_others(self, backend: Backend) -> None:
        await backend.put_schedule(UNIQUE, now=NOW)
        fired = await fire(backend, UNIQUE)
        [answer] = await backend.insert([new_job(unique=UNIQUE.unique)], now=DUE)
        assert answer == Insertion(id=fired.jobs[0], is_new=False)

    async def test_of_all_missed_runs_the_first_takes_the_unique_key(self, backend: Backend) -> None:
        schedule = replace(UNIQUE, missed_runs=MissedRuns.ALL)
        await backend.put_schedule(schedule, now=NOW)
        fired = await fire(backend, schedule, now=DUE + 2 * HOUR)
        assert may_be_ids_of(backend, fired.jobs, (derived_id(schedule.name, DUE),))
        assert [run.outcome for run in fired.runs] == [
            RunOutcome.FIRED,
            RunOutcome.SKIPPED_UNIQUE,
            RunOutcome.SKIPPED_UNIQUE,
        ]
        entry = await entry_of(backend)
        assert (entry.last_run, entry.last_job) == (DUE, fired.jobs[0])

    async def test_a_run_that_may_not_overlap_is_skipped_for_that_before_its_unique_key_is_asked_for(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        schedule = replace(UNIQUE, overlap=Overlap.SKIP)
        await backend.put_schedule(schedule, now=NOW)
        await fire(backend, schedule)
        await fire(backend, schedule, now=DUE + HOUR)
        await settle(backend, await take(backend, node, now=DUE + HOUR), now=DUE + HOUR)
        await put(backend, unique=UNIQUE.unique)
        await fire(backend, schedule, now=DUE + 2 * HOUR)
        assert await history(backend) == [
            (DUE + 2 * HOUR, RunOutcome.SKIPPED_UNIQUE),
            (DUE + HOUR, RunOutcome.SKIPPED_OVERLAP),
            (DUE, RunOutcome.FIRED),
        ]

    async def test_an_entry_run_now_gets_the_job_that_holds_its_unique_key(self, backend: Backend) -> None:
        await backend.put_schedule(UNIQUE, now=NOW)
        first = await backend.run_schedule(UNIQUE.name, request_id=new_id(), now=NOW)
        assert first is not None
        second = await backend.run_schedule(UNIQUE.name, request_id=new_id(), now=NOW + MINUTE)
        assert second == RunNow(entry=first.entry, job=Insertion(id=first.job.id, is_new=False))
        assert await entry_of(backend) == first.entry
        assert (await backend.find(JobQuery())).total == 1
        assert await history(backend) == [
            (NOW + MINUTE, RunOutcome.SKIPPED_UNIQUE),
            (NOW, RunOutcome.RUN_NOW),
        ]

    # overlap and missed runs together

    async def test_of_all_missed_runs_one_fires_where_none_may_overlap(self, backend: Backend) -> None:
        schedule = replace(NO_OVERLAP, missed_runs=MissedRuns.ALL)
        await backend.put_schedule(schedule, now=NOW)
        fired = await fire(backend, schedule, now=DUE + 2 * HOUR)
        assert may_be_ids_of(backend, fired.jobs, (derived_id(schedule.name, DUE + 2 * HOUR),))
        assert (await backend.find(JobQuery())).total == 1
        assert await history(backend) == [
            (DUE + 2 * HOUR, RunOutcome.FIRED),
            (DUE + HOUR, RunOutcome.SKIPPED_OVERLAP),
            (DUE, RunOutcome.SKIPPED_OVERLAP),
        ]

    # clocks

    async def test_a_clock_set_back_by_an_hour_fires_nothing_twice(self, backend: Backend) -> None:
        every_minute = replace(HOURLY, recurrence=parse_recurrence("* * * * *"))
        await self._fires_each_due_time_once(backend, every_minute, back=HOUR, step=MINUTE)

    async def test_a_clock_set_back_by_a_day_fires_nothing_twice(self, backend: Backend) -> None:
        await self._fires_each_due_time_once(backend, HOURLY, back=DAY, step=HOUR)

    async def _fires_each_due_time_once(
        self, backend: Backend, schedule: Schedule, *, back: timedelta, step: timedelta
    ) -> None:
        count = back // step + 20
        await backend.put_schedule(schedule, now=NOW)
        announced: list[JobId] = []
        last = NOW + count * step
        moments = [NOW + number * step for number in range(1, count + 1)]
        again = [last - back + number * step for number in range(1, back // step + 3)]
        for now in (*moments, last - back, *again):
            while (firing := plan_firing(await entry_of(backend, schedule), now=now)) is not None:
                fired = await backend.fire(firing, now=now)
                assert fired is not None
                announced += fired.jobs
        requests = [derived_id(schedule.name, NOW + number * step) for number in range(1, count + 3)]
        assert may_be_ids_of(backend, announced, requests)
        assert (await backend.find(JobQuery())).total == len(announced)
        jobs = [run.job for run in await backend.schedule_runs(schedule.name) if run.job is not None]
        assert len(jobs) == len(set(jobs))

    async def test_a_clock_far_ahead_that_is_right_again_costs_no_run(self, backend: Backend) -> None:
        await backend.put_schedule(HOURLY, now=NOW)
        wrong = NOW + 400 * DAY
        await fire(backend, now=wrong)
        repair = plan_firing(await entry_of(backend), now=NOW + MINUTE)
        assert repair is not None
        assert await backend.fire(repair, now=NOW + MINUTE) is not None
        assert may_be_ids_of(backend, (await fire(backend, now=DUE)).jobs, [derived_id(HOURLY.name, DUE)])
        second = (await fire(backend, now=DUE + HOUR)).jobs
        assert may_be_ids_of(backend, second, [derived_id(HOURLY.name, DUE + HOUR)])
        assert (await history(backend))[:4] == [
            (DUE + HOUR, RunOutcome.FIRED),
            (DUE, RunOutcome.FIRED),
            (wrong + HOUR, RunOutcome.REPAIRED),
            (wrong, RunOutcome.FIRED),
        ]
