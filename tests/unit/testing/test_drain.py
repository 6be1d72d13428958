"""A drain: what is pending runs, and what that enqueues, until nothing is left."""

import asyncio

import pytest

from deeper_tasks import Cancel, Fail, current_job
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidArgumentsError, JobNotCompletedError
from deeper_tasks.tasks import make_task
from deeper_tasks.testing import TooManyRunsError


@pytest.fixture
def note(kit):
    noted = []

    @kit.manager.task(name="shop.note")
    async def note(word: str):
        noted.append(word)

    note.noted = noted
    return note


async def test_a_drain_of_nothing_is_an_empty_summary(kit):
    summary = await kit.drain()
    assert (len(summary), str(summary)) == (0, "nothing ran")


async def test_jobs_run_in_the_order_of_their_queue(kit, note):
    await note.enqueue("normal")
    await note.with_options(priority=10).enqueue("last")
    await note.with_options(priority=-10).enqueue("first")
    await kit.drain()
    assert note.noted == ["first", "normal", "last"]


async def test_what_was_due_first_of_several_queues_runs_first(kit, note):
    for word, queue in (("one", "zebra"), ("two", "ant"), ("three", "zebra")):
        await note.with_options(queue=queue).enqueue(word)
    await kit.drain()
    assert note.noted == ["one", "two", "three"]


async def test_one_queue_is_drained_and_the_others_wait(kit, note):
    await note.with_options(queue="emails").enqueue("mail")
    other = await note.enqueue("other")
    summary = await kit.drain("emails")
    assert (note.noted, summary.completed) == (["mail"], 1)
    assert (await kit.manager.get_task_status(other)).status is State.PENDING


async def test_a_paused_queue_is_left_alone(kit, note):
    await kit.manager.queues.pause("emails")
    await note.with_options(queue="emails").enqueue("mail")
    await note.enqueue("other")
    assert (await kit.drain()).completed == 1
    assert note.noted == ["other"]


async def test_a_queue_of_expired_jobs_holds_up_no_other(kit, note):
    await note.with_options(queue="ant", expires_in_seconds=1).enqueue("late")
    kit.clock.move(kit.now.replace(year=kit.now.year + 1))
    await note.with_options(queue="zebra").enqueue("in time")
    assert (await kit.drain()).completed == 1
    assert note.noted == ["in time"]


async def test_jobs_that_jobs_enqueue_are_drained_too(kit, note):
    @kit.manager.task(name="shop.parent")
    async def parent(depth: int):
        await note.enqueue(f"depth {depth}")
        if depth:
            await parent.enqueue(depth - 1)

    await parent.enqueue(2)
    summary = await kit.drain()
    assert note.noted == ["depth 2", "depth 1", "depth 0"]
    assert summary.completed == 6


async def test_a_chain_without_end_is_an_error(kit):
    @kit.manager.task(name="shop.chain")
    async def chain():
        await chain.enqueue()

    await chain.enqueue()
    with pytest.raises(TooManyRunsError, match=r"20 attempts .* \(shop.chain is next\)"):
        await kit.drain(limit=20)


async def test_the_summary_tells_how_each_attempt_ended(kit):
    outcomes = {"fail": Fail("never"), "cancel": Cancel("unwanted"), "raise": OSError("down")}

    @kit.manager.task(name="shop.moody", max_attempts=2)
    async def moody(how: str):
        if how in outcomes:
            raise outcomes[how]

    ids = {how: await moody.enqueue(how) for how in ("complete", "fail", "cancel", "raise")}
    ids["discard"] = await moody.with_options(max_attempts=1).enqueue("raise")
    summary = await kit.drain()
    assert {end: summary.ids(end) for end in ("completed", "failed", "cancelled", "retryable", "discarded")} == {
        "completed": [ids["complete"]],
        "failed": [ids["fail"]],
        "cancelled": [ids["cancel"]],
        "retryable": [ids["raise"]],
        "discarded": [ids["discard"]],
    }
    assert (summary.failed, summary.cancelled, summary.discarded, summary.retryable, summary.snoozed) == (1, 1, 1, 1, 0)


async def test_retries_wait_unless_they_are_asked_for(kit):
    failures = [OSError("down"), OSError("down")]

    @kit.manager.task(name="shop.flaky", retry_delay_seconds=3600)
    async def flaky():
        if failures:
            raise failures.pop()

    task_id = await flaky.enqueue()
    assert str(await kit.drain()) == "1 retryable"
    assert len(await kit.drain()) == 0
    assert str(await kit.drain(with_retries=True)) == "1 completed, 1 retryable"
    assert (await kit.manager.get_task_status(task_id)).attempts == 3


async def test_scheduled_jobs_wait_unless_they_are_asked_for(kit, note):
    start = kit.now
    await note.with_options(delay_seconds=3600).enqueue("later")
    assert len(await kit.drain()) == 0
    assert (await kit.drain(with_scheduled=True)).completed == 1
    assert (kit.now - start).total_seconds() == 3600


async def test_a_job_that_has_become_due_is_drained(kit, note):
    await note.with_options(delay_seconds=60).enqueue("due")
    kit.clock.move(kit.now.replace(year=kit.now.year + 1))
    assert (await kit.drain()).completed == 1


async def test_a_recurring_task_does_not_fire_in_a_drain(kit, note):
    await kit.manager.schedule_recurring_task("tick", note, args=["tick"], cron_expression="@every 1m")
    await note.with_options(delay_seconds=3600).enqueue("later")
    await kit.drain(with_scheduled=True)
    assert note.noted == ["later"]


async def test_an_error_ends_a_drain_that_raises(kit, note):
    @kit.manager.task(name="shop.broken", max_attempts=1)
    async def broken():
        raise LookupError("gone")

    await broken.enqueue()
    await note.enqueue("after")
    with pytest.raises(LookupError, match="gone"):
        await kit.drain(raise_errors=True)
    assert note.noted == []
    await kit.drain(raise_errors=True)
    assert note.noted == ["after"]


async def test_arguments_that_do_not_fit_fail_at_once(kit, note):
    for executor in ("thread", "process"):
        name = f"shop.{executor}"
        kit.manager.task(name=name)(_before)
        task_id = await kit.manager.enqueue_task(name.partition(".")[0], executor, ["x"])
        kit.manager.registry._by_name[name] = make_task(_after, name=name, executor=executor)
        with pytest.raises((JobNotCompletedError, InvalidArgumentsError), match="missing a required argument: 'b'"):
            await kit.drain(raise_errors=True)
        status = await kit.manager.get_task_status(task_id)
        assert (status.status, status.errors[-1].kind) == (State.FAILED, "InvalidArgumentsError")


def _before(a: str) -> None: ...


def _after(a: str, b: str) -> None: ...


async def test_a_job_of_an_unknown_task_is_given_back(kit, note):
    await note.enqueue("orphan")
    kit.manager.registry._by_name.clear()
    kit.manager.registry._by_path.clear()
    summary = await kit.drain()
    assert [run.end for run in summary.runs] == ["released"]


async def test_odd_values_end_a_job_here_as_in_a_worker(kit):
    @kit.manager.task(name="shop.odd", max_attempts=1)
    async def odd(how: str):
        match how:
            case "error":
                return ValueError("no")
            case "generator":
                return (number for number in [1])
            case "group":
                raise ExceptionGroup("both", [ValueError("a"), Fail("never")])
            case "progress":
                current_job().progress("half")
            case "exit":
                await asyncio.gather(asyncio.create_task(leave()))
        return {object(): object()}

    async def leave():
        raise SystemExit(0)

    for how in ("exit", "error", "generator", "group", "progress", "result"):
        await odd.enqueue(how)
    summary = await kit.drain()
    assert [run.end for run in summary.runs] == [
        "discarded",
        "discarded",
        "discarded",
        "failed",
        "discarded",
        "completed",
    ]
    assert [(run.error or "").partition(":")[0] for run in summary.runs] == [
        "SystemExit",
        "ValueError",
        "TypeError",
        "Fail",
        "TypeError",
        "",
    ]
