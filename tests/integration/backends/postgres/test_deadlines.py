"""Every call ends within its timeout, whatever the network does, and harms nothing when it happens after all."""

import asyncio
import inspect
from datetime import timedelta

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import (
    Backend,
    JobFilter,
    JobQuery,
    Node,
    Notification,
    QueueSettings,
    Retention,
    Topic,
)
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.schedule import Firing, Schedule
from deeper_tasks.domain.settlement import End, Report, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import NOW, new_id, new_job
from servers.waiting import wait_for

NODE = Node(id="node", name="node", host="elsewhere", scope="", pid=1, pid_started="", queues={"default": 10})
HANGS = [("requests",), ("replies",), ("requests", "replies")]
LONG = 60
"""Seconds after which a call is taken for one without a deadline."""

pytestmark = pytest.mark.timeout(180)


SCHEDULE = Schedule(name="entry", recurrence=parse_recurrence("0 * * * *"), spec=new_job().spec)
FIRING = Firing(schedule=SCHEDULE, expected=NOW, next_run=NOW + timedelta(hours=1), runs=())

CALLS = {
    "open": lambda backend: backend.open(),
    "close": lambda backend: backend.close(),
    "migrate": lambda backend: backend.migrate(),
    "insert": lambda backend: backend.insert([new_job()]),
    "register": lambda backend: backend.register(NODE),
    "deregister": lambda backend: backend.deregister("nobody"),
    "claim": lambda backend: backend.claim("empty", limit=1, slots=1, node=NODE.id, token="no job's"),
    "settle": lambda backend: backend.settle([Settlement(id=new_id(), token="t", end=End.COMPLETE)]),
    "report": lambda backend: backend.report([Report(id=new_id(), token="t", has_started=True)]),
    "beat": lambda backend: backend.beat(NODE.id),
    "promote": lambda backend: backend.promote(),
    "fold": lambda backend: backend.fold(),
    "rescue": lambda backend: backend.rescue("nobody", beat=0),
    "expire": lambda backend: backend.expire(),
    "prune": lambda backend: backend.prune(Retention()),
    "put_schedule": lambda backend: backend.put_schedule(SCHEDULE),
    "pause_schedule": lambda backend: backend.pause_schedule("nothing", is_paused=True),
    "remove_schedule": lambda backend: backend.remove_schedule("nothing"),
    "schedules": lambda backend: backend.schedules(),
    "fire": lambda backend: backend.fire(FIRING),
    "run_schedule": lambda backend: backend.run_schedule("nothing", request_id=new_id()),
    "schedule_runs": lambda backend: backend.schedule_runs("nothing"),
    "cancel": lambda backend: backend.cancel(JobFilter(ids=(new_id(),)), reason="no"),
    "retry": lambda backend: backend.retry(JobFilter(ids=(new_id(),))),
    "reschedule": lambda backend: backend.reschedule(new_id(), due=None),
    "delete": lambda backend: backend.delete(JobFilter(ids=(new_id(),))),
    "put_queue": lambda backend: backend.put_queue(QueueSettings(name="default")),
    "get": lambda backend: backend.get(new_id()),
    "find": lambda backend: backend.find(JobQuery()),
    "find_ids": lambda backend: backend.find_ids(["0190"], limit=2),
    "service": lambda backend: backend.service("default", task="nothing"),
    "statistics": lambda backend: backend.statistics(),
    "nodes": lambda backend: backend.nodes(),
    "queues": lambda backend: backend.queues(),
    "notify": lambda backend: backend.notify([Notification(topic=Topic.JOBS, subject="default")]),
}
ALWAYS_RETURN = {"open", "close", "notify"}
"""What an open store has nothing to ask for, what only ends, and what is a hint that may be lost."""


@pytest.fixture
def proxy(start_proxy, database_url):
    return start_proxy(database_url)


@pytest.fixture
async def make_backend(proxy):
    """Return a store behind the proxy, open if not asked otherwise."""
    made = []

    async def make_backend(*, is_open=True, **options):
        backend = PostgresBackend(Address(conninfo=proxy.url, **{"timeout": timedelta(seconds=1), **options}))
        made.append(backend)
        if is_open:
            await backend.open()
        return backend

    yield make_backend
    for backend in made:
        await backend.close()


async def refused(call):
    """Return what the call of a store that does not answer raised."""
    with pytest.raises(BackendUnavailableError) as caught:
        async with asyncio.timeout(LONG):
            await call
    return str(caught.value)


def sessions(url):
    """Return how many of the store's sessions the server has in a database."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()[0]


def test_no_method_of_the_protocol_is_left_out_here():
    methods = {name for name, member in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")}
    assert set(CALLS) == (methods - {"listen"}) | {"fold", "notify"}


@pytest.mark.parametrize("ways", HANGS, ids=" and ".join)
async def test_every_method_ends_within_its_timeout_when_the_network_hangs_and_works_again_when_it_does(
    proxy, make_backend, ways
):
    backend = await make_backend(pool_size=len(CALLS))
    await backend.register(NODE)
    # Those that are idle look as good as ever; the last calls open new ones.
    await asyncio.gather(*(backend.statistics() for _ in range(len(CALLS) // 2)))
    proxy.hang(*ways)
    calls = {name: call for name, call in CALLS.items() if name != "close"}
    async with asyncio.timeout(LONG):
        answers = await asyncio.gather(*(call(backend) for call in calls.values()), return_exceptions=True)
    unavailable = {name for name, one in zip(calls, answers, strict=True) if isinstance(one, BackendUnavailableError)}
    assert unavailable >= calls.keys() - ALWAYS_RETURN
    proxy.resume()
    await asyncio.gather(*(call(backend) for call in calls.values()))


@pytest.mark.parametrize("ways", HANGS, ids=" and ".join)
async def test_a_store_that_cannot_be_reached_is_neither_opened_nor_migrated(proxy, make_backend, ways):
    proxy.hang(*ways)
    backend = await make_backend(is_open=False)
    assert "no connection" in await refused(backend.open())
    assert "no connection" in await refused(backend.migrate())
    proxy.resume()
    await backend.open()
    assert (await backend.statistics()).queues == {}


async def test_a_migration_goes_on_for_longer_than_the_timeout_as_long_as_the_server_answers(
    database_url, proxy, make_backend
):
    backend = await make_backend(is_open=False, timeout=timedelta(seconds=0.5))
    async with _locked_migrations(database_url) as locker:
        opening = asyncio.create_task(backend.open())
        # Its own connections, and then one in each timeout that asks whether the server is there.
        await asyncio.to_thread(wait_for, lambda: proxy.accepted >= 6, "the question whether the server is there")
        assert not opening.done()
        await locker.rollback()
        async with asyncio.timeout(LONG):
            await opening
    assert (await backend.statistics()).queues == {}


async def test_a_migration_is_broken_off_when_the_server_is_silent(database_url, proxy, make_backend):
    backend = await make_backend(is_open=False)
    async with _locked_migrations(database_url):
        opening = asyncio.create_task(backend.open())
        await asyncio.to_thread(wait_for, lambda: _waiting(database_url), "a migration that waits")
        proxy.hang()
        assert "did not answer" in await refused(opening)
    proxy.resume()
    await backend.open()


def _locked_migrations(url):
    class Locker:
        async def __aenter__(self):
            self.connection = await psycopg.AsyncConnection.connect(url)
            await self.connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('deeper_tasks:' || 'deeper', 0))"
            )
            return self.connection

        async def __aexit__(self, *_):
            await self.connection.close()

    return Locker()


def _waiting(url):
    """Return the pids of the sessions that wait for a lock."""
    with psycopg.connect(url) as connection:
        return {pid for (pid,) in connection.execute("SELECT pid FROM pg_locks WHERE NOT granted")}


async def test_close_breaks_off_what_does_not_end(proxy, make_backend):
    backend = await make_backend(timeout=timedelta(seconds=1))
    slow = await make_backend(timeout=timedelta(seconds=LONG))
    # As a call whose deadline is further away than the patience of who closes.
    slow._database.connections._seconds = 0.2
    proxy.hang()
    calls = [asyncio.create_task(each.statistics()) for each in (backend, slow)]
    await asyncio.to_thread(wait_for, lambda: proxy.held("requests"), "calls under way")
    async with asyncio.timeout(LONG / 2):
        await asyncio.gather(backend.close(), slow.close())
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [BackendUnavailableError] * 2


async def test_the_wait_for_a_connection_ends_too(make_backend):
    backend = await make_backend(pool_size=1)
    async with backend._database.connections.lend():
        said = await refused(backend.statistics())
        assert "all 1 connections were in use" in said
        assert "pool_size" in said
    await backend.statistics()


async def test_of_connections_that_broke_together_only_the_first_costs_its_timeout(database_url, proxy, make_backend):
    backend = await make_backend(pool_size=5)
    await asyncio.gather(*(backend.statistics() for _ in range(5)))
    assert sessions(database_url) == 5
    proxy.hang("replies")
    await refused(backend.statistics())
    await asyncio.to_thread(wait_for, lambda: sessions(database_url) == 0, "end of the idle sessions")


async def test_a_call_whose_session_ends_under_it_goes_on_with_a_new_one(database_url, make_backend):
    backend = await make_backend(timeout=timedelta(seconds=LONG))
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE deeper.job")
        inserting = asyncio.create_task(backend.insert([new_job()]))
        [pid] = await asyncio.to_thread(wait_for, lambda: _waiting(database_url), "an insert that waits")
        blocker.execute("SELECT pg_terminate_backend(%s)", [pid])
        await asyncio.to_thread(wait_for, lambda: {pid}.isdisjoint(_waiting(database_url)), "the end of its session")
    assert (await inserting)[0].is_new


@pytest.mark.parametrize("how", ["terminated", "restarted", "killed"])
async def test_a_call_that_meets_the_connections_of_a_server_that_is_gone_goes_on_with_a_new_one(start_postgres, how):
    server = start_postgres(settings={"synchronous_commit": "on"})
    backend = PostgresBackend(Address(conninfo=server.url))
    await backend.open()
    await asyncio.gather(*(backend.insert([new_job()]) for _ in range(5)))
    if how == "terminated":
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'deeper_tasks'")
    else:
        await asyncio.to_thread(server.restart, "fast" if how == "restarted" else "kill")
    assert (await backend.insert([new_job()]))[0].is_new
    await backend.close()


async def test_a_call_that_is_cancelled_while_the_network_hangs_ends_and_keeps_no_connection(proxy, make_backend):
    backend = await make_backend(pool_size=1)
    proxy.hang()
    call = asyncio.create_task(backend.statistics())
    await asyncio.to_thread(wait_for, lambda: proxy.held("requests"), "a call under way")
    call.cancel()
    async with asyncio.timeout(LONG):
        with pytest.raises(asyncio.CancelledError):
            await call
    proxy.resume()
    await backend.statistics()


@pytest.mark.parametrize("when", ["waiting for a connection", "connecting", "waiting for the answer"])
async def test_cancelled_calls_leave_the_pool_as_large_as_it_was(proxy, make_backend, when):
    backend = await make_backend(pool_size=2, timeout=timedelta(seconds=5))
    if when == "connecting":
        proxy.reset()
        proxy.hang()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(backend.statistics()) for _ in range(20)]
        # As far as they come in that many turns of the loop, each another way.
        for _ in range({"waiting for a connection": 2, "connecting": 8, "waiting for the answer": 12}[when]):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
    proxy.resume()
    lent = [backend._database.connections.lend() for _ in range(2)]
    for each in lent:
        await each.__aenter__()
    for each in lent:
        await each.__aexit__(None, None, None)


@pytest.mark.parametrize("ways", HANGS[:2], ids=" and ".join)
async def test_a_claim_that_happens_after_its_caller_gave_up_is_the_one_that_is_sent_again(
    database_url, proxy, make_backend, ways
):
    backend = await make_backend()
    await backend.register(NODE)
    made = [each.id for each in await backend.insert([new_job() for _ in range(6)])]
    proxy.hang(*ways)
    await refused(backend.claim("default", limit=2, slots=2, node=NODE.id, token="one"))
    proxy.resume()
    again = await backend.claim("default", limit=2, slots=2, node=NODE.id, token="one")
    await _until_abandoned_are_over(database_url, proxy, backend)
    once_more = await backend.claim("default", limit=2, slots=2, node=NODE.id, token="one")
    assert [each.id for each in again.jobs] == [each.id for each in once_more.jobs] == made[:2]
    counts = (await backend.statistics()).queues["default"].by_state
    assert (counts[State.RUNNING], counts[State.PENDING]) == (2, 4)
    assert {(await backend.get(each)).attempt for each in made[:2]} == {1}


@pytest.mark.parametrize("ways", HANGS[:2], ids=" and ".join)
async def test_a_settle_that_happens_after_its_caller_gave_up_changes_nothing_more(
    database_url, proxy, make_backend, ways
):
    backend = await make_backend()
    await backend.register(NODE)
    await backend.insert([new_job() for _ in range(3)])
    claimed = (await backend.claim("default", limit=3, slots=3, node=NODE.id, token="one")).jobs
    ends = [Settlement(id=each.id, token="one", end=End.COMPLETE) for each in claimed]
    proxy.hang(*ways)
    await refused(backend.settle(ends))
    proxy.resume()
    answer = await backend.settle(ends)
    finished = [(await backend.get(each.id)).finished_at for each in claimed]
    await _until_abandoned_are_over(database_url, proxy, backend)
    assert await backend.settle(ends) == answer
    assert [each.state for each in answer] == [State.COMPLETED] * 3
    assert [(await backend.get(each.id)).finished_at for each in claimed] == finished
    counts = (await backend.statistics()).queues["default"]
    assert (counts.by_state[State.COMPLETED], counts.ended_today[State.COMPLETED]) == (3, 3)


@pytest.mark.parametrize("ways", HANGS[:2], ids=" and ".join)
async def test_an_insert_that_happens_after_its_caller_gave_up_is_the_one_that_is_sent_again(
    database_url, proxy, make_backend, ways
):
    backend = await make_backend()
    wanted = [new_job() for _ in range(3)]
    proxy.hang(*ways)
    with pytest.raises(BackendUnavailableError) as caught:
        await backend.insert(wanted)
    assert caught.value.request_ids == tuple(each.request_id for each in wanted)
    proxy.resume()
    assert [each.id for each in await backend.insert(wanted)] == [each.request_id for each in wanted]
    await _until_abandoned_are_over(database_url, proxy, backend)
    assert (await backend.statistics()).queues["default"].by_state[State.PENDING] == 3


async def _until_abandoned_are_over(url, proxy, backend):
    """Wait until what was held back has come, and only the one connection is left that the store has kept."""
    await backend.statistics()
    await asyncio.to_thread(wait_for, lambda: not proxy.held("requests"), "end of what was held back")
    await asyncio.to_thread(wait_for, lambda: sessions(url) == 1, "end of the abandoned sessions")
