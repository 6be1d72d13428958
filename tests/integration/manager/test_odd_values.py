"""Odd values: whatever a handler tells, returns or raises, its job ends and is counted, and its neighbours run on."""

import asyncio
import contextlib
import functools
from decimal import Decimal

import pytest

from deeper_tasks import BackgroundTaskManager, State, current_job
from deeper_tasks.errors import JobNotCompletedError

ODD_TEXT = "a\0b \ud800 \x01 \\u0000 \" ' {} \U0001f701"


class Wordless:
    """An object that raises, whatever it is asked."""

    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __iter__ = __len__ = __str__


def syntax_error():
    raise SyntaxError(ODD_TEXT, ("file.py", 1, 1, b"bytes"))


def odd_notes():
    error = ValueError(ODD_TEXT)
    error.__notes__ = Wordless()
    raise error


def odd_type():
    raise type(ODD_TEXT.replace("\0", "").replace("\ud800", ""), (Exception,), {})(Wordless())


RAISED = {"syntax": syntax_error, "notes": odd_notes, "type": odd_type}
PROGRESS = {"nan": float("nan"), "text": "half", "object": Wordless()}
RESULTS = {
    "object": Wordless(),
    "inside": [Wordless()],
    "surrogate": "\ud800",
    "zero": "a\0b",
    "nan": float("nan"),
    "huge": "x" * 2_000_000,
}
ODD = [("raise", name) for name in RAISED] + [("progress", name) for name in PROGRESS]
FINE = [("return", name) for name in RESULTS] + [("tell", "all")]


def act(what, name):
    """Do what the name says, as a handler would."""
    job = current_job()
    match what:
        case "raise":
            RAISED[name]()
        case "progress":
            job.progress(PROGRESS[name])
        case "return":
            return RESULTS[name]
        case "tell":
            job.progress(Decimal(1), ODD_TEXT, total=2)
            job.log(ODD_TEXT)
            job.log(Wordless())
    return None


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def manager(request, tmp_path):
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/tasks.db"}.get(request.param)
    async with BackgroundTaskManager(
        url or request.getfixturevalue("store_url"), poll_interval_seconds=0.05, default_retry_delay_seconds=0.01
    ) as manager:
        yield manager


@pytest.mark.parametrize("where", ["coroutine", "thread"])
async def test_every_job_ends_and_is_counted_on_every_store(manager, working, where):
    @functools.wraps(act)
    async def on_loop(what: str, name: str):
        return act(what, name)

    task = manager.task(name="odd.act", max_attempts=2)(on_loop if where == "coroutine" else act)
    assert task.leads_to_coroutine is (where == "coroutine")
    ids = {case: await task.enqueue(*case) for case in [*ODD, *FINE]}

    async def jobs():
        found = {case: await manager.get_task_status(task_id) for case, task_id in ids.items()}
        return found if all(job.status.is_terminal for job in found.values()) else None

    async with working(manager):
        ended = None
        while ended is None:
            ended = await jobs()
            await asyncio.sleep(0.01)
        later = await task.enqueue("tell", "all")
        await manager.result(later, timeout=20)
    assert {case: (ended[case].status, ended[case].attempts) for case in ODD} == dict.fromkeys(
        ODD, (State.DISCARDED, 2)
    )
    assert {ended[case].status for case in FINE} == {State.COMPLETED}
    told = ended["tell", "all"]
    kept = ODD_TEXT.replace("\ud800", "?")
    assert told.progress.fraction == 0.5
    assert {told.progress.message, told.log[0]} <= {kept, kept.replace("\0", "\N{REPLACEMENT CHARACTER}")}
    assert told.log[1] == "<Wordless without words>"


async def leave(kind=SystemExit):
    raise kind(0)


async def leave_together(how):
    match how:
        case "gather":
            await asyncio.gather(leave(), asyncio.sleep(0))
        case "kept":
            await asyncio.gather(leave(), return_exceptions=True)
        case "group":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(leave(KeyboardInterrupt))
                tasks.create_task(asyncio.sleep(60))
        case "unawaited":
            leaving = asyncio.create_task(leave())
            await asyncio.wait({leaving})
        case "cancelled":
            idle = asyncio.create_task(leave())
            idle.cancel()


@pytest.mark.parametrize("manager", ["memory"], indirect=True)
async def test_in_a_loop_of_the_application_s_own_a_task_of_a_job_that_exits_fails_the_job_alone(manager, working):
    manager.task(name="odd.leave", max_attempts=1)(leave_together)
    before = asyncio.get_running_loop().get_task_factory()
    cases = ["gather", "kept", "group", "unawaited", "cancelled"]
    async with working(manager), working(manager):
        ids = [await manager.registry.get("odd.leave").enqueue(how) for how in cases]
        for task_id in ids:
            with contextlib.suppress(JobNotCompletedError):
                await manager.result(task_id, timeout=20)
        ended = [await manager.get_task_status(task_id) for task_id in ids]
    assert [job.status for job in ended] == [*[State.DISCARDED] * 4, State.COMPLETED]
    assert [job.errors[-1].kind for job in ended[:4]] == [*["SystemExit"] * 2, "KeyboardInterrupt", "SystemExit"]
    assert asyncio.get_running_loop().get_task_factory() is before
