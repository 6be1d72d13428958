"""Which runs of a recurring entry fire, and when the next is due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace

from deeper_tasks.domain.cron import Recurrence, parse_recurrence
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.ids import JobId, derived_id
from deeper_tasks.domain.job import Insertion, JobSpec
from deeper_tasks.domain.schedule import (
    MAX_MISSED_RUNS,
    MissedRuns,
    Overlap,
    Schedule,
    ScheduleEntry,
    first_run,
    plan_firing,
    registered,
    resumed_run,
    to_remember,
    with_pause,
)
from deeper_tasks.domain.schedule_run import RunOutcome, inserted
from deeper_tasks.errors import InvalidOptionError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
SPEC = JobSpec(task="shop.report", arguments="[[],{}]", queue="reports")


def schedule(expression="0 * * * *", **fields):
    return Schedule(name="report", recurrence=parse_recurrence(expression), spec=SPEC, **fields)


def entry(expression="0 * * * *", *, next_run=NOON, last_run=None, paused_at=None, **fields):
    return ScheduleEntry(
        schedule=schedule(expression, **fields), next_run=next_run, last_run=last_run, paused_at=paused_at
    )


def dues(firing):
    return [job.due for job in firing.jobs]


def test_a_new_entry_first_runs_after_it_was_registered():
    assert first_run(schedule(), None, now=NOON) == NOON + HOUR


def test_an_unchanged_entry_keeps_its_next_run_however_late_it_is():
    known = entry(next_run=NOON)
    assert first_run(schedule(), known, now=NOON + 50 * HOUR) == NOON


def test_a_change_of_the_task_alone_keeps_the_next_run():
    known = entry(next_run=NOON)
    changed = replace(schedule(), spec=replace(SPEC, task="shop.other"), missed_runs=MissedRuns.ALL)
    assert first_run(changed, known, now=NOON + 50 * HOUR) == NOON


@pytest.mark.parametrize(
    "recurrence", [parse_recurrence("30 * * * *"), parse_recurrence("0 * * * *", "Asia/Kathmandu")]
)
def test_a_changed_recurrence_starts_after_now(recurrence):
    changed = replace(schedule(), recurrence=recurrence)
    assert first_run(changed, entry(next_run=NOON), now=NOON + MINUTE) == NOON + HOUR / 2 + (
        timedelta(minutes=-15 if recurrence.timezone != "UTC" else 0)
    )


def test_a_changed_recurrence_starts_after_the_last_run_too():
    known = entry(next_run=NOON + 3 * HOUR, last_run=NOON + 2 * HOUR)
    assert first_run(schedule("*/30 * * * *"), known, now=NOON) == NOON + 2.5 * HOUR


def test_nothing_is_planned_before_the_run_is_due():
    assert plan_firing(entry(), now=NOON - SECOND) is None


def test_a_paused_entry_plans_nothing():
    assert plan_firing(entry(paused_at=NOON), now=NOON + HOUR) is None


@pytest.mark.parametrize("policy", list(MissedRuns))
def test_a_run_on_time_fires_one_job_under_every_policy(policy):
    firing = plan_firing(entry(missed_runs=policy, overlap=Overlap.SKIP), now=NOON + 5 * SECOND)
    [job] = firing.jobs
    assert (job.request_id, job.due, job.spec, job.unique) == (derived_id("report", NOON), NOON, SPEC, None)
    assert (firing.name, firing.expected, firing.next_run) == ("report", NOON, NOON + HOUR)
    assert (firing.schedule.overlap, firing.is_repair) == (Overlap.SKIP, False)


def test_missed_runs_are_skipped_where_the_policy_says_so():
    firing = plan_firing(entry(missed_runs=MissedRuns.SKIP), now=NOON + 5.5 * HOUR)
    assert (dues(firing), firing.next_run) == ([], NOON + 6 * HOUR)


def test_skipping_missed_runs_still_fires_the_one_that_is_due_now():
    firing = plan_firing(entry(missed_runs=MissedRuns.SKIP), now=NOON + 5 * HOUR + SECOND)
    assert (dues(firing), firing.next_run) == ([NOON + 5 * HOUR], NOON + 6 * HOUR)


def test_missed_runs_are_made_up_for_by_the_newest_where_the_policy_says_once():
    firing = plan_firing(entry(missed_runs=MissedRuns.ONCE), now=NOON + 5.5 * HOUR)
    assert (dues(firing), firing.next_run) == ([NOON + 5 * HOUR], NOON + 6 * HOUR)


def test_all_missed_runs_are_made_up_for_oldest_first():
    firing = plan_firing(entry(missed_runs=MissedRuns.ALL), now=NOON + 5.5 * HOUR)
    assert dues(firing) == [NOON + number * HOUR for number in range(6)]
    assert [job.request_id for job in firing.jobs] == sorted(job.request_id for job in firing.jobs)
    assert firing.next_run == NOON + 6 * HOUR


def test_of_all_missed_runs_only_the_newest_hundred_are_made_up_for():
    firing = plan_firing(entry(missed_runs=MissedRuns.ALL), now=NOON + 1000.5 * HOUR)
    assert dues(firing) == [NOON + number * HOUR for number in range(901, 1001)]
    assert len(firing.jobs) == MAX_MISSED_RUNS


@pytest.mark.parametrize("policy", list(MissedRuns))
@pytest.mark.parametrize("expression", ["* * * * * *", "@every 1s"])
def test_an_entry_of_every_second_is_planned_after_a_month_without_counting_through_it(monkeypatch, policy, expression):
    steps = 0
    next_after = Recurrence.next_after

    def counted(self, moment):
        nonlocal steps
        steps += 1
        return next_after(self, moment)

    monkeypatch.setattr(Recurrence, "next_after", counted)
    now = NOON + timedelta(days=31)
    firing = plan_firing(entry(expression, missed_runs=policy), now=now)
    assert steps < 1000
    assert dues(firing)[-1] == now
    assert firing.next_run == now + SECOND


def test_the_missed_runs_of_an_interval_keep_its_rhythm():
    start = NOON + timedelta(microseconds=3)
    firing = plan_firing(
        entry("@every 7s", next_run=start, missed_runs=MissedRuns.ALL), now=start + timedelta(days=40, seconds=1)
    )
    assert {(due - start) % timedelta(seconds=7) for due in dues(firing)} == {timedelta(0)}
    assert {late - early for early, late in pairwise(dues(firing))} == {timedelta(seconds=7)}
    assert firing.next_run == dues(firing)[-1] + timedelta(seconds=7)


def test_missed_runs_of_a_rare_entry_are_found_however_far_back_they_lie():
    firing = plan_firing(entry("0 12 1 3 *", missed_runs=MissedRuns.ALL), now=NOON + timedelta(days=5 * 366))
    assert [due.year for due in dues(firing)] == [2026, 2027, 2028, 2029, 2030, 2031]


def test_planning_twice_gives_the_same_jobs():
    known = entry(missed_runs=MissedRuns.ALL)
    assert plan_firing(known, now=NOON + 5 * HOUR) == plan_firing(known, now=NOON + 5.5 * HOUR)


def test_a_clock_that_stepped_back_a_little_repairs_nothing():
    assert plan_firing(entry(next_run=NOON + 2 * HOUR), now=NOON + MINUTE) is None


def test_a_next_run_beyond_the_next_two_is_repaired_without_a_job():
    firing = plan_firing(entry(next_run=NOON + 400 * HOUR), now=NOON + MINUTE)
    assert (firing.is_repair, firing.jobs) == (True, ())
    assert (firing.expected, firing.next_run) == (NOON + 400 * HOUR, NOON + HOUR)


def test_a_paused_entry_is_not_repaired():
    assert plan_firing(entry(next_run=NOON + 400 * HOUR, paused_at=NOON), now=NOON) is None


@pytest.mark.parametrize(
    ("day", "dues_in_utc"),
    [
        pytest.param(datetime(2024, 3, 30, tzinfo=UTC), ["30T01:30", "31T01:00", "01T00:30"], id="to summer time"),
        pytest.param(datetime(2024, 10, 26, tzinfo=UTC), ["26T00:30", "27T00:30", "28T01:30"], id="to winter time"),
    ],
)
def test_a_nightly_run_that_is_found_late_fires_once_a_night_across_a_change_of_the_clock(day, dues_in_utc):
    recurrence = parse_recurrence("30 2 * * *", "Europe/Berlin")
    known = replace(entry(missed_runs=MissedRuns.ALL), next_run=recurrence.next_after(day))
    known = replace(known, schedule=replace(known.schedule, recurrence=recurrence))
    firing = plan_firing(known, now=day + timedelta(days=2, hours=12))
    assert [f"{due:%dT%H:%M}" for due in dues(firing)] == dues_in_utc
    again = plan_firing(replace(known, next_run=firing.next_run), now=firing.next_run)
    assert dues(again) == [firing.next_run]
    assert set(dues(again)).isdisjoint(dues(firing))


@pytest.mark.parametrize("day", [datetime(2024, 3, 30, 20, tzinfo=UTC), datetime(2024, 10, 26, 20, tzinfo=UTC)])
def test_an_hourly_run_fires_each_hour_across_a_change_of_the_clock(day):
    recurrence = parse_recurrence("0 * * * *", "Europe/Berlin")
    known = replace(entry(), next_run=recurrence.next_after(day))
    known = replace(known, schedule=replace(known.schedule, recurrence=recurrence))
    fired = []
    for hours in range(1, 12):
        firing = plan_firing(known, now=day + hours * HOUR)
        fired += dues(firing)
        known = replace(known, next_run=firing.next_run, last_run=fired[-1])
    assert fired == [day + hours * HOUR for hours in range(1, 12)]


def test_of_all_missed_runs_only_the_newest_fires_where_none_may_overlap():
    firing = plan_firing(entry(missed_runs=MissedRuns.ALL, overlap=Overlap.SKIP), now=NOON + 2 * HOUR)
    assert [(run.due, run.outcome) for run in firing.runs] == [
        (NOON, RunOutcome.SKIPPED_OVERLAP),
        (NOON + HOUR, RunOutcome.SKIPPED_OVERLAP),
        (NOON + 2 * HOUR, RunOutcome.FIRED),
    ]
    assert dues(firing) == [NOON + 2 * HOUR]


@pytest.mark.parametrize("policy", [MissedRuns.ONCE, MissedRuns.SKIP])
def test_a_firing_says_which_runs_were_missed(policy):
    firing = plan_firing(entry(missed_runs=policy), now=NOON + 1.5 * HOUR)
    newest = RunOutcome.FIRED if policy is MissedRuns.ONCE else RunOutcome.SKIPPED_MISSED
    assert [run.outcome for run in firing.runs] == [RunOutcome.SKIPPED_MISSED, newest]


@pytest.mark.parametrize(
    "changed",
    [
        {"next_run": NOON + HOUR},
        {"paused_at": NOON},
        {"schedule": schedule(overlap=Overlap.SKIP)},
        {"schedule": replace(schedule(), spec=replace(SPEC, arguments="[[1],{}]"))},
    ],
)
def test_a_firing_does_not_fit_an_entry_that_has_changed(changed):
    firing = plan_firing(entry(), now=NOON)
    assert firing.fits(entry(), now=NOON)
    assert not firing.fits(replace(entry(), **changed), now=NOON)


def test_a_firing_does_not_fit_a_clock_by_which_it_is_not_due():
    firing = plan_firing(entry(), now=NOON)
    assert not firing.fits(entry(), now=NOON - SECOND)


def test_a_resumed_entry_runs_first_after_now_in_its_rhythm():
    assert resumed_run(entry(next_run=NOON), now=NOON + 1.5 * HOUR) == NOON + 2 * HOUR
    assert resumed_run(entry("@every 40m", next_run=NOON), now=NOON + 90 * MINUTE) == NOON + 120 * MINUTE
    assert resumed_run(entry("@every 40m", next_run=NOON), now=NOON - MINUTE) == NOON
    assert resumed_run(entry("@every 40m", next_run=NOON), now=NOON) == NOON + 40 * MINUTE


NEVER = Recurrence(expression="0 6 */15 * mon#2")


def test_an_entry_that_is_never_due_plans_nothing_and_says_why():
    known = replace(entry(), schedule=replace(schedule(), recurrence=NEVER))
    for now in (NOON - HOUR, NOON, NOON + HOUR):
        with pytest.raises(InvalidOptionError, match="never due"):
            plan_firing(known, now=now)


def test_an_entry_that_is_never_due_can_be_paused_resumed_and_changed():
    known = replace(entry(paused_at=NOON), schedule=replace(schedule(), recurrence=NEVER))
    assert plan_firing(known, now=NOON + HOUR) is None
    assert resumed_run(known, now=NOON + HOUR) == NOON
    assert first_run(schedule(), known, now=NOON) == NOON + HOUR


def test_an_entry_that_is_never_due_cannot_be_registered():
    with pytest.raises(InvalidOptionError, match="never due"):
        first_run(replace(schedule(), recurrence=NEVER), None, now=NOON)


FAR = [END_OF_TIME - timedelta(days=800), END_OF_TIME - HOUR, END_OF_TIME, datetime.max.replace(tzinfo=UTC)]


@pytest.mark.parametrize("policy", list(MissedRuns))
@pytest.mark.parametrize("now", FAR)
@pytest.mark.parametrize("expression", ["* * * * * *", "0 * * * *", "@yearly", "0 0 */28 2 mon", "@every 36500d"])
def test_a_clock_at_the_end_of_the_calendar_overflows_nothing(expression, now, policy):
    new = schedule(expression, missed_runs=policy)
    first = first_run(new, None, now=now)
    assert now < first <= END_OF_TIME or first == END_OF_TIME
    for next_run in (NOON, first):
        known = ScheduleEntry(schedule=new, next_run=next_run)
        assert resumed_run(known, now=now) <= END_OF_TIME
        firing = plan_firing(known, now=now)
        assert firing is None or NOON < firing.next_run <= END_OF_TIME


def test_an_entry_that_a_clock_far_ahead_put_to_the_end_of_time_is_repaired():
    firing = plan_firing(entry("@yearly", next_run=END_OF_TIME), now=NOON)
    assert (firing.is_repair, firing.next_run) == (True, datetime(2027, 1, 1, tzinfo=UTC))


# the changes of an entry


def test_an_entry_that_is_put_again_keeps_all_but_its_definition():
    known = replace(registered(schedule("@hourly"), None, now=NOON), paused_at=NOON, last_run=NOON)
    changed = replace(known.schedule, overlap=Overlap.SKIP)
    assert registered(changed, known, now=NOON + MINUTE) == replace(known, schedule=changed)


def test_of_a_damaged_entry_only_its_pause_is_kept():
    damaged = replace(
        registered(schedule("@hourly"), None, now=NOON),
        last_run=NOON,
        paused_at=NOON,
        damage=(Damage(field="document", reason="no JSON"),),
    )
    put = registered(damaged.schedule, damaged, now=NOON + MINUTE)
    assert put == ScheduleEntry(schedule=damaged.schedule, next_run=NOON + HOUR, paused_at=NOON + MINUTE)


def test_a_pause_keeps_the_next_run_and_its_end_moves_it_past_now():
    entry = registered(schedule("@hourly"), None, now=NOON)
    paused = with_pause(entry, is_paused=True, now=NOON + MINUTE)
    assert paused == replace(entry, paused_at=NOON + MINUTE)
    assert with_pause(paused, is_paused=False, now=NOON + 3 * HOUR).next_run == NOON + 4 * HOUR


def test_a_pause_of_what_is_paused_or_damaged_changes_nothing():
    entry = registered(schedule("@hourly"), None, now=NOON)
    damaged = replace(entry, damage=(Damage(field="document", reason="no JSON"),))
    assert with_pause(entry, is_paused=False, now=NOON) is entry
    assert with_pause(damaged, is_paused=True, now=NOON) is damaged


@pytest.mark.parametrize(
    ("is_declared", "is_remembered", "is_kept"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_a_removed_entry_is_remembered_if_the_code_declares_it_and_that_is_asked_for(
    is_declared, is_remembered, is_kept
):
    entry = registered(replace(schedule("@hourly"), is_declared=is_declared), None, now=NOON)
    assert to_remember(entry, is_remembered=is_remembered) is (entry.schedule if is_kept else None)
    assert to_remember(None, is_remembered=is_remembered) is None


def test_a_firing_moves_an_entry_on_with_its_newest_job():
    entry = registered(schedule("@hourly"), None, now=NOON)
    firing = plan_firing(entry, now=NOON + HOUR)
    made = inserted(firing.runs, [Insertion(id=JobId("7"), is_new=True)])
    moved = firing.moved_on(entry, made)
    assert (moved.next_run, moved.last_run, moved.last_job) == (NOON + 2 * HOUR, NOON + HOUR, "7")
    held_back = firing.runs_to_write(fired_before=(), is_under_way=False)[:0]
    assert firing.moved_on(entry, held_back) == replace(entry, next_run=NOON + 2 * HOUR)
