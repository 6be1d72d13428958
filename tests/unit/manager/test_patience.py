"""An enqueue that is tried again while the store is away: one job under one id, an end in time, and never in vain."""

import asyncio
import signal
import sqlite3
import threading
import time
import uuid
from contextlib import closing
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import BackendUnavailableError, ConfigError, InvalidOptionError
from deeper_tasks.integrations.events import JobEnqueued, StoreUnavailable
from deeper_tasks.testing import FaultyBackend
from servers.waiting import PATIENCE


def greeting(name):
    return f"hello {name}"


@pytest.fixture
def faulty():
    return FaultyBackend(MemoryBackend())


@pytest.fixture
def manager(faulty):
    """A manager whose enqueues are tried again for a minute; its store is not open yet."""
    manager = BackgroundTaskManager(backend=faulty, enqueue_patience_seconds=60)
    manager.task(name="greet")(greeting)
    return manager


@pytest.fixture
def greet(manager):
    return manager.registry.get("greet")


async def jobs_of(manager):
    return [job.id for job in (await manager.list_tasks()).entries]


# What it is for.


async def test_by_default_an_enqueue_fails_at_once(faulty):
    manager = BackgroundTaskManager(backend=faulty)
    greet = manager.task(name="greet")(greeting)
    outage = faulty.fail("insert")
    with pytest.raises(BackendUnavailableError) as caught:
        await greet.enqueue("Ada")
    assert outage.hits == 1
    assert "tried again" not in str(caught.value)


@pytest.mark.parametrize("methods", [["insert"], ["open"], []])
async def test_a_patient_one_is_stored_once_the_store_is_back(manager, greet, faulty, wait_until, methods):
    told = []
    manager.subscribe(told.append, JobEnqueued, StoreUnavailable)
    outage = faulty.fail(*methods)
    enqueuing = asyncio.create_task(greet.enqueue("Ada"))
    await wait_until(lambda: outage.hits >= 3)
    assert not enqueuing.done()
    outage.end()
    task_id = await asyncio.wait_for(enqueuing, PATIENCE)
    assert task_id.is_new
    assert await jobs_of(manager) == [task_id]
    assert [type(event) for event in told] == [StoreUnavailable, JobEnqueued]
    assert not manager.availability._failing


async def test_one_whose_answer_was_lost_makes_one_job_which_is_new(manager, greet, faulty):
    faulty.fail("insert", times=2, is_reply_lost=True)
    task_id = await greet.enqueue("Ada")
    assert task_id.is_new
    assert await jobs_of(manager) == [task_id]
    assert len({call.args[0][0].request_id for call in faulty.called("insert")}) == 1


async def test_one_with_an_id_of_the_callers_is_as_new_as_the_store_says(manager, greet, faulty):
    task_id = str(uuid.uuid4())
    assert (await greet.with_options(task_id=task_id).enqueue("Ada")).is_new
    faulty.fail("insert", times=1)
    assert not (await greet.with_options(task_id=task_id).enqueue("Ada")).is_new


async def test_many_calls_are_tried_again_together(manager, greet, faulty):
    faulty.fail("insert", times=1, is_reply_lost=True)
    ids = await manager.enqueue_many([greet.call("Ada"), greet.call("Kurt")])
    assert [task_id.is_new for task_id in ids] == [True, True]
    assert sorted(await jobs_of(manager)) == sorted(ids)


async def test_many_that_are_counted_are_tried_again_too(manager, greet, faulty):
    counted = []
    faulty.fail("insert", times=1, is_reply_lost=True)
    calls = [greet.call(str(number)) for number in range(1500)]
    ids = await manager.enqueue_many(calls, atomic=False, on_progress=counted.append)
    assert counted == [1000, 1500]
    assert all(task_id.is_new for task_id in ids)
    assert (await manager.list_tasks()).total_entries == 1500


async def test_a_file_that_is_locked_for_longer_than_its_timeout_gets_the_job_afterwards(tmp_path, wait_until):
    async with BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db?timeout=0.05") as manager:
        greet = manager.task(name="greet")(greeting)
        with closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            enqueuing = asyncio.create_task(greet.with_options(enqueue_patience_seconds=PATIENCE).enqueue("Ada"))
            await wait_until(lambda: manager.availability.is_away)
            other.execute("ROLLBACK")
        task_id = await enqueuing
        assert await jobs_of(manager) == [task_id]


@pytest.mark.parametrize("how", ["async with", "with"])
async def test_an_opening_is_tried_again_as_its_enqueues_are(manager, greet, faulty, wait_until, how):
    def enqueue():
        with manager.sync:
            return greet.sync.enqueue("Ada")

    async def aenqueue():
        async with manager:
            return await greet.enqueue("Ada")

    outage = faulty.fail("open", "insert")
    enqueuing = asyncio.create_task(aenqueue() if how == "async with" else asyncio.to_thread(enqueue))
    await wait_until(lambda: outage.hits >= 3)
    assert not enqueuing.done()
    outage.end()
    assert (await asyncio.wait_for(enqueuing, PATIENCE)).is_new


async def test_an_opening_that_is_given_up_says_how_long_it_was_tried(faulty):
    outage = faulty.fail("open")
    manager = BackgroundTaskManager(backend=faulty, enqueue_patience_seconds=0.05)
    with pytest.raises(BackendUnavailableError, match="it was tried again for"):
        await manager.open()
    hits = outage.hits
    assert hits >= 2
    with pytest.raises(BackendUnavailableError) as caught:
        await manager.open(create=False)
    assert (outage.hits, "tried again" in str(caught.value)) == (hits + 1, False)


# Its end.


@pytest.mark.parametrize("patience", [0.05, timedelta(seconds=0.05)])
async def test_at_the_end_the_error_says_how_long_it_was_tried(manager, greet, faulty, patience):
    outage = faulty.fail("insert")
    with pytest.raises(BackendUnavailableError, match=r"; it was tried again for \d+(\.\d+)? m?s") as caught:
        await greet.with_options(enqueue_patience_seconds=patience).enqueue("Ada")
    assert outage.hits >= 2
    assert len(caught.value.request_ids) == 1
    assert not manager.availability._failing
    outage.end()
    assert await jobs_of(manager) == []


async def test_each_of_several_that_wait_has_an_error_of_its_own(manager, greet, monkeypatch):
    shared = BackendUnavailableError("the store is away")

    async def refuse(*_, **__):
        raise shared

    monkeypatch.setattr(manager.backend, "insert", refuse)
    briefly = greet.with_options(enqueue_patience_seconds=0.05)
    errors = await asyncio.gather(*(briefly.enqueue("Ada") for _ in range(3)), return_exceptions=True)
    assert [str(error).count("it was tried again for") for error in errors] == [1, 1, 1]
    assert str(shared) == "the store is away"


async def test_several_that_a_locked_file_refuses_together_each_tell_of_themselves(tmp_path):
    async with BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db?timeout=0.05") as manager:
        greet = manager.task(name="greet")(greeting)
        briefly = greet.with_options(enqueue_patience_seconds=0.05)
        with closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            errors = await asyncio.gather(*(briefly.enqueue("Ada") for _ in range(5)), return_exceptions=True)
        assert [str(error).count("it was tried again for") for error in errors] == [1] * 5
        assert len({error.request_ids for error in errors}) == 5


async def test_the_option_takes_the_place_of_the_setting(greet, faulty):
    outage = faulty.fail("insert")
    with pytest.raises(BackendUnavailableError):
        await greet.with_options(enqueue_patience_seconds=0).enqueue("Ada")
    assert outage.hits == 1


async def test_calls_have_the_patience_of_the_longest_unless_it_is_given(faulty):
    manager = BackgroundTaskManager(backend=faulty)
    greet = manager.task(name="greet")(greeting)
    calls = [greet.call("Ada"), greet.with_options(enqueue_patience_seconds=60).call("Kurt")]
    faulty.fail("insert", times=1)
    assert len(await manager.enqueue_many(calls)) == 2
    faulty.fail("insert", times=1)
    with pytest.raises(BackendUnavailableError):
        await manager.enqueue_many(calls, enqueue_patience_seconds=0)
    assert len(await manager.enqueue_many([greet.call("Ada")], enqueue_patience_seconds=60)) == 1


async def test_one_that_is_cancelled_stops_at_once(manager, greet, faulty, wait_until):
    outage = faulty.fail("insert")
    enqueuing = asyncio.create_task(greet.enqueue("Ada"))
    await wait_until(lambda: outage.hits >= 2)
    enqueuing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await enqueuing
    assert not manager.availability._failing
    assert not manager.availability._waiting
    outage.end()
    assert await jobs_of(manager) == []


@pytest.mark.parametrize("how", ["await", "sync"])
async def test_closing_the_manager_ends_it(manager, greet, faulty, wait_until, how):
    outage = faulty.fail("insert")
    enqueue = greet.enqueue("Ada") if how == "await" else asyncio.to_thread(greet.sync.enqueue, "Ada")
    enqueuing = asyncio.create_task(enqueue)
    await wait_until(lambda: outage.hits >= 2)
    await (manager.close() if how == "await" else asyncio.to_thread(manager.sync.close))
    with pytest.raises(BackendUnavailableError, match="it was tried again for"):
        await asyncio.wait_for(enqueuing, PATIENCE)


# Blocking.


def test_a_blocking_enqueue_is_as_patient(manager, greet, faulty):
    faulty.fail("insert", times=2, is_reply_lost=True)
    with manager.sync:
        assert greet.sync.enqueue("Ada").is_new
        faulty.fail("insert", times=1)
        assert len(manager.sync.enqueue_many([greet.call("Kurt")], enqueue_patience_seconds=60)) == 1
        assert manager.sync.list_tasks().total_entries == 2


@pytest.fixture
def interruptible():
    """Have SIGINT raise KeyboardInterrupt, also where the run of the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_blocking_enqueue_and_nothing_is_tried_afterwards(manager, greet, faulty):
    outage = faulty.fail("insert")

    def interrupt():
        while outage.hits < 2:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with manager.sync:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            greet.sync.enqueue("Ada")
        outage.end()
        assert manager.sync.list_tasks().total_entries == 0
        assert not manager.availability._waiting


# What is refused.


async def test_a_callers_transaction_cannot_be_retried(manager, greet, faulty):
    with pytest.raises(InvalidOptionError, match="'enqueue_patience_seconds' and 'connection' exclude each other"):
        greet.with_options(enqueue_patience_seconds=5, connection=object())
    for calls, patience in (
        ([greet.call("Ada")], 5),
        ([greet.with_options(enqueue_patience_seconds=5).call("Ada")], None),
    ):
        with pytest.raises(InvalidOptionError, match="exclude each other"):
            await manager.enqueue_many(calls, connection=object(), enqueue_patience_seconds=patience)
    assert greet.with_options(enqueue_patience_seconds=0, connection=object()).request.connection is not None


async def test_the_setting_leaves_a_callers_transaction_alone(tmp_path):
    async with BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db", enqueue_patience_seconds=60) as manager:
        greet = manager.task(name="greet")(greeting)
        with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                task_id = await greet.with_options(connection=connection).enqueue("Ada")
            assert await jobs_of(manager) == [task_id]


@pytest.mark.parametrize("value", [-1, "long", float("nan"), True])
async def test_what_is_no_time_is_refused(manager, greet, value):
    with pytest.raises(InvalidOptionError, match="option 'enqueue_patience_seconds' cannot be"):
        greet.with_options(enqueue_patience_seconds=value)
    with pytest.raises(InvalidOptionError, match="option 'enqueue_patience_seconds' cannot be"):
        await manager.enqueue_many([greet.call("Ada")], enqueue_patience_seconds=value)
    with pytest.raises(ConfigError):
        BackgroundTaskManager("memory://", enqueue_patience_seconds="long" if value is True else value)


def test_a_task_has_none(manager):
    with pytest.raises(InvalidOptionError, match="unknown option 'enqueue_patience_seconds'"):
        manager.task(name="other", enqueue_patience_seconds=5)(greeting)


async def test_a_recurring_task_has_none(manager, greet):
    with pytest.raises(InvalidOptionError, match="'enqueue_patience_seconds' is for one job"):
        await manager.schedule_recurring_task("daily", greet, cron_expression="@daily", enqueue_patience_seconds=5)
