"""Recurring tasks by the manager: paused, resumed, run by hand, and what their history tells."""

import pytest

from deeper_tasks import RunOutcome
from deeper_tasks.domain.schedule import plan_firing
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import JobEnqueued, SchedulePaused, ScheduleRemoved, ScheduleResumed
from deeper_tasks.testing.conformance.scene import DAY, HOUR


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
