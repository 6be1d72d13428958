"""A queue of notifications that a sleeping listener has filled: no commit fails, and doctor names the session."""

import asyncio
from contextlib import ExitStack, closing, contextmanager, suppress

import psycopg
import pytest

from callers import KINDS
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.domain.finding import Severity
from deeper_tasks.testing.conformance.builders import new_job
from servers.postgres import PostgresServer

FULL = psycopg.errors.ProgramLimitExceeded
PAGES = 64
SETTINGS = {"max_notify_queue_pages": str(PAGES), "max_prepared_transactions": "2"}
_NOTIFY = "SELECT pg_notify('elsewhere', repeat('x', 7000) || n) FROM generate_series(1, %s) AS n"
_OUT_OF_DATE = (
    "CREATE OR REPLACE FUNCTION deeper.have_hints_room() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT true'"
)


@pytest.fixture(scope="module")
def server(postgres_installation):
    """A server whose queue of notifications is full after half a megabyte, not after 8 GB."""
    if int(postgres_installation.name.split()[0]) < 17:
        pytest.skip("before PostgreSQL 17 the queue always takes 8 GB")
    with closing(PostgresServer(postgres_installation, settings=SETTINGS)) as server:
        yield server


@pytest.fixture
def url(server):
    with server.new_database() as url:
        yield url


@pytest.fixture
async def backend(url):
    backend = PostgresBackend(Address(conninfo=url))
    await backend.open()
    yield backend
    await backend.close()


class Sleeper:
    """A session that listens and stays in its transaction, beside one that sends what it does not read."""

    def __init__(self, url):
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, application_name="sleeper")
        self.connection.execute("LISTEN elsewhere")
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT 1")

    def fill(self, share):
        """Fill a share of the queue; returns what it holds."""
        with psycopg.connect(self.url, autocommit=True) as other:
            while self.usage() < share:
                try:
                    other.execute(_NOTIFY, [max(1, int(PAGES * share * 0.2))])
                except FULL:
                    break
        return self.usage()

    def fill_all(self):
        """Fill the queue up to the last notification."""
        self.fill(1)
        with psycopg.connect(self.url, autocommit=True) as other, suppress(FULL):
            while True:
                other.execute("NOTIFY elsewhere")

    def usage(self):
        with psycopg.connect(self.url, autocommit=True) as other:
            return other.execute("SELECT pg_notification_queue_usage()").fetchone()[0]

    def leave(self):
        self.connection.close()


@pytest.fixture
def sleeper(url):
    sleeper = Sleeper(url)
    yield sleeper
    sleeper.leave()


@contextmanager
def hearing(url):
    """Yield a function that returns all hints heard so far."""
    heard = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.add_notify_handler(lambda notify: heard.append(notify.payload))
        connection.execute('LISTEN "deeper_deeper"')

        def all_heard():
            connection.execute("SELECT 1")
            return heard

        yield all_heard


@pytest.mark.parametrize("kind", ["psycopg", "Django", "SQLAlchemy AsyncSession, asyncpg", "asyncpg"])
async def test_a_commit_with_a_job_succeeds_while_the_queue_is_full(kind, url, backend, sleeper, monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    sleeper.fill_all()
    job = new_job()
    async with KINDS[kind](url) as caller:
        await backend.insert([job], connection=caller.connection)
        await caller.commit()
    assert await backend.get(job.request_id) is not None


async def test_a_job_without_a_hint_is_found_by_polling(url, sleeper, working, wait_until):
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05) as manager:
        done = []
        note = manager.task(name="note")(lambda word: done.append(word))  # noqa: PLW0108 - a task is a function
        sleeper.fill_all()
        with psycopg.connect(url) as caller:
            await note.with_options(connection=caller).enqueue("joined")
        await note.enqueue("plain")
        await note.with_options(delay_seconds=0.01).enqueue("later")
        async with working(manager):
            await wait_until(lambda: sorted(done) == ["joined", "later", "plain"])
        assert sleeper.usage() > 0.9


@pytest.mark.parametrize(("share", "hints"), [(0.35, ["jobs:default"]), (0.55, [])])
async def test_a_joined_enqueue_sends_its_hint_while_the_queue_is_less_than_half_full(
    url, backend, sleeper, share, hints
):
    with hearing(url) as heard, psycopg.connect(url) as caller:
        assert share <= sleeper.fill(share) < share + 0.15
        await backend.insert([new_job()], connection=caller)
        caller.commit()
        assert heard() == hints


async def test_joined_enqueues_send_their_hints_again_once_the_sleeper_has_left(url, backend, sleeper):
    sleeper.fill_all()
    sleeper.leave()
    with hearing(url) as heard:
        with psycopg.connect(url) as caller:
            await backend.insert([new_job()], connection=caller)
        # It freed what every listener had read, also for the application's own.
        with psycopg.connect(url) as other:
            other.execute("NOTIFY elsewhere")
        assert heard() == ["jobs:default"]


async def test_hints_of_workers_free_the_queue_for_all_once_the_sleeper_has_left(url, backend, sleeper):
    sleeper.fill_all()
    sleeper.leave()
    with psycopg.connect(url, autocommit=True) as other:
        with pytest.raises(FULL):
            other.execute("NOTIFY elsewhere")
        await backend.notify([])
        await backend.insert([new_job()])
        other.execute("NOTIFY elsewhere")


@pytest.mark.parametrize("joined_hints", [True, False])
async def test_without_joined_hints_a_queue_that_fills_before_the_commit_cannot_fail_it(url, sleeper, joined_hints):
    async with BackgroundTaskManager(url, joined_hints=joined_hints) as manager:
        note = manager.task(name="note")(lambda: None)
        with ExitStack() as failure, psycopg.connect(url) as caller:
            await note.with_options(connection=caller).enqueue()
            sleeper.fill_all()
            if joined_hints:
                failure.enter_context(pytest.raises(FULL, match="too many notifications"))
            caller.commit()
        assert (await manager.list_tasks()).total_entries == (0 if joined_hints else 1)


async def test_without_joined_hints_a_transaction_with_a_job_may_be_prepared(url):
    async with BackgroundTaskManager(url, joined_hints=False) as manager:
        note = manager.task(name="note")(lambda: None)
        with psycopg.connect(url) as caller:
            await note.with_options(connection=caller).enqueue()
            caller.execute("PREPARE TRANSACTION 'first'")
            caller.commit()
        assert (await manager.list_tasks()).total_entries == 0
        with psycopg.connect(url, autocommit=True) as caller:
            caller.execute("COMMIT PREPARED 'first'")
        assert (await manager.list_tasks()).total_entries == 1


async def test_jobs_are_taken_while_no_hint_can_be_sent(backend, sleeper):
    sleeper.fill_all()
    assert (await backend.insert([new_job()]))[0].is_new
    assert (await asyncio.gather(backend.insert([new_job()]), backend.insert([new_job()])))[1][0].is_new


async def test_an_enqueue_survives_a_queue_that_fills_right_after_the_look_at_it(url, backend, sleeper):
    sleeper.fill_all()
    with psycopg.connect(url) as owner:
        owner.execute(_OUT_OF_DATE)
    job, other = new_job(), new_job()
    assert [answer.id for answer in await backend.insert([job, other])] == [job.request_id, other.request_id]
    assert await backend.get(job.request_id) is not None


async def test_doctor_names_the_session_that_holds_the_queue_and_its_remedy_frees_it(url, backend, sleeper):
    async def found():
        [finding] = [each for each in await backend.diagnose() if each.check == "hints"]
        return finding

    assert (await found()).severity is Severity.OK
    sleeper.fill_all()
    finding = await found()
    assert finding.severity is Severity.WARNING
    pid = sleeper.connection.info.backend_pid
    assert "queue of notifications is 100 % full, and no hints are sent" in finding.message
    assert f"{pid} of 'postgres' by 'sleeper' in '{url.rpartition('/')[2]}', idle in transaction for" in finding.message
    assert f"pg_terminate_backend({pid})" in finding.remedy
    with psycopg.connect(url) as other:
        other.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
    assert (await found()).message == "the server's queue of notifications is 0 % full"
