"""A call that is never awaited is an ERROR in the log that names its line, at no cost for one that is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings

import pytest

from deeper_tasks import BackgroundTaskManager

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def manager():
    return BackgroundTaskManager("memory://")


@pytest.fixture
def send(manager):
    @manager.task(name="shop.send")
    async def send(number: int) -> None: ...

    return send


@pytest.fixture
def told(caplog):
    """Return what was told of calls that were never awaited."""

    def told():
        gc.collect()
        return [
            record.getMessage()
            for record in caplog.records
            if (record.name, record.levelname) == ("deeper_tasks", "ERROR") and "never awaited" in record.message
        ]

    return told


def line(*, above=0):
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno - above}"


def test_an_enqueue_that_is_dropped_is_told_with_its_line_and_the_way_out(send, told):
    send.enqueue(42)
    place = line(above=1)
    [message] = told()
    assert message == (
        f"enqueue() of shop.send was never awaited in {place}, and no job was enqueued; "
        "write 'await send.enqueue(…)', or 'send.sync.enqueue(…)' in code that is not async"
    )


def test_the_line_of_a_call_over_several_is_that_of_its_enqueue(send, told):
    send.with_options(
        priority=1,
    ).enqueue(
        42,
    )
    assert f"in {line(above=3)}, and" in told()[0]


async def test_it_is_told_in_async_code_and_at_once(send, told):
    send.enqueue(1)
    [message] = told()
    assert f"in {line(above=2)}, and" in message


def test_a_method_of_the_manager_that_is_dropped_is_told_too(manager, send, told):
    manager.enqueue_task(send, args=[1])
    manager.cancel_task("0197")
    place = line(above=1)
    enqueued, cancelled = told()
    assert enqueued.startswith("manager.enqueue_task() was never awaited ")
    assert cancelled == (
        f"manager.cancel_task() was never awaited in {place}, and nothing was done; "
        "write 'await manager.cancel_task(…)', or 'manager.sync.cancel_task(…)' in code that is not async"
    )


def test_one_that_was_kept_is_told_with_the_line_that_dropped_it(send, told):
    kept = send.enqueue(1)
    kept = None
    assert kept is None
    assert f"kept and then dropped in {line(above=2)}; PYTHONASYNCIODEBUG=1 shows its line" in told()[0]


def test_in_debug_mode_one_that_was_kept_is_told_with_its_own_line(send, told):
    async def sign_up():
        kept = send.enqueue(1)
        await asyncio.sleep(0)
        return [type(kept)]

    place = line(above=4)
    asyncio.run(sign_up(), debug=True)
    assert f"was never awaited in {place}, and" in told()[0]


def test_the_warning_stays_as_python_makes_it(send):
    async def other(): ...

    for call in (send.enqueue, lambda _: other()):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            call(1)
        [warning] = caught
        place = line(above=2)
        assert f"{warning.filename}:{warning.lineno}" == place
        assert "was never awaited" in str(warning.message)


async def test_nothing_is_told_of_what_is_awaited_passed_on_or_closed(manager, send, told):
    await send.enqueue(1)
    await asyncio.gather(send.enqueue(2), send.with_options(priority=1).enqueue(3))
    await asyncio.create_task(send.enqueue(4))
    await asyncio.wait_for(send.enqueue(5), 20)
    send.enqueue(6).close()
    assert (await manager.list_tasks()).total_entries == 5

    async def other(): ...

    other()
    assert told() == []


def test_an_enqueue_is_still_a_coroutine(send):
    call = send.enqueue(1)
    assert inspect.iscoroutine(call)
    assert asyncio.iscoroutine(call)
    assert inspect.iscoroutinefunction(send.enqueue)
    assert inspect.iscoroutinefunction(send.with_options().enqueue)
    call.close()


def test_a_second_manager_reports_no_call_twice(send, told):
    BackgroundTaskManager("memory://")
    send.enqueue(1)
    assert len(told()) == 1


@pytest.mark.parametrize("method", ["enqueue_many", "get_statistics", "run_worker", "open"])
def test_every_async_method_of_the_manager_is_watched(manager, method, told):
    arguments = [[]] if method == "enqueue_many" else []
    getattr(manager, method)(*arguments)
    assert told()[0].startswith(f"manager.{method}() was never awaited ")
