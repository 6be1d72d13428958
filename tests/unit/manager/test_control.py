"""Control: cancel, retry, delete, pause and clean up, one by one and in bulk, from every state."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import (
    BackendUnavailableError,
    InvalidOptionError,
    InvalidTransitionError,
    JobNotCompletedError,
    JobNotFoundError,
)
from deeper_tasks.integrations.events import JobCancelled, JobRescheduled, QueuePaused, QueueResumed
from deeper_tasks.manager import CancelOutcome
from deeper_tasks.testing.conformance.builders import new_node, new_token

ENDS = {
    State.COMPLETED: End.COMPLETE,
    State.FAILED: End.FAIL,
    State.DISCARDED: End.DISCARD,
    State.CANCELLED: End.CANCEL,
    State.RETRYABLE: End.RETRY,
}
BOOM = ErrorReport(kind="ValueError", message="boom")


class Jobs:
    """Brings jobs into the states that a test needs."""

    def __init__(self, manager):
        self.manager = manager
        self.backend = manager.backend
        self.node = new_node()

        @manager.task(name="shop.send")
        async def send(number: int = 0): ...

        self.send = send

    async def claim(self, limit=500, queue="default"):
        await self.backend.register(self.node)
        claim = await self.backend.claim(queue, limit=limit, slots=limit, node=self.node.id, token=new_token())
        return claim.jobs

    async def in_state(self, state, **options):
        task = self.send.with_options(**options)
        if state is State.SCHEDULED:
            return await task.with_options(delay_seconds=3600).enqueue()
        task_id = await task.enqueue()
        if state is not State.PENDING:
            [job] = await self.claim(queue=options.get("queue", "default"))
            if state is not State.RUNNING:
                delay = timedelta(hours=1) if state is State.RETRYABLE else timedelta(0)
                await self.settle([job], ENDS[state], delay=delay)
        assert (await self.manager.get_task_status(task_id)).status is state
        return task_id

    async def settle(self, jobs, end, **fields):
        error = None if end is End.COMPLETE else BOOM
        settlements = [Settlement(id=job.id, token=job.token, end=end, error=error, **fields) for job in jobs]
        await self.backend.settle(settlements)

    async def state(self, task_id):
        return (await self.manager.get_task_status(task_id)).status


@pytest.fixture
def jobs(manager):
    return Jobs(manager)


WAITING = [State.SCHEDULED, State.PENDING, State.RETRYABLE]
ENDED = [State.COMPLETED, State.FAILED, State.DISCARDED, State.CANCELLED]


@pytest.mark.parametrize("state", WAITING)
async def test_what_waits_is_cancelled_at_once_and_told(manager, jobs, state):
    heard = []
    manager.subscribe(heard.append, JobCancelled)
    task_id = await jobs.in_state(state)
    assert await manager.cancel_task(task_id, reason="not wanted") is CancelOutcome.CANCELLED
    assert await jobs.state(task_id) is State.CANCELLED
    assert [(event.job_id, event.reason) for event in heard] == [(task_id, "not wanted")]
    status = await manager.get_task_status(task_id)
    assert [(event.task, event.queue, event.attempt) for event in heard] == [
        (status.task, status.queue, status.attempts)
    ]


async def test_what_runs_is_asked_to_stop_as_often_as_one_likes(manager, jobs):
    heard = []
    manager.subscribe(heard.append, JobCancelled)
    task_id = await jobs.in_state(State.RUNNING)
    for _ in range(2):
        assert await manager.cancel_task(task_id, reason="not wanted") is CancelOutcome.REQUESTED
    status = await manager.get_task_status(task_id)
    assert (status.status, status.cancel_requested) == (State.RUNNING, "not wanted")
    assert heard == []


@pytest.mark.parametrize("state", ENDED)
async def test_what_has_ended_cannot_be_cancelled(manager, jobs, state):
    task_id = await jobs.in_state(state)
    with pytest.raises(InvalidTransitionError, match=f"{task_id} is {state} and cannot be cancelled"):
        await manager.cancel_task(task_id)


@pytest.mark.parametrize("state", [State.FAILED, State.DISCARDED, State.CANCELLED])
async def test_what_failed_is_retried_with_its_errors_kept(manager, jobs, state):
    task_id = await jobs.in_state(state, max_attempts=3)
    await manager.retry_task(task_id)
    status = await manager.get_task_status(task_id)
    assert (status.status, status.attempts, status.max_attempts) == (State.PENDING, 1, 4)
    assert status.last_error == "ValueError: boom"


@pytest.mark.parametrize("state", [*WAITING, State.RUNNING, State.COMPLETED])
async def test_nothing_else_can_be_retried(manager, jobs, state):
    task_id = await jobs.in_state(state)
    with pytest.raises(InvalidTransitionError, match=f"is {state} and cannot be retried"):
        await manager.retry_task(task_id)


@pytest.mark.parametrize("state", [*WAITING, *ENDED])
async def test_what_does_not_run_can_be_deleted(manager, jobs, state):
    task_id = await jobs.in_state(state)
    await manager.delete_task(task_id)
    with pytest.raises(JobNotFoundError):
        await manager.get_task_status(task_id)
    with pytest.raises(JobNotFoundError):
        await manager.delete_task(task_id)


async def test_what_runs_cannot_be_deleted(manager, jobs):
    task_id = await jobs.in_state(State.RUNNING)
    with pytest.raises(InvalidTransitionError, match="is running and cannot be deleted"):
        await manager.delete_task(task_id)


# In bulk, with more than one batch.

MANY = 1_100


async def test_more_than_a_batch_is_cancelled_by_conditions(manager, jobs):
    await manager.enqueue_many([jobs.send.with_options(queue="mail").call(number) for number in range(MANY)])
    kept = await jobs.send.enqueue()
    assert await manager.cancel_tasks(queue="mail", reason="enough") == MANY
    assert await manager.cancel_tasks(queue="mail") == 0
    assert await jobs.state(kept) is State.PENDING
    assert (await manager.list_tasks(status="cancelled", per_page=1)).total_entries == MANY


async def test_more_than_a_batch_is_asked_to_stop(manager, jobs):
    await manager.enqueue_many([jobs.send.call(number) for number in range(MANY)])
    while await jobs.claim():
        pass
    assert await manager.cancel_tasks(status="running") == MANY
    assert await manager.cancel_tasks(status="running") == 0


async def test_more_than_a_batch_is_retried_and_only_dead_letters_unless_said_otherwise(manager, jobs):
    await manager.enqueue_many([jobs.send.call(number) for number in range(MANY)])
    while claimed := await jobs.claim():
        await jobs.settle(claimed, End.FAIL)
    cancelled = await jobs.in_state(State.CANCELLED)
    assert await manager.retry_tasks() == MANY
    assert await jobs.state(cancelled) is State.CANCELLED
    assert await manager.retry_tasks(status="cancelled") == 1
    assert (await manager.list_tasks(status="pending", per_page=1)).total_entries == MANY + 1


async def test_more_than_a_batch_is_deleted_and_never_what_runs(manager, jobs):
    running = await jobs.in_state(State.RUNNING)
    await manager.enqueue_many([jobs.send.call(number) for number in range(MANY)])
    assert await manager.delete_tasks() == MANY
    assert await jobs.state(running) is State.RUNNING
    assert (await manager.list_tasks()).total_entries == 1


async def test_conditions_are_met_all_together(manager, jobs):
    wanted = await jobs.send.with_options(queue="mail", tags=["a"]).enqueue()
    await jobs.send.with_options(queue="mail").enqueue()
    await jobs.send.with_options(tags=["a"]).enqueue()
    assert await manager.cancel_tasks(queue="mail", tag="a", status=["pending", "scheduled"], task=jobs.send) == 1
    assert await jobs.state(wanted) is State.CANCELLED
    assert await manager.delete_tasks(worker_module="shop", status="cancelled") == 1
    assert await manager.delete_tasks(worker_module="sho") == 0
    assert await manager.delete_tasks(status=[]) == 0


# Queues.


async def test_a_paused_queue_gives_no_jobs_until_it_is_resumed(manager, jobs):
    await jobs.send.enqueue()
    await manager.queues.pause("default")
    assert (await manager.get_statistics()).queues["default"].is_paused
    assert await jobs.claim() == ()
    await manager.queues.resume("default")
    assert not (await manager.get_statistics()).queues["default"].is_paused
    assert len(await jobs.claim()) == 1


async def test_a_queue_may_be_paused_before_it_has_jobs(manager):
    await manager.queues.pause("later")
    await manager.queues.pause("later")
    assert (await manager.get_statistics()).queues["later"].is_paused
    await manager.queues.resume("never-paused")


# Cleaning up.


async def test_old_jobs_are_cleaned_up_by_what_became_of_them(manager, jobs):
    states = [State.COMPLETED, State.FAILED, State.DISCARDED, State.CANCELLED]
    ids = [await jobs.in_state(state) for state in states]
    pending = await jobs.in_state(State.PENDING)
    assert await manager.cleanup_old_tasks() == 0
    assert await manager.cleanup_old_tasks(completed_days=0) == 1
    assert await manager.cleanup_old_tasks(failed_days=0) == 3
    assert (await manager.list_tasks()).entries[0].id == pending
    for task_id in ids:
        with pytest.raises(JobNotFoundError):
            await manager.get_task_status(task_id)


async def test_more_than_a_batch_is_cleaned_up(manager, jobs):
    await manager.enqueue_many([jobs.send.call(number) for number in range(MANY)])
    await manager.cancel_tasks()
    assert await manager.cleanup_old_tasks(failed_days=0) == MANY
    assert (await manager.list_tasks()).total_entries == 0


# Results.


async def test_bulk_changes_tell_after_each_batch_how_far_they_are(manager, jobs):
    seen = []
    await manager.enqueue_many([jobs.send.call(number) for number in range(1200)])
    for size in (500, 500, 200):
        await jobs.settle(await jobs.claim(size), End.DISCARD)
    assert await manager.retry_tasks(on_progress=seen.append) == 1200
    assert await manager.cancel_tasks(on_progress=seen.append) == 1200
    assert await manager.delete_tasks(status="cancelled", on_progress=seen.append) == 1200
    assert seen == [500, 1000, 1200] * 3
    assert await manager.delete_tasks(on_progress=seen.append) == 0
    assert seen == [500, 1000, 1200] * 3


async def test_a_pause_of_a_queue_and_its_end_are_told(manager):
    heard = []
    manager.subscribe(heard.append, QueuePaused, QueueResumed)
    await manager.queues.pause("emails")
    await manager.queues.resume("emails")
    assert heard == [QueuePaused(queue="emails"), QueueResumed(queue="emails")]


async def test_a_clean_up_by_hand_is_logged_once_and_if_it_deletes_nothing(manager, jobs, caplog):
    for _ in range(2):
        await jobs.in_state(State.COMPLETED)
    caplog.set_level(logging.INFO, logger="deeper_tasks")
    for _ in range(2):
        await manager.cleanup_old_tasks(completed_days=0)
    told = [record.getMessage().partition(" in ")[0] for record in caplog.records if "clean-up" in record.getMessage()]
    assert told == ["manual clean-up deleted 2 ended jobs", "manual clean-up deleted 0 ended jobs"]


async def test_a_clean_up_tells_after_each_batch_how_far_it_is(manager, jobs):
    seen = []
    await manager.enqueue_many([jobs.send.call(number) for number in range(600)])
    await jobs.settle(await jobs.claim(500), End.COMPLETE)
    await jobs.settle(await jobs.claim(100), End.DISCARD)
    assert await manager.cleanup_old_tasks(completed_days=0, failed_days=0, on_progress=seen.append) == 600
    assert seen == [500, 600]


async def test_what_a_task_or_tag_means_is_deleted_whatever_its_state(manager, jobs):
    tagged = [await jobs.in_state(state, tags=["old"]) for state in (*ENDS, State.SCHEDULED, State.PENDING)]
    running = [job.id for job in await jobs.claim(1)]
    kept = await jobs.in_state(State.COMPLETED)
    assert await manager.delete_tasks(tag="old", task="shop.send") == len(tagged) - len(running)
    assert {status.id for status in (await manager.list_tasks()).entries} == {*running, kept}


async def test_a_result_is_waited_for(manager, working):
    @manager.task(name="shop.add")
    async def add(a: int, b: int):
        return {"sum": a + b}

    async with working(manager):
        assert await manager.result(await add.enqueue(2, 3), timeout=20) == {"sum": 5}


async def test_a_job_without_a_result_has_none(manager, jobs):
    assert await manager.result(await jobs.in_state(State.COMPLETED)) is None


@pytest.mark.parametrize("state", [State.FAILED, State.DISCARDED, State.CANCELLED])
async def test_a_job_that_did_not_complete_has_no_result_and_says_why(manager, jobs, state):
    task_id = await jobs.in_state(state)
    with pytest.raises(JobNotCompletedError, match=f"ended as {state}: ValueError: boom"):
        await manager.result(task_id)


async def test_a_result_that_does_not_come_is_a_timeout_that_says_what_the_job_waits_for(manager, jobs):
    task_id = await jobs.in_state(State.PENDING)
    for timeout, shown in ((0, "0 s"), (0.01, "10 ms")):
        said = f"the job {task_id} had not ended after {shown}: it is pending; no live worker serves the queue"
        with pytest.raises(TimeoutError, match=said):
            await manager.result(task_id, timeout=timeout)
    assert await jobs.state(task_id) is State.PENDING


async def test_the_timeout_of_a_running_job_says_where_it_runs(manager, jobs):
    task_id = await jobs.in_state(State.RUNNING)
    with pytest.raises(TimeoutError, match="it is running, attempt 1 on "):
        await manager.result(task_id, timeout=0.01)


async def test_the_timeout_of_a_silent_store_does_not_wait_for_it(manager, jobs, monkeypatch):
    task_id = await jobs.in_state(State.PENDING)

    async def gone(*_, **__):
        raise BackendUnavailableError("gone")

    monkeypatch.setattr(manager.backend, "service", gone)
    with pytest.raises(TimeoutError, match="the store does not answer"):
        await manager.result(task_id, timeout=0.01)


async def test_a_job_deleted_while_its_result_is_awaited_is_told(manager, jobs):
    task_id = await jobs.in_state(State.PENDING)
    waiting = asyncio.create_task(manager.result(task_id, timeout=20))
    await asyncio.sleep(0)
    await manager.delete_task(task_id)
    with pytest.raises(JobNotFoundError):
        await waiting


class EndsAgainAtOnce(MemoryBackend):
    """Has each job that is retried end again before the call returns."""

    async def retry(self, target, *, now=None):
        retried = await super().retry(target, now=now)
        await super().cancel(JobFilter(ids=tuple(job.id for job in retried)), reason="again")
        return retried


async def test_a_bulk_retry_takes_each_job_once_however_soon_it_ends_again():
    async with BackgroundTaskManager(backend=EndsAgainAtOnce()) as manager:

        @manager.task(name="shop.send")
        async def send(number: int): ...

        await manager.enqueue_many([send.call(number) for number in range(1200)])
        assert await manager.cancel_tasks() == 1200
        async with asyncio.timeout(20):
            assert await manager.retry_tasks(status="cancelled") == 1200


@pytest.mark.parametrize("state", WAITING)
async def test_what_waits_is_put_to_another_time_and_told(manager, jobs, state):
    heard = []
    manager.subscribe(heard.append, JobRescheduled)
    task_id = await jobs.in_state(state)
    at = datetime.now(UTC) + timedelta(days=1)
    assert await manager.reschedule_task(task_id, at) == at
    status = await manager.get_task_status(task_id)
    after = State.RETRYABLE if state is State.RETRYABLE else State.SCHEDULED
    assert (status.status, status.scheduled_at) == (after, at)
    assert [(event.job_id, event.task, event.queue, event.attempt) for event in heard] == [
        (task_id, status.task, status.queue, status.attempts)
    ]
    assert [(event.state, event.scheduled_at) for event in heard] == [(after, at)]


@pytest.mark.parametrize("at", [60, 60.0, timedelta(minutes=1)])
async def test_a_time_from_now_is_given_in_seconds_or_as_a_timedelta(manager, jobs, at):
    task_id = await jobs.in_state(State.PENDING)
    before = datetime.now(UTC)
    due = await manager.reschedule_task(task_id, at)
    assert before + timedelta(minutes=1) <= due <= datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("at", [0, datetime(2020, 1, 1, tzinfo=UTC)])
async def test_a_time_that_has_passed_means_now(manager, jobs, at):
    task_id = await jobs.in_state(State.SCHEDULED)
    due = await manager.reschedule_task(task_id, at)
    assert abs(datetime.now(UTC) - due) < timedelta(minutes=1)
    assert await jobs.state(task_id) is State.PENDING


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (datetime(2031, 1, 1, tzinfo=UTC).replace(tzinfo=None), "option 'at' .* needs a time zone"),
        (datetime.max.replace(tzinfo=UTC), "option 'at' .* before the year 9000"),
        (-1, "option 'at'"),
        ("tomorrow", "option 'at'"),
        (None, "option 'at'"),
    ],
)
async def test_what_is_no_time_is_refused_and_moves_nothing(manager, jobs, at, words):
    task_id = await jobs.in_state(State.SCHEDULED)
    before = await manager.get_task_status(task_id)
    with pytest.raises(InvalidOptionError, match=words):
        await manager.reschedule_task(task_id, at)
    assert await manager.get_task_status(task_id) == before


@pytest.mark.parametrize("state", [State.SCHEDULED, State.RETRYABLE])
async def test_the_end_of_a_delay_makes_a_job_pending_and_is_told(manager, jobs, state):
    heard = []
    manager.subscribe(heard.append, JobRescheduled)
    task_id = await jobs.in_state(state)
    await manager.run_task_now(task_id)
    status = await manager.get_task_status(task_id)
    assert status.status is State.PENDING
    assert [(event.job_id, event.state, event.scheduled_at) for event in heard] == [
        (task_id, State.PENDING, status.scheduled_at)
    ]
    await manager.run_task_now(task_id)
    assert len(heard) == 1
    assert (await manager.get_task_status(task_id)).scheduled_at == status.scheduled_at


@pytest.mark.parametrize("state", [State.RUNNING, *ENDED])
async def test_what_runs_or_has_ended_can_neither_be_rescheduled_nor_run_now(manager, jobs, state):
    task_id = await jobs.in_state(state)
    with pytest.raises(InvalidTransitionError, match=f"{task_id} is {state} and cannot be rescheduled"):
        await manager.reschedule_task(task_id, 60)
    with pytest.raises(InvalidTransitionError, match=f"{task_id} is {state} and cannot be run now"):
        await manager.run_task_now(task_id)


@pytest.mark.parametrize("task_id", ["01900000-0000-7000-8000-000000000001", "nothing", 5])
async def test_an_unknown_job_can_neither_be_rescheduled_nor_run_now(manager, task_id):
    with pytest.raises(JobNotFoundError):
        await manager.reschedule_task(task_id, 60)
    with pytest.raises(JobNotFoundError):
        await manager.run_task_now(task_id)


def test_both_can_be_called_without_a_loop(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path / 'tasks.db'}")

    @manager.task(name="shop.send")
    def send() -> None: ...

    with manager.sync as tasks:
        task_id = tasks.schedule_task(send, scheduled_at=60)
        assert tasks.reschedule_task(task_id, 3600) > datetime.now(UTC) + timedelta(minutes=30)
        tasks.run_task_now(task_id)
        assert tasks.get_task_status(task_id).status is State.PENDING


@pytest.mark.parametrize("call", ["run_task_now", "reschedule_task"])
async def test_a_worker_that_would_not_look_for_an_hour_runs_a_job_that_another_process_calls(
    tmp_path, working, wait_until, call
):
    url, ran = f"sqlite:///{tmp_path / 'tasks.db'}", []
    manager = BackgroundTaskManager(url, poll_interval_seconds=3_600)

    @manager.task(name="shop.send")
    async def send() -> None:
        ran.append(1)

    async with manager, BackgroundTaskManager(url) as other, working(manager) as worker:
        task_id = await send.with_options(delay_seconds=3_600).enqueue()
        await wait_until(lambda: worker.is_ready)
        await (other.run_task_now(task_id) if call == "run_task_now" else other.reschedule_task(task_id, 0.1))
        await wait_until(lambda: ran)
