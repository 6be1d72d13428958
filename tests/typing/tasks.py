"""
What mypy and pyright must accept and refuse about tasks.

Both report an ignore that nothing needs, so every refusal is a test.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Coroutine
from typing import Any, assert_type

from deeper_tasks import BackgroundTaskManager, WorkerState
from deeper_tasks.tasks import BlockingTask, BoundTask, Task, TaskCall, TaskId, make_task, task


@task
async def send(user_id: int, greeting: str = "hello") -> str:
    return f"{greeting} {user_id}"


@task(
    queue="images",
    max_attempts=3,
    timeout_seconds=math.inf,
    retry_delay_seconds=None,
    retry_on=(OSError,),
    executor="process",
    memory_limit_mb=512,
    quarantine=False,
)
def resize(path: str, *sizes: int) -> bytes:
    return path.encode()


@task(cron="0 3 * * *", timezone="Europe/Berlin", missed_runs="once", overlap="skip")
async def report(day: str = "today") -> None: ...


async def a_task_is_typed_by_its_function() -> None:
    assert_type(await send(1), str)
    assert_type(resize("x", 1, 2), bytes)


async def an_enqueue_takes_the_arguments_of_the_function() -> None:
    assert_type(await send.enqueue(42), TaskId)
    await send.enqueue(42, greeting="hi")
    await resize.enqueue("x", 1, 2)
    await send.enqueue("x")  # type: ignore[arg-type]
    await send.enqueue()  # type: ignore[call-arg]
    await send.enqueue(42, salute="hi")  # type: ignore[call-arg]
    send.call(42)
    send.call("x")  # type: ignore[arg-type]
    await resize.enqueue("x", "large")  # type: ignore[arg-type]


async def options_are_typed_and_keep_the_arguments() -> None:
    bound = send.with_options(delay_seconds=60, priority=-1, unique="until_done", tags=["a"])
    assert_type(await bound.enqueue(42), TaskId)
    await bound.with_options(timeout_seconds=None).enqueue(42, "hi")
    await bound.enqueue("x")  # type: ignore[arg-type]
    send.with_options(priority="high")  # type: ignore[arg-type]
    send.with_options(prioritty=1)  # type: ignore[call-arg]
    send.with_options(unique="for_ever")  # type: ignore[arg-type]


def a_blocking_enqueue_takes_the_arguments_of_the_function_too() -> None:
    assert_type(send.sync.enqueue(42), TaskId)
    assert_type(send.sync.enqueue(42, greeting="hi"), TaskId)
    assert_type(resize.sync.enqueue("x", 1, 2), TaskId)
    send.sync.enqueue("x")  # type: ignore[arg-type]
    send.sync.enqueue()  # type: ignore[call-arg]
    send.sync.enqueue(42, salute="hi")  # type: ignore[call-arg]
    resize.sync.enqueue("x", "large")  # type: ignore[arg-type]
    send.sync.delay(42)  # type: ignore[attr-defined]


def the_options_of_a_blocking_enqueue_are_typed_and_keep_the_arguments() -> None:
    assert_type(send.with_options(delay_seconds=60).sync.enqueue(42), TaskId)
    assert_type(send.sync.with_options(delay_seconds=60).enqueue(42, "hi"), TaskId)
    assert_type(send.sync.call(42), TaskCall)
    send.with_options(priority=1).sync.enqueue("x")  # type: ignore[arg-type]
    send.sync.with_options(priority="high")  # type: ignore[arg-type]
    send.sync.with_options(priority=1).enqueue("x")  # type: ignore[arg-type]
    send.sync.call("x")  # type: ignore[arg-type]


async def any_stores_connection_is_an_option() -> None:
    connection = sqlite3.connect(":memory:")
    assert_type(await send.with_options(connection=connection).enqueue(42), TaskId)
    manager = BackgroundTaskManager("memory://")
    assert_type(await manager.enqueue_task(send, args=[42], connection=connection), TaskId)
    assert_type(await manager.schedule_task(send, None, [42], 60, connection=None), TaskId)
    assert_type(await manager.enqueue_many([send.call(42)], connection=connection), list[TaskId])
    assert_type(manager.sync.enqueue_task(send, args=[42], connection=connection), TaskId)
    assert_type(manager.sync.enqueue_many([send.call(42)], connection=connection), list[TaskId])
    await send.enqueue(42, connection=connection)  # type: ignore[call-arg]
    await manager.enqueue_task(send, args=[42], conection=connection)  # type: ignore[call-arg]
    task(connection=connection)  # type: ignore[call-overload]


def hooks_keep_their_types_and_the_state_holds_anything() -> None:
    manager = BackgroundTaskManager("memory://")

    @manager.on_worker_start
    async def open_pool(state: WorkerState, size: int = 3) -> dict[str, int]:
        state.pool = size
        return {"more": state.pool}

    @manager.on_worker_stop
    def close_pool() -> None: ...

    assert_type(close_pool(), None)
    opening: Coroutine[Any, Any, dict[str, int]] = open_pool(WorkerState(), size=4)
    opening.close()
    manager.on_worker_start("open_pool")  # type: ignore[type-var]


def a_decorator_refuses_wrong_options() -> None:
    task(queue=3)  # type: ignore[call-overload]
    task(delay_seconds=3)  # type: ignore[call-overload]
    task(executor="gpu")  # type: ignore[call-overload]
    task(cron=5)  # type: ignore[call-overload]
    task(cron="@daily", overlap="sometimes")  # type: ignore[call-overload]


def named(number: int) -> None: ...


made: Task[[int], None] = make_task(named, name="named", retry=lambda attempt, error: attempt * 2.0)
bound: BoundTask[[int], None] = made.with_options(queue="emails")
blocking: BlockingTask[[int]] = bound.sync
