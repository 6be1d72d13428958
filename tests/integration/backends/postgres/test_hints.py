"""Hints by LISTEN and NOTIFY: few for a burst, none in the caller's way, heard again after every kind of loss."""

import asyncio
import subprocess
import sys
import time
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend, listener, sender
from deeper_tasks.backends.postgres.listener import MISSED, parse
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import new_job
from servers.waiting import PATIENCE

HINT = Notification(topic=Topic.JOBS, subject="emails, größe")
CHANNEL = "deeper_deeper"

_LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"

A_LONG_REST = 3600
"""Seconds of credit with which every hint leaves at once."""


def address(url, **values):
    return Address(conninfo=url, **values)


@asynccontextmanager
async def opened(*args, **kwargs):
    backend = PostgresBackend(address(*args, **kwargs))
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def backend(database_url):
    async with opened(database_url) as backend:
        yield backend


class Ear:
    """A plain connection that listens, and what it heard so far."""

    def __init__(self, url):
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f'LISTEN "{CHANNEL}"')
        self.heard = []

    def hear(self, count=1):
        """Wait for that many more; returns their payloads."""
        wanted = len(self.heard) + count
        deadline = time.monotonic() + PATIENCE
        while len(self.heard) < wanted:
            assert time.monotonic() < deadline, f"heard only {self.heard}"
            self.heard += [each.payload for each in self._connection.notifies(timeout=1, stop_after=1)]
        return self.heard[wanted - count :]

    def hear_all(self):
        """Return all payloads sent until now: a last one of our own comes after them."""
        self._connection.execute(f"NOTIFY \"{CHANNEL}\", 'the end'")
        while "the end" not in self.heard:
            self.hear()
        return [payload for payload in self.heard if payload != "the end"]

    def close(self):
        self._connection.close()


@pytest.fixture
def ear(database_url):
    ear = Ear(database_url)
    yield ear
    ear.close()


class Hearing:
    """A listener of a backend in a task of its own, which listens again when it is lost, and what it heard so far."""

    def __init__(self, backend):
        self._backend = backend
        self.heard, self.errors = [], []
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        while True:
            try:
                await self._hear()
            except BackendUnavailableError as error:
                self.errors.append(str(error))
                await asyncio.sleep(0)
            else:
                return

    async def _hear(self):
        async with aclosing(self._backend.listen()) as hints:
            async for hint in hints:
                self.heard.append(hint)
                self._news.set()

    async def times(self, count, hint):
        """Wait until a hint was heard so often."""
        async with asyncio.timeout(PATIENCE):
            while self.heard.count(hint) < count:
                await self._news.wait()
                self._news.clear()

    async def listening(self, *, times=1):
        """Wait until it has begun to listen so often."""
        await self.times(times, MISSED[-1])


@asynccontextmanager
async def hearing(backend):
    hearing = Hearing(backend)
    try:
        yield hearing
    finally:
        hearing.task.cancel()
        await asyncio.wait([hearing.task])


def job_hints(heard):
    return [hint for hint in heard if hint not in MISSED]


# sending


async def test_a_burst_of_enqueues_is_not_a_burst_of_notifications(database_url, ear):
    async with BackgroundTaskManager(database_url) as manager:
        tidy = manager.task(name="tidy")(lambda: None)
        began = time.monotonic()
        for _ in range(1000):
            await tidy.enqueue()
    took = time.monotonic() - began
    heard = await asyncio.to_thread(ear.hear_all)
    assert set(heard) == {"jobs:default"}
    # Some at once, one as the store closes, and between them none sooner than an interval after another.
    assert 1 <= len(heard) <= sender.AT_ONCE + 1 + took / sender.INTERVAL


async def test_an_insert_sends_its_hints_with_itself(backend, ear, monkeypatch):
    statements = []
    call = backend._database.call

    async def noted(statement, values, **options):
        statements.append(statement)
        return await call(statement, values, **options)

    monkeypatch.setattr(backend._database, "call", noted)
    jobs = [new_job(queue="emails"), new_job(queue="videos"), new_job(delay=timedelta(hours=1))]
    assert [answer.is_new for answer in await backend.insert(jobs)] == [True] * 3
    assert len(statements) == 1
    assert sorted(await asyncio.to_thread(ear.hear_all)) == ["jobs:emails", "jobs:videos", "schedules:"]


async def test_the_hint_of_an_insert_comes_when_its_job_is_there(backend, ear, database_url, monkeypatch):
    monkeypatch.setattr(sender, "_CREDIT", A_LONG_REST)
    for _ in range(20):
        job = new_job()
        inserting = asyncio.create_task(backend.insert([job]))
        await asyncio.to_thread(ear.hear)
        with psycopg.connect(database_url) as other:
            assert other.execute("SELECT count(*) FROM deeper.job WHERE id = %s", (job.request_id,)).fetchone() == (1,)
        await inserting


@pytest.mark.parametrize("credit", [0, 1])
async def test_an_insert_right_after_another_has_a_hint_of_its_own(backend, ear, monkeypatch, credit):
    monkeypatch.setattr(sender, "_CREDIT", credit)
    await backend.insert([new_job()])
    await backend.insert([new_job()])
    assert await asyncio.to_thread(ear.hear, 2) == ["jobs:default"] * 2


async def test_inserts_at_once_share_their_hints(backend, ear):
    await asyncio.gather(*(backend.insert([new_job()]) for _ in range(200)))
    await backend.close()
    assert sender.AT_ONCE < len(await asyncio.to_thread(ear.hear_all)) < 100


async def test_an_insert_of_what_is_there_already_wakes_nobody(backend, ear, monkeypatch):
    monkeypatch.setattr(sender, "_CREDIT", A_LONG_REST)
    job = new_job(unique=Unique(key="one"))
    await backend.insert([job])
    await asyncio.to_thread(ear.hear)
    for again in (job, new_job(unique=Unique(key="one"))):
        assert await backend.insert([again]) == [Insertion(id=job.request_id, is_new=False)]
    await asyncio.gather(backend.insert([job]), backend.insert([job]))
    await backend.close()
    assert len(await asyncio.to_thread(ear.hear_all)) == 1


async def test_a_few_hints_leave_at_once_and_more_in_their_time(backend, monkeypatch):
    now = 1000.0
    hints = sender.Sender(backend._database)
    monkeypatch.setattr(hints, "_loop", SimpleNamespace(time=lambda: now))

    def left():
        return sum(hints.may_leave(["jobs:default"]) for _ in range(3 * sender.AT_ONCE))

    assert left() == sender.AT_ONCE
    assert hints.may_leave(["jobs:emails"])
    assert not hints.may_leave(["jobs:emails", "jobs:default"])
    now += 3 * sender.INTERVAL + 1e-6
    assert left() == 3
    now += 100
    assert left() == sender.AT_ONCE


async def test_a_hint_that_comes_while_its_like_rests_leaves_later(backend, ear, monkeypatch):
    monkeypatch.setattr(sender, "_CREDIT", 0)
    await backend.notify([HINT])
    await asyncio.to_thread(ear.hear)
    for _ in range(100):
        await backend.notify([HINT])
    await asyncio.to_thread(ear.hear)
    assert await asyncio.to_thread(ear.hear_all) == ["jobs:emails, größe"] * 2


async def test_hints_that_are_due_together_leave_in_one_statement(backend, ear, monkeypatch):
    calls = []
    call = backend._database.call

    async def counted(statement, values):
        calls.append(statement)
        return await call(statement, values)

    monkeypatch.setattr(backend._database, "call", counted)
    await backend.notify([Notification(topic=Topic.JOBS, subject=name) for name in ("a", 'b"\\', "c{,}")])
    await backend.notify([Notification(topic=Topic.CONTROL)])
    assert set(await asyncio.to_thread(ear.hear, 4)) == {"jobs:a", 'jobs:b"\\', "jobs:c{,}", "control:"}
    assert len(calls) <= 2


async def test_who_notifies_does_not_wait_for_the_database(database_url, start_proxy, ear):
    proxy = start_proxy(database_url)
    async with opened(proxy.url) as backend:
        proxy.hang()
        await backend.notify([HINT])
        assert not ear.heard
        proxy.resume()
        assert await asyncio.to_thread(ear.hear) == ["jobs:emails, größe"]


async def test_notifying_where_nobody_answers_is_no_error_and_works_again_afterwards(database_url, start_proxy, ear):
    proxy = start_proxy(database_url)
    async with opened(proxy.url) as backend:
        proxy.refuse()
        proxy.reset()
        await backend.notify([HINT])
        await backend._hints._senders[asyncio.get_running_loop()].finish()
        proxy.accept()
        await backend.notify([HINT])
        assert await asyncio.to_thread(ear.hear) == ["jobs:emails, größe"]


def test_the_hint_of_a_script_leaves_although_its_loop_ends_at_once(database_url, ear):
    manager = BackgroundTaskManager(database_url)
    task = manager.task(name="tidy")(lambda: None)

    async def twice(queue):
        await task.with_options(queue=queue).enqueue()
        await asyncio.to_thread(ear.hear)
        await task.with_options(queue=queue).enqueue()

    for queue in ("a", "b", "c"):  # each in a loop of its own
        asyncio.run(task.with_options(queue=queue).enqueue())
        # What was interrupted is sent again, so it may come twice.
        while f"jobs:{queue}" not in ear.heard:
            ear.hear()
    asyncio.run(twice("d"))
    while ear.heard.count("jobs:d") < 2:
        ear.hear()
    asyncio.run(manager.close())


@pytest.mark.parametrize("how", ["async", "sync"])
def test_the_hint_of_a_script_has_left_when_the_store_is_closed(database_url, ear, how):
    manager = BackgroundTaskManager(database_url)
    task = manager.task(name="tidy")(lambda: None)

    async def main():
        async with manager:
            await task.with_options(queue="a").enqueue()
            await task.with_options(queue="a").enqueue()
            await task.with_options(queue="b").enqueue()

    def blocking():
        with manager.sync:
            for queue in ("a", "a", "b"):
                manager.sync.enqueue_task(task, queue=queue)

    blocking() if how == "sync" else asyncio.run(main())
    # What comes first through the server is heard first.
    assert set(ear.hear_all()) == {"jobs:a", "jobs:b"}


async def test_closing_in_one_loop_lets_the_hints_of_another_leave(backend, ear):
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def elsewhere():
        for _ in range(2):
            await backend.notify([HINT])
        asyncio.run_coroutine_threadsafe(backend.close(), loop).result()
        loop.call_soon_threadsafe(closed.set)

    await asyncio.to_thread(asyncio.run, elsewhere())
    await closed.wait()
    assert set(await asyncio.to_thread(ear.hear_all)) == {"jobs:emails, größe"}


# hearing


async def test_who_begins_to_listen_is_told_of_everything_once(backend):
    async with hearing(backend) as heard:
        await heard.listening()
        await backend.notify([HINT])
        await heard.times(1, HINT)
        assert heard.heard == [*MISSED, HINT]


@pytest.mark.parametrize(
    ("payload", "hint"),
    [
        ("jobs:emails, größe", HINT),
        ("jobs:a:b", Notification(topic=Topic.JOBS, subject="a:b")),
        ("schedules:", Notification(topic=Topic.SCHEDULES)),
        ("control:", Notification(topic=Topic.CONTROL)),
        ("jobs", None),
        ("", None),
        ("weather:fine", None),
    ],
)
def test_a_payload_is_a_hint_or_nothing(payload, hint):
    assert parse(payload) == hint


async def test_what_others_say_on_the_channel_is_ignored(backend, database_url, ear):
    async with hearing(backend) as heard:
        await heard.listening()
        with psycopg.connect(database_url, autocommit=True) as other:
            for payload in ("", "weather:fine", "{}", "jobs"):
                other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        await backend.notify([HINT])
        await heard.times(1, HINT)
        assert job_hints(heard.heard) == [HINT]


async def test_two_schemas_of_a_database_do_not_hear_each_other(backend, database_url):
    async with opened(database_url, schema="other") as other, hearing(backend) as here, hearing(other) as there:
        await here.listening()
        await there.listening()
        await other.notify([HINT])
        await there.times(1, HINT)
        await backend.notify([Notification(topic=Topic.JOBS, subject="last")])
        await here.times(1, Notification(topic=Topic.JOBS, subject="last"))
        assert HINT not in here.heard


async def test_a_listener_whose_connection_is_ended_listens_again(backend, database_url):
    async with hearing(backend) as heard:
        for turn in range(1, 4):
            await heard.listening(times=turn)
            await backend.notify([HINT])
            await heard.times(turn, HINT)
            with psycopg.connect(database_url, autocommit=True) as other:
                ended = other.execute(f"SELECT pg_terminate_backend(pid) FROM ({_LISTENERS}) AS l").fetchall()
            assert ended == [(True,)]
        await heard.listening(times=4)


async def test_a_listener_says_when_its_server_has_gone_and_is_there_again_after_a_restart(start_postgres):
    server = start_postgres()
    async with opened(server.url) as backend, hearing(backend) as heard:
        await heard.listening()
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await heard.listening(times=2)
        await backend.notify([HINT])
        await heard.times(1, HINT)
    assert heard.errors
    assert all(error.startswith("no hints from 'postgresql://") for error in heard.errors)


async def test_a_listener_notices_a_network_that_swallows_everything(
    database_url, start_proxy, monkeypatch, wait_until
):
    monkeypatch.setattr(listener, "_SILENCE", 0.05)
    proxy = start_proxy(database_url)
    async with opened(proxy.url) as backend:
        # The store's own calls keep their patience; the listener's is short.
        backend._hints._database.address = address(proxy.url, timeout=backend._database.address.timeout / 20)
        async with hearing(backend) as heard:
            await heard.listening()
            before = proxy.accepted
            proxy.hang()
            await wait_until(lambda: proxy.accepted > before, seconds=PATIENCE)
            proxy.resume()
            await heard.listening(times=2)
            await backend.notify([HINT])
            await heard.times(1, HINT)


async def test_a_silent_connection_is_asked_for_a_sign_of_life_and_kept(backend, database_url, monkeypatch, wait_until):
    monkeypatch.setattr(listener, "_SILENCE", 0.02)
    with psycopg.connect(database_url, autocommit=True) as other:
        async with hearing(backend) as heard:
            await heard.listening()
            [(pid,)] = other.execute(_LISTENERS).fetchall()
            last = "SELECT query FROM pg_stat_activity WHERE pid = %s"
            await wait_until(lambda: other.execute(last, (pid,)).fetchall() == [(listener.PROBE,)], seconds=PATIENCE)
            await backend.notify([HINT])
            await heard.times(1, HINT)
            assert other.execute(last, (pid,)).fetchall() == [(listener.PROBE,)]
        assert heard.heard == [*MISSED, HINT]


# closing


async def test_a_listener_that_stops_leaves_no_connection(backend, database_url, wait_until):
    with psycopg.connect(database_url, autocommit=True) as other:
        async with hearing(backend) as heard:
            await heard.listening()
            assert len(other.execute(_LISTENERS).fetchall()) == 1
        await wait_until(lambda: not other.execute(_LISTENERS).fetchall(), seconds=PATIENCE)


async def test_closing_the_store_ends_a_listener_that_waits_for_a_server(database_url, start_proxy, wait_until):
    proxy = start_proxy(database_url)
    async with opened(proxy.url) as backend:
        proxy.hang()
        heard = Hearing(backend)
        before = proxy.accepted
        await wait_until(lambda: proxy.accepted > before, seconds=PATIENCE)
        await backend.close()
        await asyncio.wait_for(heard.task, PATIENCE)
        assert heard.heard == []
        proxy.resume()


async def test_a_closed_store_is_neither_heard_nor_listened_to(backend, database_url, ear):
    await backend.close()
    await backend.notify([HINT])
    assert [hint async for hint in backend.listen()] == []
    assert ear.hear_all() == []
    await backend.open()
    async with hearing(backend) as heard:
        await heard.listening()


async def test_a_pooler_without_a_way_around_it_leaves_the_store_without_hints(database_url, ear):
    async with opened(database_url, pooler=Pooler.TRANSACTION) as backend:
        assert not backend.capabilities.has_hints
        assert [hint async for hint in backend.listen()] == []
        # Others may listen, by another way.
        await backend.notify([HINT])
        assert await asyncio.to_thread(ear.hear) == ["jobs:emails, größe"]


# forks

_FORKER = """
import asyncio, gc, os, sys
from contextlib import aclosing
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.postgres.listener import MISSED
from deeper_tasks.backends.protocol import Notification, Topic

backend = PostgresBackend(Address(conninfo=sys.argv[1]))

async def first(hints, topic):
    async for hint in hints:
        if hint.topic is topic and hint.subject:
            return hint.subject

async def child():
    async with aclosing(backend.listen()) as hints:
        heard = asyncio.create_task(first(hints, Topic.CONTROL))
        while not heard.done():
            await backend.notify([Notification(topic=Topic.CONTROL, subject="child")])
            await asyncio.wait([heard], timeout=0.01)
    await backend.close()

async def main():
    await backend.open()
    async with aclosing(backend.listen()) as hints:
        async for hint in hints:
            if hint == MISSED[-1]:
                break
        [listener] = backend._hints._listeners
        before = listener._connection.info.backend_pid
        pid = os.fork()
        if not pid:
            del hints
            asyncio.run(child())
            gc.collect()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        await backend.notify([Notification(topic=Topic.JOBS, subject="parent")])
        print(await first(hints, Topic.JOBS), listener._connection.info.backend_pid == before)
    await backend.close()

asyncio.run(main())
"""


def test_the_child_of_a_fork_leaves_its_parents_connection_alone(database_url):
    ran = subprocess.run(
        [sys.executable, "-c", _FORKER, database_url], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["parent", "True"]), ran.stderr


# the worker


async def test_a_worker_that_hardly_ever_polls_is_woken(database_url, working):
    async with BackgroundTaskManager(database_url, poll_interval_seconds=3600) as manager:
        greet = manager.task(name="greet")(lambda name: f"hello {name}")
        async with working(manager):
            for name in ("first", "second"):
                job = await greet.enqueue(name)
                assert await manager.result(job, timeout=PATIENCE) == f"hello {name}"


async def test_a_worker_hears_of_what_came_while_it_was_deaf(database_url, working, start_proxy, wait_until):
    proxy = start_proxy(database_url)
    async with (
        BackgroundTaskManager(database_url, poll_interval_seconds=3600, listen_url=proxy.url) as manager,
        BackgroundTaskManager(database_url) as producer,
    ):
        greet = manager.task(name="greet")(lambda name: f"hello {name}")
        async with working(manager):
            await manager.result(await greet.enqueue("first"), timeout=PATIENCE)
            await wait_until(lambda: proxy.connections, seconds=PATIENCE)
            proxy.refuse()
            proxy.reset()
            producer.registry.add(greet)
            job = await producer.enqueue_task(greet, args=["second"])
            proxy.accept()
            assert await manager.result(job, timeout=PATIENCE) == "hello second"
