"""Enqueueing: by whatever name, with every option, once, together, later and again and again."""

import asyncio
import math
import os
import sys
import textwrap
import types
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from deeper_tasks import BackgroundTaskManager, task
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.domain.state import State
from deeper_tasks.errors import (
    BackendUnavailableError,
    ConfigError,
    DuplicateJobError,
    InvalidArgumentsError,
    InvalidOptionError,
    TaskError,
    UnsupportedError,
)
from deeper_tasks.integrations.events import JobEnqueued
from deeper_tasks.tasks.options import EnqueueOptions
from deeper_tasks.testing import FaultyBackend


@pytest.fixture
def send(manager):
    @manager.task(name="shop.mails.send")
    async def send(user_id: int, text: str = ""): ...

    return send


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `shop_<n>` with a task, an undecorated function and a class, importable by its name."""
    name = f"shop_{os.getpid()}_{len(sys.modules)}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent(
            """
            from deeper_tasks import task

            @task(queue="mail", max_attempts=2)
            async def send(user_id: int): ...

            def undecorated(user_id: int): ...

            class Reports:
                @task
                @staticmethod
                def build(year: int): ...
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


async def test_a_task_enqueues_its_own_calls(manager, send):
    task_id = await send.enqueue(42, text="hello")
    status = await manager.get_task_status(task_id)
    assert (status.task, status.worker, status.function) == ("shop.mails.send", "shop.mails", "send")
    assert (status.args, status.kwargs) == ([42, "hello"], {})
    assert (status.status, status.queue, status.attempts) == (State.PENDING, "default", 0)
    assert UUID(task_id).version == 7
    assert task_id.is_new


async def test_a_task_is_named_by_the_task_itself_or_by_module_and_function(manager, send):
    ids = [
        await manager.enqueue_task("shop.mails", "send", [42]),
        await manager.enqueue_task(send, args=[42]),
        await manager.enqueue_task(send, args=(), kwargs={"user_id": 42}),
    ]
    assert [(await manager.get_task_status(task_id)).args for task_id in ids] == [[42]] * 3


async def test_a_task_is_named_by_its_module_and_imported_for_it(manager, module):
    task_id = await manager.enqueue_task(module, "send", [42])
    status = await manager.get_task_status(task_id)
    assert (status.worker, status.queue, status.max_attempts) == (module, "mail", 2)
    again = await manager.enqueue_task(sys.modules[module], "send", [42])
    assert (await manager.get_task_status(again)).task == f"{module}.send"


async def test_a_task_is_named_by_its_class(manager, module):
    await manager.enqueue_task(f"{module}.Reports", "build", [2026])
    reports = sys.modules[module].Reports
    task_id = await manager.enqueue_task(reports, "build", [2026])
    assert (await manager.get_task_status(task_id)).task == f"{module}.Reports.build"


async def test_an_undecorated_function_counts_only_in_an_allowed_module(url, manager, module):
    with pytest.raises(TaskError, match=r"no task is named '.*undecorated'"):
        await manager.enqueue_task(module, "undecorated", [42])
    async with BackgroundTaskManager(url, allowed_modules=[module]) as allowing:
        task_id = await allowing.enqueue_task(module, "undecorated", [42])
        assert (await allowing.get_task_status(task_id)).function == "undecorated"


async def test_included_tasks_are_bound_to_the_manager(manager, module):
    taken = manager.include(module)
    assert sorted(each.name.removeprefix(f"{module}.") for each in taken) == ["Reports.build", "send"]
    task_id = await taken[0].enqueue(1)
    assert (await manager.get_task_status(task_id)).worker.startswith(module)


async def test_modules_are_included_by_the_settings(url, module):
    async with BackgroundTaskManager(url, include=[module]) as including:
        assert including.registry.get(f"{module}.send") is not None


async def test_the_modules_of_an_included_package_are_named_by_the_settings_or_the_call(url, tmp_path, monkeypatch):
    package = f"shop_{os.getpid()}_{len(sys.modules)}"
    for path in (f"{package}/jobs.py", f"{package}/tasks.py", f"{package}/migrations/tasks.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).parent.joinpath("__init__.py").touch()
        (tmp_path / path).write_text("from deeper_tasks import task\n@task\ndef send(): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    for given, taken in (({}, "tasks"), ({"task_modules": ["jobs"]}, "jobs")):
        manager = BackgroundTaskManager(url, include=[package], **given)
        assert [task.name for task in manager.registry] == [f"{package}.{taken}.send"]
    assert [task.module for task in manager.include(package, task_modules="tasks")] == [f"{package}.tasks"]
    with pytest.raises(InvalidOptionError, match=r"option 'task_modules' cannot hold 'a b': write a pattern"):
        manager.include(package, task_modules=["a b"])
    with pytest.raises(ConfigError, match=r"setting 'task_modules' cannot be .*write a pattern of a module's name"):
        BackgroundTaskManager(url, task_modules=["a b"])
    for name in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)


async def test_a_task_of_a_package_can_be_enqueued_as_it_is(manager):
    @task(name="reusable.clean")
    async def clean(): ...

    with pytest.raises(TaskError, match="no manager has the task"):
        await clean.enqueue()
    await manager.enqueue_task(clean)
    await clean.enqueue()


async def test_every_option_reaches_the_job(manager, send):
    task_id = str(uuid4())
    enqueued = await manager.enqueue_task(
        send,
        args=[42],
        queue="mail",
        priority=-5,
        max_attempts=7,
        retry_delay_seconds=3,
        max_retry_delay_seconds=90,
        timeout_seconds=60,
        tags=["urgent", "invoice"],
        meta={"tenant": "acme"},
        expires_in_seconds=600,
        task_id=task_id,
    )
    assert enqueued == task_id
    status = await manager.get_task_status(task_id)
    assert (status.queue, status.priority, status.max_attempts) == ("mail", -5, 7)
    assert (status.tags, status.meta) == (("urgent", "invoice"), {"tenant": "acme"})
    assert status.expires_at == status.scheduled_at + timedelta(minutes=10)
    job = await manager.backend.get(task_id)
    assert job.options.retry_delay == timedelta(seconds=3)
    assert job.options.max_retry_delay == timedelta(seconds=90)
    assert job.options.timeout == timedelta(minutes=1)


async def test_no_timeout_is_told_from_none_given(manager):
    @manager.task(name="shop.limited", timeout_seconds=5)
    async def limited(): ...

    unlimited = await limited.with_options(timeout_seconds=math.inf).enqueue()
    assert (await manager.backend.get(unlimited)).options.timeout == timedelta(0)
    for usual in (await limited.enqueue(), await limited.with_options(timeout_seconds=None).enqueue()):
        assert (await manager.backend.get(usual)).options.timeout is None


async def test_the_tasks_own_options_hold_unless_others_are_given(manager):
    @manager.task(name="shop.own", queue="mail", priority=3, max_attempts=2, tags=["own"], meta={"a": 1})
    async def own(): ...

    status = await manager.get_task_status(await own.enqueue())
    assert (status.queue, status.priority, status.max_attempts, status.tags) == ("mail", 3, 2, ("own",))
    status = await manager.get_task_status(await own.with_options(queue="other", priority=0, tags=[]).enqueue())
    assert (status.queue, status.priority, status.max_attempts, status.tags) == ("other", 0, 2, ())


async def test_the_settings_hold_where_nothing_is_said(url):
    async with BackgroundTaskManager(url, default_queue="usual", default_max_attempts=9) as usual:

        @usual.task(name="shop.plain")
        async def plain(): ...

        status = await usual.get_task_status(await plain.enqueue())
        assert (status.queue, status.max_attempts) == ("usual", 9)


# Times.


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
async def test_a_delay_counts_from_the_enqueue(manager, send, delay):
    for task_id in (
        await manager.schedule_task(send, args=[1], scheduled_at=delay),
        await manager.enqueue_task(send, args=[1], delay_seconds=delay),
    ):
        status = await manager.get_task_status(task_id)
        assert status.status is State.SCHEDULED
        assert status.scheduled_at - status.inserted_at == timedelta(seconds=90)


async def test_a_moment_is_kept_in_whatever_zone_it_is_given(manager, send):
    berlin = datetime(2031, 7, 1, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    task_id = await manager.schedule_task("shop.mails", "send", [1], berlin)
    assert (await manager.get_task_status(task_id)).scheduled_at == datetime(2031, 7, 1, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize("now", [0, 0.0, timedelta(0), datetime(1999, 1, 1, tzinfo=UTC)])
async def test_no_delay_and_a_past_moment_mean_now(manager, send, now):
    status = await manager.get_task_status(await manager.schedule_task(send, args=[1], scheduled_at=now))
    assert (status.status, status.scheduled_at) == (State.PENDING, status.inserted_at)


async def test_expiry_counts_from_the_due_time(manager, send):
    task_id = await manager.schedule_task(send, args=[1], scheduled_at=60, expires_in_seconds=5)
    status = await manager.get_task_status(task_id)
    assert status.expires_at == status.scheduled_at + timedelta(seconds=5)


# The same again.


async def test_the_same_id_and_call_gives_the_same_job(manager, send):
    first = await manager.enqueue_task(send, args=[1])
    again = await manager.enqueue_task(send, args=[1], task_id=first)
    assert (first.is_new, again, again.is_new) == (True, first, False)
    for other in (manager.enqueue_task(send, args=[2], task_id=first),):
        with pytest.raises(DuplicateJobError):
            await other
    assert (await manager.list_tasks()).total_entries == 1


async def test_a_uuid_and_any_way_to_write_it_name_the_same_job(manager, send):
    task_id = uuid4()
    first = await manager.enqueue_task(send, args=[1], task_id=task_id)
    again = await manager.enqueue_task(send, args=[1], task_id=str(task_id).upper())
    assert first == again == str(task_id)
    assert (await manager.get_task_status(str(task_id).upper())).id == str(task_id)


async def test_a_unique_call_is_enqueued_once_for_a_period(manager, send):
    first = await manager.enqueue_task(send, args=[1], unique_for_seconds=3600)
    again = await send.with_options(unique_for_seconds=3600).enqueue(1)
    other = await send.with_options(unique_for_seconds=3600).enqueue(2)
    assert (again, again.is_new, other.is_new) == (first, False, True)
    await manager.cancel_task(first)
    assert (await send.with_options(unique_for_seconds=3600).enqueue(1)) == first


async def test_a_call_is_unique_until_it_has_ended(manager, send):
    once = send.with_options(unique="until_done")
    first = await once.enqueue(1)
    assert await once.enqueue(user_id=1) == first
    await manager.cancel_task(first)
    assert (await once.enqueue(1)).is_new


async def test_a_key_of_ones_own_takes_the_place_of_the_call(manager, send):
    keyed = send.with_options(unique="until_done", unique_key="order-7")
    first = await keyed.enqueue(1)
    assert await keyed.enqueue(2) == first
    assert (await send.enqueue(1)).is_new


# Many.


async def test_many_are_enqueued_in_one_call_and_in_order(manager, send):
    ids = await manager.enqueue_many([send.call(number) for number in range(20)])
    assert [(await manager.get_task_status(task_id)).args for task_id in ids] == [[number] for number in range(20)]
    assert ids == sorted(ids)


async def test_many_may_be_none(manager):
    assert await manager.enqueue_many([]) == []


async def test_many_may_come_from_a_generator_with_options_of_their_own(manager, send):
    urgent = send.with_options(priority=-1, unique="until_done")
    ids = await manager.enqueue_many(urgent.call(number % 2) for number in range(4))
    assert [task_id.is_new for task_id in ids] == [True, True, False, False]
    assert ids[:2] == ids[2:]


async def test_an_invalid_call_in_the_middle_enqueues_nothing(manager, send):
    with pytest.raises(InvalidArgumentsError, match=r"^calls\[1\]: argument 'user_id'"):
        await manager.enqueue_many([send.call(1), send.call("two"), send.call(3)])
    assert (await manager.list_tasks()).total_entries == 0


async def test_an_enqueue_of_many_names_what_is_no_call_by_its_place_and_type(manager, send):
    with pytest.raises(InvalidOptionError, match=r"^calls\[1\] cannot be a `dict`"):
        await manager.enqueue_many([send.call(1), {"password": "hunter2"}])


async def test_a_duplicate_in_the_middle_enqueues_nothing(manager, send):
    taken = await send.enqueue(0)
    with pytest.raises(DuplicateJobError):
        await manager.enqueue_many([send.call(1), send.with_options(task_id=taken).call(2), send.call(3)])
    assert (await manager.list_tasks()).total_entries == 1


async def test_too_many_at_once_are_refused_with_the_way_out_and_fit_in_batches(manager, send):
    calls = [send.call(1)] * (manager.backend.capabilities.max_atomic_insert + 1)
    with pytest.raises(UnsupportedError, match="10"):
        await manager.enqueue_many(calls)
    assert (await manager.list_tasks(per_page=1)).total_entries == 0
    ids = await manager.enqueue_many(calls, atomic=False)
    assert len(set(ids)) == len(calls)
    assert (await manager.list_tasks(per_page=1)).total_entries == len(calls)


async def test_calls_of_another_managers_task_are_enqueued_here(manager, url, send):
    other = BackgroundTaskManager("memory://")

    @other.task(name="other.task")
    async def foreign(): ...

    [task_id] = await manager.enqueue_many([foreign.call()])
    assert (await manager.get_task_status(task_id)).task == "other.task"


# What is told.


async def test_an_enqueue_is_told(manager, send):
    heard = []
    unsubscribe = manager.subscribe(heard.append, JobEnqueued)
    task_id = await manager.schedule_task(send, args=[1], scheduled_at=60)
    await manager.enqueue_task(send, args=[1], task_id=task_id)
    assert [(event.job_id, event.is_new, event.task) for event in heard] == [
        (task_id, True, "shop.mails.send"),
        (task_id, False, "shop.mails.send"),
    ]
    assert heard[0].delay == timedelta(seconds=60)
    unsubscribe()
    await send.enqueue(2)
    assert len(heard) == 2


async def test_a_subscriber_that_fails_does_not_cost_the_enqueue(manager, send, caplog):
    def fail(event):
        raise RuntimeError("of the subscriber's own")

    manager.subscribe(fail)
    assert (await send.enqueue(1)).is_new
    assert "of the subscriber's own" in caplog.text


# Recurring tasks.


async def test_a_recurring_task_is_registered_listed_and_removed(manager, send):
    entry = await manager.schedule_recurring_task(
        "nightly", "shop.mails", "send", [1], "0 3 * * *", timezone="Europe/Berlin", queue="mail", overlap="skip"
    )
    assert (entry.name, entry.task, entry.queue, entry.timezone) == (
        "nightly",
        "shop.mails.send",
        "mail",
        "Europe/Berlin",
    )
    assert entry.next_run.astimezone(ZoneInfo("Europe/Berlin")).hour == 3
    listed = await manager.list_recurring_tasks(next_runs=3)
    assert [each.name for each in listed] == ["nightly"]
    runs = listed[0].next_runs
    assert len(runs) == 3
    assert list(runs) == sorted(set(runs))
    assert (await manager.get_recurring_task("nightly", next_runs=3)).next_runs == runs
    await manager.cancel_recurring_task("nightly")
    assert await manager.list_recurring_tasks() == []


async def test_the_same_name_updates_the_entry_and_keeps_the_next_run_if_it_may(manager, send):
    first = await manager.schedule_recurring_task("often", send, None, [1], "@every 1h")
    again = await manager.schedule_recurring_task("often", send, None, [2], "@every 1h")
    assert again.next_run == first.next_run
    changed = await manager.schedule_recurring_task("often", send, None, [2], "@every 30s")
    assert changed.next_run < first.next_run
    assert len(await manager.list_recurring_tasks()) == 1


async def test_a_recurring_task_can_be_run_now(manager, send):
    entry = await manager.schedule_recurring_task("nightly", send, None, [7], "@daily", tags=["night"])
    task_id = await manager.run_recurring_task("nightly")
    status = await manager.get_task_status(task_id)
    assert (status.status, status.args, status.tags) == (State.PENDING, [7], ("night",))
    assert (await manager.get_recurring_task("nightly")).next_run == entry.next_run


async def test_a_module_object_may_have_no_package(manager):
    odd = types.ModuleType("odd")
    with pytest.raises(TaskError, match="odd"):
        await manager.enqueue_task(odd, "nothing")


@pytest.mark.parametrize("option", sorted(EnqueueOptions.__annotations__))
async def test_an_option_of_none_is_as_if_it_were_not_given(manager, option):
    @manager.task(name="shop.own", queue="mail", priority=3, timeout_seconds=5, retry_delay_seconds=7, tags=["a"])
    async def own(): ...

    async def made(task_id):
        job = await manager.backend.get(task_id)
        return job.queue, job.priority, job.max_attempts, job.options, job.unique_key, job.expires_at, job.state

    expected = await made(await own.enqueue())
    nothing = {option: None}
    for task_id in (
        await manager.enqueue_task(own, **nothing),
        await manager.schedule_task(own, scheduled_at=0, **nothing),
        await own.with_options(**nothing).enqueue(),
        (await manager.enqueue_many([own.with_options(**nothing).call()]))[0],
    ):
        assert await made(task_id) == expected


async def test_a_pause_of_no_queue_is_refused(manager):
    with pytest.raises(InvalidOptionError, match="option 'queue' cannot be None"):
        await manager.queues.pause(None)


# Progress.


@pytest.mark.parametrize(("atomic", "told"), [(False, [1000, 2000, 2500]), (True, [2500])])
async def test_many_calls_tell_how_many_are_in_the_store(manager, send, atomic, told):
    seen, present = [], []

    def note(count):
        seen.append(count)
        present.append(manager.sync.list_tasks(per_page=1).total_entries)

    ids = await manager.enqueue_many((send.call(n) for n in range(2500)), atomic=atomic, on_progress=note)
    assert (len(set(ids)), seen, present) == (2500, told, told)
    await asyncio.to_thread(manager.sync.close)


def test_the_blocking_form_tells_it_too(url):
    manager = BackgroundTaskManager(url)
    send = manager.task(name="shop.send")(lambda number: number)
    with manager.sync as sync:
        seen = []
        ids = sync.enqueue_many([send.call(n) for n in range(1001)], atomic=False, on_progress=seen.append)
        assert (len(ids), seen) == (1001, [1000, 1001])


@pytest.mark.parametrize("atomic", [False, True])
async def test_an_error_in_what_is_told_of_progress_loses_no_job(manager, send, atomic, caplog):
    seen = []

    def fail(count):
        seen.append(count)
        raise RuntimeError("the bar is broken")

    ids = await manager.enqueue_many([send.call(n) for n in range(2001)], atomic=atomic, on_progress=fail)
    assert len(ids) == (await manager.list_tasks(per_page=1)).total_entries == 2001
    assert seen == [2001 if atomic else 1000]
    [record] = [record for record in caplog.records if "on_progress failed" in record.message]
    assert (record.levelname, record.exc_info[0]) == ("ERROR", RuntimeError)


@pytest.mark.parametrize("method", ["cancel_tasks", "delete_tasks"])
async def test_an_error_in_what_is_told_of_progress_ends_no_bulk_operation(manager, send, method, caplog):
    await manager.enqueue_many([send.call(n) for n in range(1001)])
    assert await getattr(manager, method)(on_progress=lambda _: 1 / 0) == 1001
    assert "on_progress failed at 500 jobs" in caplog.text


async def test_a_store_that_stops_answering_names_all_ids_whatever_is_in_it(send_through, caplog):
    store, manager, send = send_through
    store.fail("insert", on_call=2)
    seen = []
    with pytest.raises(BackendUnavailableError) as raised:
        await manager.enqueue_many([send.call(n) for n in range(1500)], atomic=False, on_progress=seen.append)
    assert (len(raised.value.request_ids), seen) == (1500, [1000])


@pytest.fixture
async def send_through():
    """A store that can fail, a manager on it and its task."""
    store = FaultyBackend(MemoryBackend())
    manager = BackgroundTaskManager("memory://", backend=store)
    async with manager:
        yield store, manager, manager.task(name="shop.send")(lambda number: number)


async def test_what_is_no_function_is_refused_before_anything_is_enqueued(manager, send):
    with pytest.raises(InvalidOptionError, match="on_progress"):
        await manager.enqueue_many([send.call(1)], on_progress=5)
    assert (await manager.list_tasks()).total_entries == 0


# A check without an enqueue.


async def test_a_call_is_checked_as_its_enqueue_would_and_nothing_is_enqueued(manager, send):
    manager.check_call(send.call(1))
    with pytest.raises(InvalidArgumentsError, match="argument 'user_id' of send"):
        manager.check_call(send.call("one"))
    with pytest.raises(InvalidOptionError, match=r"\[task\.call"):
        manager.check_call(send)
    assert (await manager.list_tasks()).total_entries == 0
