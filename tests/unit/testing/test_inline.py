"""Inline: an enqueue that returns has run its job, through all that a worker does."""

import asyncio
from contextvars import ContextVar
from datetime import date, datetime
from functools import partial
from typing import ClassVar

import pydantic
import pytest

from deeper_tasks import BackgroundTaskManager, Fail, Retry, Snooze, current_job
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidArgumentsError, JobNotCompletedError
from deeper_tasks.integrations.events import JobCompleted, JobEnqueued, JobStarted
from deeper_tasks.testing import OverlapError, use_memory
from deeper_tasks.testing.demands import TooManyRunsError

tenant = ContextVar("tenant", default="none")


@pytest.fixture
def double(kit):
    @kit.manager.task(name="shop.double")
    async def double(number: int):
        return 2 * number

    return double


async def test_an_enqueue_returns_when_its_job_has_run(kit, double):
    with kit.inline():
        task_id = await double.enqueue(21)
    assert (await kit.manager.get_task_status(task_id)).status is State.COMPLETED
    assert await kit.manager.result(task_id) == 42


def test_without_async_it_is_the_same(kit, double):
    with kit.inline():
        task_id = kit.manager.sync.enqueue_task(double, args=[21])
    assert kit.manager.sync.result(task_id) == 42


async def test_all_ways_to_enqueue_run_inline(kit, double):
    with kit.inline():
        ids = await kit.manager.enqueue_many([double.call(1), double.call(2)])
        ids.append(await kit.manager.enqueue_task("shop", "double", [3]))
        ids.append(await double.with_options(queue="emails").enqueue(4))
        await kit.manager.schedule_recurring_task("tick", double, args=[5], cron_expression="@daily")
        ids.append(await kit.manager.run_recurring_task("tick"))
    assert [await kit.manager.result(task_id) for task_id in ids] == [2, 4, 6, 8, 10]


async def test_after_the_block_jobs_wait_again(kit, double):
    with kit.inline():
        pass
    task_id = await double.enqueue(21)
    assert (await kit.manager.get_task_status(task_id)).status is State.PENDING


async def test_the_arguments_go_through_json(kit):
    got = []

    @kit.manager.task(name="shop.take")
    async def take(plain, day: date):
        got.append((plain, day))

    with kit.inline():
        await take.enqueue((1, 2), day=date(2031, 5, 14))
        with pytest.raises(InvalidArgumentsError):
            await take.enqueue(datetime.now().astimezone, date(2031, 5, 14))
        with pytest.raises(InvalidArgumentsError):
            await kit.manager.enqueue_task(take, args=[1])
    assert got == [([1, 2], date(2031, 5, 14))]


@pytest.mark.parametrize("executor", ["coroutine", "thread", "process"])
async def test_validators_run_once_at_the_enqueue_and_once_at_the_run(kit, executor):
    run = _take_on_loop if executor == "coroutine" else _take
    task = kit.manager.task(name="shop.take", executor=executor)(run)
    Counted.reads = 0
    with kit.inline():
        await task.enqueue(Counted(number=1))
    # Once more for the one that is made here.
    assert Counted.reads == 3


class Counted(pydantic.BaseModel):
    reads: ClassVar[int] = 0
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def _count(cls, number):
        cls.reads += 1
        return number


async def _take_on_loop(it: Counted) -> None: ...


def _take(it: Counted) -> None: ...


async def test_the_middleware_and_the_context_are_there(kit):
    seen = []

    @kit.manager.middleware
    async def around(job, proceed):
        seen.append(f"before {job.task}")
        settlement = await proceed()
        seen.append("after")
        return settlement

    @kit.manager.task(name="shop.curious")
    def curious():
        seen.append(f"attempt {current_job().attempt}")

    with kit.inline():
        await curious.enqueue()
    assert seen == ["before shop.curious", "attempt 1", "after"]


async def test_the_events_are_those_of_a_worker_in_their_order(kit, double):
    events = []
    kit.manager.subscribe(lambda event: events.append(type(event)), JobEnqueued, JobStarted, JobCompleted)
    with kit.inline():
        await double.enqueue(1)
    assert events == [JobEnqueued, JobStarted, JobCompleted]


@pytest.mark.parametrize("kind", ["async", "def", "process"])
async def test_what_a_job_raises_is_raised_by_the_enqueue_and_recorded(kit, kind):
    error = LookupError("gone")

    def fail():
        raise error

    async def fail_async():
        raise error

    options = {"executor": "process", "max_attempts": 1} if kind == "process" else {"max_attempts": 1}
    # A task of a module that cannot be imported may not run in a process; here it need not be imported.
    function = fail_async if kind == "async" else fail
    function.__module__, function.__qualname__ = "shop", "fail"
    task = kit.manager.task(**options)(function)
    with kit.inline(), pytest.raises(LookupError) as raised:
        await task.enqueue()
    assert raised.value is error
    [status] = await kit.assert_enqueued(task, status="discarded")
    assert status.last_error == "LookupError: gone"


async def test_a_failure_is_only_recorded_where_that_is_asked_for(kit):
    @kit.manager.task(name="shop.broken", max_attempts=2)
    async def broken():
        raise OSError("down")

    with kit.inline(raise_errors=False):
        first = await broken.enqueue()
        last = await broken.with_options(max_attempts=1).enqueue()
    assert (await kit.manager.get_task_status(first)).status is State.RETRYABLE
    assert (await kit.manager.get_task_status(last)).status is State.DISCARDED


@pytest.mark.parametrize("outcome", [Snooze(60), Retry(after=60), Fail("never")])
async def test_an_outcome_that_a_handler_decides_is_no_error(kit, outcome):
    @kit.manager.task(name="shop.moody")
    async def moody():
        raise outcome

    with kit.inline():
        task_id = await moody.enqueue()
    status = await kit.manager.get_task_status(task_id)
    assert status.status in {State.SCHEDULED, State.RETRYABLE, State.FAILED}


async def test_an_error_of_the_middleware_is_raised_too(kit, double):
    @kit.manager.middleware
    async def around(job, proceed):
        raise PermissionError("not you")

    with kit.inline(), pytest.raises(PermissionError, match="not you"):
        await double.enqueue(1)


async def test_a_timeout_is_raised_in_words(kit):
    @kit.manager.task(name="shop.slow", timeout_seconds=1)
    async def slow():
        await kit.sleep(2)

    with kit.inline(), pytest.raises(JobNotCompletedError, match=r"shop.slow .* retryable: TimeoutError: ran longer"):
        await slow.enqueue()


async def test_what_an_earlier_attempt_raised_is_not_taken_for_a_timeout(kit):
    attempts = []

    @kit.manager.task(name="shop.slow", timeout_seconds=1)
    async def slow():
        attempts.append(1)
        if len(attempts) == 1:
            raise Retry(after=60)
        await kit.sleep(2)

    await slow.enqueue()
    with pytest.raises(JobNotCompletedError, match=r"attempt 2 of shop.slow .* TimeoutError"):
        await kit.advance(hours=1, raise_errors=True)


async def test_a_job_that_enqueues_runs_the_other_before_it_goes_on(kit):
    order = []

    @kit.manager.task(name="shop.child")
    async def child():
        order.append("child")

    @kit.manager.task(name="shop.parent")
    async def parent():
        order.append("parent begins")
        await child.enqueue()
        order.append("parent ends")

    with kit.inline():
        await parent.enqueue()
    assert order == ["parent begins", "child", "parent ends"]


def test_a_plain_function_may_enqueue_too(kit):
    order = []

    @kit.manager.task(name="shop.child")
    def child():
        order.append("child")

    @kit.manager.task(name="shop.parent")
    def parent():
        kit.manager.sync.enqueue_task(child)
        order.append("parent")

    with kit.inline():
        kit.manager.sync.enqueue_task(parent)
    assert order == ["child", "parent"]


async def test_a_job_that_is_due_later_waits_for_the_clock(kit, double):
    with kit.inline():
        task_id = await double.with_options(delay_seconds=60).enqueue(21)
        assert (await kit.manager.get_task_status(task_id)).status is State.SCHEDULED
        await kit.advance(minutes=1)
    assert await kit.manager.result(task_id) == 42


async def test_jobs_of_a_paused_queue_wait(kit, double):
    await kit.manager.queues.pause("default")
    with kit.inline():
        task_id = await double.enqueue(21)
    assert (await kit.manager.get_task_status(task_id)).status is State.PENDING


async def test_a_second_enqueue_of_a_unique_job_runs_nothing(kit):
    runs = []

    @kit.manager.task(name="shop.once", unique_for_seconds=60)
    async def once():
        runs.append(1)

    with kit.inline():
        first = await once.enqueue()
        again = await once.enqueue()
    assert (again, again.is_new, runs) == (first, False, [1])


async def test_many_are_run_in_order_until_one_fails(kit):
    ran = []

    @kit.manager.task(name="shop.picky")
    async def picky(number: int):
        ran.append(number)
        if number == 2:
            raise ValueError(number)

    enqueue = partial(kit.manager.enqueue_many, [picky.call(number) for number in (1, 2, 3)])
    with kit.inline(), pytest.raises(ValueError, match="2"):
        await enqueue()
    assert ran == [1, 2]
    assert len(await kit.all_enqueued(picky)) == 3
    assert len(await kit.all_enqueued(picky, status="pending")) == 1


@pytest.fixture
def broken(kit):
    @kit.manager.task(name="shop.broken", max_attempts=1)
    async def broken():
        raise OSError("down")

    return broken


async def test_the_options_of_the_inner_block_hold_and_then_those_of_the_outer_one(kit, broken):
    with kit.inline(raise_errors=False):
        await broken.enqueue()
        with kit.inline(raise_errors=True), pytest.raises(OSError, match="down"):
            await broken.enqueue()
        await broken.enqueue()
    with kit.inline():
        with kit.inline(raise_errors=False):
            await broken.enqueue()
        with pytest.raises(OSError, match="down"):
            await broken.enqueue()
    await kit.assert_enqueued(broken, status="discarded", count=5)


async def test_blocks_that_end_in_another_order_leave_nothing_behind(kit, broken):
    first, second = kit.inline(raise_errors=False), kit.inline()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(OSError, match="down"):
        await broken.enqueue()
    second.__exit__(None, None, None)
    await broken.enqueue()
    await kit.assert_enqueued(broken, status="pending", count=1)


async def test_blocks_of_two_tasks_do_not_overlap(kit, broken):
    begun = asyncio.Event()

    async def hold():
        with kit.inline(raise_errors=False):
            begun.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await begun.wait()
    with pytest.raises(OverlapError, match="enter the block once"), kit.inline():
        pass
    holder.cancel()
    await asyncio.wait([holder])
    with kit.inline(), pytest.raises(OSError, match="down"):
        await broken.enqueue()


def test_a_kit_around_another_goes_on_inline_when_the_inner_one_has_ended(kit, double):
    with kit.inline():
        with use_memory(kit.manager) as inner:
            double.sync.enqueue(1)
            assert len(inner.sync.all_enqueued(double, status="pending")) == 1
        assert kit.manager.sync.result(double.sync.enqueue(21)) == 42


async def test_a_job_that_runs_inside_another_does_not_find_what_that_set_in_its_context(kit):
    seen = []

    @kit.manager.task(name="shop.inner")
    async def inner():
        seen.append(tenant.get())

    @kit.manager.task(name="shop.outer")
    async def outer():
        tenant.set("of the outer job")
        await inner.enqueue()

    with kit.inline():
        await outer.enqueue()
    assert seen == ["none"]


async def test_a_job_that_enqueues_itself_without_end_is_refused_at_the_limit():
    manager = BackgroundTaskManager("memory://")

    @manager.task(name="endless")
    async def endless():
        await endless.enqueue()

    refused = pytest.raises(TooManyRunsError, match="5 attempts have run and more are pending")
    with use_memory(manager) as kit, kit.inline(limit=5), refused:
        await endless.enqueue()
