"""What mypy must accept and refuse about tasks. Checked with `warn_unused_ignores`, so every refusal is a test."""

from __future__ import annotations

from typing import assert_type

from deeper_tasks.tasks import BoundTask, Task, TaskId, make_task, task


@task
async def send(user_id: int, greeting: str = "hello") -> str:
    return f"{greeting} {user_id}"


@task(
    queue="images", max_attempts=3, timeout_seconds=None, retry_on=(OSError,), executor="process", memory_limit_mb=512
)
def resize(path: str, *sizes: int) -> bytes:
    return path.encode()


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


def a_decorator_refuses_wrong_options() -> None:
    task(queue=3)  # type: ignore[call-overload]
    task(delay_seconds=3)  # type: ignore[call-overload]
    task(executor="gpu")  # type: ignore[call-overload]


def named(number: int) -> None: ...


made: Task[[int], None] = make_task(named, name="named", retry=lambda attempt, error: attempt * 2.0)
bound: BoundTask[[int], None] = made.with_options(queue="emails")
