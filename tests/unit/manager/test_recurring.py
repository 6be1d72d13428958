"""Recurring tasks by the manager: declared, paused, resumed, run by hand, and what their history tells."""

import types
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager, RunOutcome, task
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.integrations.events import (
    JobEnqueued,
    ScheduleOrphaned,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
)
from deeper_tasks.tasks.options import EnqueueOptions
from deeper_tasks.testing.conformance.builders import DAY, HOUR, new_job


@pytest.fixture
def send(manager):
    @manager.task(name="shop.mails.send")
    async def send(number: int, *, loud: bool = False): ...

    return send


@pytest.fixture
def heard(manager):
    heard = []
    manager.subscribe(heard.append)
    return heard


async def put(manager, task, name="nightly", expression="@every 1h", **options):
    return await manager.schedule_recurring_task(name, task, None, [7], expression, **options)


async def fire(manager, *, after=HOUR):
    """Fire the one entry as a worker would, `after` from now by the store's clock."""
    book = await manager.backend.schedules()
    [entry] = book.entries
    firing = plan_firing(entry, now=book.now + after)
    return await manager.backend.fire(firing, now=book.now + after)


async def test_an_entry_shows_what_it_runs(manager, send):
    entry = await manager.schedule_recurring_task("nightly", send, None, [7], "@daily", kwargs={"loud": True})
    assert (entry.args, entry.kwargs, entry.is_declared) == ([7], {"loud": True}, False)
    assert await manager.get_recurring_task("nightly") == entry


async def test_a_paused_entry_is_shown_as_paused_until_it_is_resumed(manager, send, heard):
    before = await put(manager, send)
    paused = await manager.pause_recurring_task("nightly")
    assert (paused.is_paused, paused.next_run) == (True, before.next_run)
    assert await manager.get_recurring_task("nightly") == paused
    resumed = await manager.resume_recurring_task("nightly")
    assert resumed == before
    assert heard == [SchedulePaused(name="nightly"), ScheduleResumed(name="nightly", next_run=before.next_run)]


async def test_a_deploy_keeps_the_pause(manager, send):
    await put(manager, send)
    await manager.pause_recurring_task("nightly")
    assert (await put(manager, send)).is_paused
    assert (await put(manager, send, expression="@daily")).is_paused


async def test_a_paused_entry_makes_no_jobs_in_a_worker_and_a_resumed_one_does(manager, send, working, wait_until):
    await put(manager, send, expression="@every 1s")
    await put(manager, send, "other", "@every 1s")
    await manager.pause_recurring_task("nightly")

    async def runs(name):
        return await manager.recurring_task_history(name)

    async def has_run(name):
        return await runs(name)

    async with working(manager):
        await wait_until(lambda: has_run("other"))
        assert await runs("nightly") == []
        resumed = await manager.resume_recurring_task("nightly")
        await wait_until(lambda: has_run("nightly"))
    first = (await runs("nightly"))[-1]
    assert (first.due_at, first.outcome) == (resumed.next_run, RunOutcome.FIRED)


async def test_the_history_tells_of_each_run_the_newest_first(manager, send):
    await put(manager, send, overlap="skip")
    await fire(manager)
    await fire(manager, after=2 * HOUR)
    by_hand = await manager.run_recurring_task("nightly")
    newest, held_back, first = await manager.recurring_task_history("nightly")
    assert (newest.outcome, newest.task_id, newest.status) == (RunOutcome.RUN_NOW, by_hand, State.PENDING)
    assert newest.due_at == newest.fired_at
    assert (held_back.outcome, held_back.task_id, held_back.status) == (RunOutcome.SKIPPED_OVERLAP, None, None)
    assert (first.outcome, first.status) == (RunOutcome.FIRED, State.PENDING)
    assert first.due_at <= first.fired_at
    assert (await manager.get_task_status(first.task_id)).args == [7]
    assert await manager.recurring_task_history("nightly", limit=1) == [newest]
    assert await manager.recurring_task_history("nightly", limit=100_000) == [newest, held_back, first]


async def test_the_history_tells_the_state_of_a_job_as_it_is_now(manager, send):
    await put(manager, send)
    task_id = await manager.run_recurring_task("nightly")
    await manager.cancel_task(task_id)
    assert [run.status for run in await manager.recurring_task_history("nightly")] == [State.CANCELLED]
    await manager.delete_task(task_id)
    [run] = await manager.recurring_task_history("nightly")
    assert (run.task_id, run.status) == (task_id, None)


async def test_a_new_entry_has_an_empty_history(manager, send):
    await put(manager, send)
    assert await manager.recurring_task_history("nightly") == []


async def test_the_history_goes_with_the_entry(manager, send, heard):
    await put(manager, send)
    await manager.run_recurring_task("nightly")
    await manager.cancel_recurring_task("nightly")
    await put(manager, send)
    assert await manager.recurring_task_history("nightly") == []
    assert [type(event) for event in heard] == [JobEnqueued, ScheduleRemoved]


async def test_an_entry_run_by_hand_is_told_as_enqueued(manager, send, heard):
    await put(manager, send, queue="mail")
    task_id = await manager.run_recurring_task("nightly")
    assert task_id.is_new
    [event] = heard
    assert (event.job_id, event.task, event.queue) == (task_id, "shop.mails.send", "mail")


async def test_missed_runs_and_repairs_are_in_the_history(manager, send):
    await put(manager, send, expression="0 * * * *", missed_runs="skip")
    await fire(manager, after=DAY)
    outcomes = {run.outcome for run in await manager.recurring_task_history("nightly")}
    assert outcomes <= {RunOutcome.SKIPPED_MISSED, RunOutcome.FIRED}
    assert RunOutcome.SKIPPED_MISSED in outcomes
    await fire(manager, after=-DAY)
    assert (await manager.recurring_task_history("nightly"))[0].outcome is RunOutcome.REPAIRED


def test_pausing_and_the_history_block_in_the_synchronous_facade(url):
    from deeper_tasks import BackgroundTaskManager

    manager = BackgroundTaskManager(url)

    @manager.task(name="shop.mails.send")
    async def send(number: int): ...

    with manager.sync as sync:
        sync.schedule_recurring_task("nightly", send, None, [7], "@daily")
        assert sync.pause_recurring_task("nightly").is_paused
        assert not sync.resume_recurring_task("nightly").is_paused
        task_id = sync.run_recurring_task("nightly")
        assert [run.task_id for run in sync.recurring_task_history("nightly")] == [task_id]


# Declared in the code.


def application(url, *, prefix="shop", **crons):
    """Return another version of an application: its tasks, each with what its decorator says of its times."""
    manager = BackgroundTaskManager(url, poll_interval_seconds=0.05)
    for name, options in crons.items():

        async def work(): ...

        manager.task(name=f"{prefix}.{name}", **options)(work)
    return manager


@pytest.fixture
async def deploy(tmp_path):
    """Return a way to start a version of an application on the one store of the test, as its worker would."""
    managers = []

    async def deploy(*, queues=None, **crons):
        manager = application(f"sqlite:///{tmp_path}/tasks.db", **crons)
        manager.heard = []
        manager.subscribe(manager.heard.append, ScheduleRemoved, ScheduleOrphaned)
        managers.append(manager)
        await manager.declare_recurring_tasks(queues=queues)
        return manager

    yield deploy
    for manager in managers:
        await manager.close()


async def names(manager):
    return [entry.name for entry in await manager.list_recurring_tasks()]


async def test_a_task_with_a_cron_is_registered_under_its_name(deploy):
    manager = await deploy(
        report={
            "cron": "0 3 * * *",
            "timezone": "Europe/Berlin",
            "missed_runs": "all",
            "overlap": "skip",
            "queue": "mail",
            "tags": ["night"],
        },
        other={},
    )
    [entry] = await manager.list_recurring_tasks()
    assert (entry.name, entry.task, entry.args, entry.kwargs) == ("shop.report", "shop.report", [], {})
    assert (entry.cron_expression, entry.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert (entry.missed_runs, entry.overlap, entry.queue) == ("all", "skip", "mail")
    assert entry.is_declared
    status = await manager.get_task_status(await manager.run_recurring_task("shop.report"))
    assert status.tags == ("night",)


async def test_declaring_returns_the_declared_entries_by_name(deploy):
    manager = await deploy(b={"cron": "@daily"}, a={"cron": "@every 30s"}, c={})
    assert [entry.name for entry in await manager.declare_recurring_tasks()] == ["shop.a", "shop.b"]


async def test_an_unchanged_deploy_keeps_the_next_run_and_the_pause(deploy):
    manager = await deploy(report={"cron": "@every 1h"})
    before = await manager.pause_recurring_task("shop.report")
    again = await deploy(report={"cron": "@every 1h"})
    assert await again.get_recurring_task("shop.report") == before


async def test_a_deploy_with_other_times_starts_after_now_and_keeps_the_pause(deploy):
    manager = await deploy(report={"cron": "@every 1h"})
    before = await manager.pause_recurring_task("shop.report")
    after = await (await deploy(report={"cron": "@every 2h"})).get_recurring_task("shop.report")
    assert after.next_run > before.next_run
    assert after.is_paused


async def test_an_entry_that_the_code_no_longer_declares_is_removed(deploy):
    await deploy(report={"cron": "@daily"}, other={"cron": "@daily"})
    manager = await deploy(report={}, other={"cron": "@daily"})
    assert await names(manager) == ["shop.other"]
    assert manager.heard == [ScheduleRemoved(name="shop.report", was_declared=True)]


async def test_a_cron_of_none_declares_nothing(deploy):
    await deploy(report={"cron": "@daily"})
    manager = await deploy(report={"cron": None, "timezone": "Europe/Berlin"})
    assert await names(manager) == []


async def test_an_entry_whose_task_is_not_known_is_kept_and_told(deploy):
    await deploy(report={"cron": "@daily"})
    manager = await deploy(other={"cron": "@daily"})
    assert await names(manager) == ["shop.other", "shop.report"]
    assert manager.heard == [ScheduleOrphaned(name="shop.report", task="shop.report")]


async def test_an_entry_whose_queue_is_served_by_a_pattern_is_told(deploy):
    await deploy(report={"cron": "@daily", "queue": "reports"}, queues=["reports"])
    manager = await deploy(other={"cron": "@daily"}, queues=["rep*"])
    assert manager.heard == [ScheduleOrphaned(name="shop.report", task="shop.report")]


async def test_an_entry_of_another_application_with_queues_of_its_own_is_not_spoken_of(deploy):
    await deploy(report={"cron": "@daily", "queue": "reports"}, queues=["reports"])
    manager = await deploy(prefix="bank", other={"cron": "@daily"}, queues=["default"])
    assert await names(manager) == ["bank.other", "shop.report"]
    assert manager.heard == []


async def test_what_was_removed_by_request_stays_away_until_its_definition_changes(deploy):
    manager = await deploy(report={"cron": "@daily"}, other={"cron": "@daily"})
    await manager.cancel_recurring_task("shop.report")
    for _ in range(2):
        manager = await deploy(report={"cron": "@daily"}, other={"cron": "@daily"})
        assert await names(manager) == ["shop.other"]
        assert [entry.name for entry in await manager.declare_recurring_tasks()] == ["shop.other"]
        assert await manager.list_removed_recurring_tasks() == ["shop.report"]
    manager = await deploy(report={"cron": "@hourly"}, other={"cron": "@daily"})
    assert await names(manager) == ["shop.other", "shop.report"]
    assert await manager.list_removed_recurring_tasks() == []


async def test_what_was_removed_by_request_and_is_declared_no_more_is_declared_anew_as_ever(deploy):
    manager = await deploy(report={"cron": "@daily"})
    await manager.cancel_recurring_task("shop.report")
    await deploy(other={})  # of another application, which does not know it
    manager = await deploy(report={})
    assert await manager.list_removed_recurring_tasks() == []
    assert await names(await deploy(report={"cron": "@daily"})) == ["shop.report"]


async def test_a_resume_brings_back_what_was_removed_by_request(deploy):
    manager = await deploy(report={"cron": "@daily"})
    await manager.cancel_recurring_task("shop.report")
    entry = await manager.resume_recurring_task("shop.report")
    assert (entry.name, entry.is_declared, entry.is_paused) == ("shop.report", True, False)
    assert await names(await deploy(report={"cron": "@daily"})) == ["shop.report"]


async def test_a_schedule_under_the_name_of_one_that_was_removed_is_there(deploy):
    manager = await deploy(report={"cron": "@daily"})
    await manager.cancel_recurring_task("shop.report")
    await manager.schedule_recurring_task("shop.report", "shop", "report", [], "@hourly")
    assert await names(manager) == ["shop.report"]
    assert await manager.list_removed_recurring_tasks() == []


async def test_an_entry_made_by_hand_is_never_removed(deploy):
    manager = await deploy(report={}, other={})
    await manager.schedule_recurring_task("nightly", "shop", "report", [], "@daily")
    await manager.schedule_recurring_task("shop.other", "shop", "other", [], "@daily")
    manager = await deploy(report={}, other={})
    assert await names(manager) == ["nightly", "shop.other"]
    assert manager.heard == []


async def test_a_renamed_task_does_not_fire_under_both_names(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    package = types.ModuleType("package_of_reports")

    async def report(): ...

    report.__module__, report.__qualname__ = package.__name__, "report"
    for name in ({}, {"name": "nightly"}):
        package.report = task(**name, cron="@daily")(report)
        async with BackgroundTaskManager(url) as manager:
            manager.include(package)
            await manager.declare_recurring_tasks()
            listed = await names(manager)
    assert listed == ["nightly"]


async def test_an_entry_taken_over_from_hand_by_the_code_keeps_its_next_run(deploy):
    manager = await deploy(report={})
    by_hand = await manager.schedule_recurring_task("shop.report", "shop", "report", [], "@every 1h")
    [declared] = await (await deploy(report={"cron": "@every 1h"})).list_recurring_tasks()
    assert declared.is_declared
    assert declared.next_run == by_hand.next_run


async def test_a_worker_declares_at_its_start_and_fires(manager, working, wait_until):
    ran = []

    @manager.task(name="shop.tick", cron="@every 1s")
    async def tick(times: int = 3):
        ran.append(times)

    async with working(manager):
        await wait_until(lambda: ran)
    assert (await manager.get_recurring_task("shop.tick")).is_declared
    assert ran[0] == 3


async def test_a_worker_removes_what_the_code_no_longer_declares(manager, working, wait_until):
    @manager.task(name="shop.tick")
    async def tick(): ...

    earlier = Schedule(
        name="shop.tick", recurrence=parse_recurrence("@daily"), spec=new_job(task="shop.tick").spec, is_declared=True
    )
    await manager.backend.put_schedule(earlier)

    async def is_gone():
        return await names(manager) == []

    async with working(manager):
        await wait_until(is_gone)


@pytest.mark.parametrize("expression", ["0 6 */15 * mon#2", "0 0 30 2 *", "0 0 0 31 4,6,9,11 *"])
async def test_an_expression_that_is_never_due_is_refused_where_it_is_written(manager, send, expression):
    with pytest.raises(InvalidOptionError, match="is never due") as caught:
        await put(manager, send, expression=expression)
    assert repr(expression) in str(caught.value)
    with pytest.raises(InvalidOptionError, match="is never due"):
        manager.task(name="shop.never", cron=expression)(lambda: None)
    assert await manager.list_recurring_tasks() == []


# Options of the jobs.

OPTIONS = {
    "queue": "mail",
    "priority": -7,
    "max_attempts": 3,
    "timeout_seconds": 12.5,
    "retry_delay_seconds": 7200,
    "max_retry_delay_seconds": 86_400,
    "tags": ["night", "mail"],
    "meta": {"by": "cron"},
    "expires_in_seconds": 600,
}


async def made(manager, name, how):
    """Return the job that an entry makes, in one of the ways in which it makes jobs."""
    if how == "run now":
        task_id = await manager.run_recurring_task(name)
    else:
        await fire(manager, after=HOUR if how == "fire" else 3 * HOUR)
        task_id = (await manager.recurring_task_history(name))[0].task_id
    return await manager.backend.get(task_id)


@pytest.mark.parametrize("how", ["fire", "missed", "run now"])
@pytest.mark.parametrize("where", ["by name", "at the task", "at the task, by name", "in the code"])
async def test_a_job_of_an_entry_has_every_option_that_was_given(manager, where, how):
    at_the_task = {} if where == "by name" else OPTIONS
    declared = {"cron": "@every 1h", "missed_runs": "all"} if where == "in the code" else {}

    @manager.task(name="shop.mails.send", **at_the_task, **declared)
    async def send(number: int = 7): ...

    if where == "in the code":
        await manager.declare_recurring_tasks()
    else:
        await put(manager, send, "shop.mails.send", missed_runs="all", **({} if at_the_task else OPTIONS))
    job = await made(manager, "shop.mails.send", how)
    direct = await manager.enqueue_task(send, args=[7], **OPTIONS)
    expected = await manager.backend.get(direct)
    own = send.request if at_the_task else None
    assert own is None or (own.timeout, own.retry_delay) == (timedelta(seconds=12.5), timedelta(hours=2))
    assert job.options == expected.options
    for field in ("task", "queue", "priority", "max_attempts"):
        assert getattr(job, field) == getattr(expected, field)
    assert job.expires_at - job.scheduled_at == timedelta(minutes=10)
    assert set(OPTIONS) | IN_OTHER_TESTS | REFUSED == set(EnqueueOptions.__annotations__)


IN_OTHER_TESTS = {"unique", "unique_for_seconds", "unique_key"}
REFUSED = {"task_id", "delay_seconds", "enqueue_patience_seconds", "connection"}


@pytest.mark.parametrize("option", sorted(REFUSED))
async def test_an_option_that_only_one_job_can_have_is_refused(manager, send, option):
    value = {"task_id": new_job().request_id, "connection": object()}.get(option, 5)
    with pytest.raises(InvalidOptionError, match=option):
        await put(manager, send, **{option: value})


UNIQUE = [{"unique": "until_done"}, {"unique_for_seconds": 86_400}]


@pytest.mark.parametrize("where", ["by name", "at the task", "in the code"])
@pytest.mark.parametrize("unique", UNIQUE, ids=str)
async def test_the_unique_options_of_an_entry_hold_back_its_runs(manager, heard, where, unique):
    at_the_task = {} if where == "by name" else unique
    declared = {"cron": "@every 1h"} if where == "in the code" else {}

    @manager.task(name="shop.mails.send", **at_the_task, **declared)
    async def send(): ...

    name = "shop.mails.send"
    if where == "in the code":
        await manager.declare_recurring_tasks()
    else:
        options = {} if at_the_task else unique
        await manager.schedule_recurring_task(name, send, cron_expression="@every 1h", **options)
    first = await manager.run_recurring_task(name)
    await fire(manager)
    again = await manager.run_recurring_task(name)
    assert (again, again.is_new) == (first, False)
    assert await manager.enqueue_task(send, **unique) == first
    history = await manager.recurring_task_history(name)
    outcomes = [RunOutcome.SKIPPED_UNIQUE, RunOutcome.SKIPPED_UNIQUE, RunOutcome.RUN_NOW]
    assert [(run.outcome, run.task_id) for run in history] == list(zip(outcomes, [None, None, first], strict=True))
    assert [event.is_new for event in heard if isinstance(event, JobEnqueued)] == [True, False, False]


async def test_entries_with_other_arguments_have_unique_keys_of_their_own(manager, send):
    for number in (1, 2):
        await manager.schedule_recurring_task(f"{number}", send, None, [number], "@daily", unique="until_done")
    assert (await manager.run_recurring_task("1")).is_new
    assert (await manager.run_recurring_task("2")).is_new


async def test_entries_with_one_unique_key_make_one_job_between_them(manager, send):
    for number in (1, 2):
        options = {"unique": "until_done", "unique_key": "mail"}
        await manager.schedule_recurring_task(f"{number}", send, None, [number], "@daily", **options)
    first = await manager.run_recurring_task("1")
    assert await manager.run_recurring_task("2") == first
    with pytest.raises(InvalidOptionError, match="has no effect alone"):
        await put(manager, send, unique_key="mail")


@pytest.mark.parametrize("option", sorted({*EnqueueOptions.__annotations__, "timezone", "missed_runs", "overlap"}))
async def test_an_option_of_none_is_as_if_it_were_not_given(manager, option):
    @manager.task(name="shop.own", queue="mail", priority=3, timeout_seconds=5, unique="until_done", tags=["a"])
    async def own(number: int = 1): ...

    plain = await put(manager, own)
    [stored] = (await manager.backend.schedules()).entries
    assert await put(manager, own, **{option: None}) == plain
    assert [entry.schedule for entry in (await manager.backend.schedules()).entries] == [stored.schedule]
    assert (plain.timezone, plain.missed_runs, plain.overlap) == ("UTC", "once", "allow")
