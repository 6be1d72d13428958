"""The guide's script of grants, run as it is printed, and what each of its users may do with it and may not."""

import asyncio
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.cli import main
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.domain.finding import Severity
from deeper_tasks.errors import AccessError, BackendError, BackendUnavailableError, SchemaError

GUIDE = Path(__file__).parents[4] / "docs/how-to/postgresql.md"
USERS = ("shop_owner", "shop_worker", "shop_producer", "shop_viewer")
# What a careful administrator does to a database.
HARDENING = [
    "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
]


def printed(title):
    """Return a script of the guide."""
    return re.search(rf'^```sql title="{title}"\n(.*?)^```$', GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)[1]


@pytest.fixture
def url_of(database_url):
    """Return the URL of the test's database for a user, who logs in."""

    def url_of(user):
        parts = urlsplit(database_url)
        return parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}").geturl()

    return url_of


@pytest.fixture
def query(database_url):
    def query(statement):
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return query


@pytest.fixture
def roles(database_url, query):
    """The users of the guide, without any right but that the owner may make our schema."""
    database = sql.Identifier(database_url.rpartition("/")[2])
    query(printed("roles.sql"))
    try:
        query(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        for user in USERS:
            query(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(user)))
        for statement in HARDENING:
            query(statement)
        yield
    finally:
        for user in USERS:
            query(f"DROP OWNED BY {user} CASCADE")
            query(f"DROP ROLE {user}")


@pytest.fixture
async def granted(roles, url_of):
    """The same after the owner has migrated, and run the script."""
    backend = PostgresBackend(Address(conninfo=url_of("shop_owner")))
    assert await backend.migrate()
    with psycopg.connect(url_of("shop_owner"), autocommit=True) as owner:
        owner.execute(printed("grants.sql"))
    return url_of


def declared(manager):
    @manager.task(name="send", max_attempts=2, retry_delay_seconds=0.01)
    def send(number):
        if number < 0:
            raise ValueError(number)
        return number

    return send


async def found(url, check):
    return [each for each in await PostgresBackend(Address(conninfo=url)).diagnose() if each.check == check]


async def test_one_who_only_enqueues_can_do_that_in_every_way_and_nothing_else(granted, working):
    url = granted("shop_producer")
    async with BackgroundTaskManager(url) as manager:
        send = declared(manager)
        await send.enqueue(1)
        await send.with_options(delay_seconds=60).enqueue(2)
        for _ in range(2):
            held = await send.with_options(unique_key="one", unique_for_seconds=60).enqueue(3)
        assert not held.is_new
        await manager.enqueue_many([send.call(number) for number in range(3)])
        with psycopg.connect(url) as caller:
            await send.with_options(connection=caller).enqueue(4)
        refused = (
            r"permission denied for table (\w+); the user 'shop_producer' lacks .* of deeper\.\1; "
            r"as the owner 'shop_owner': GRANT"
        )
        for call in (manager.get_statistics(), manager.cancel_task(held), manager.queues.pause("default")):
            with pytest.raises(AccessError, match=refused) as raised:
                await call
            # The handlers of the guides answer that with "try again".
            assert not isinstance(raised.value, BackendUnavailableError)
        assert (await manager.get_task_status(held)).status == "pending"
        async with BackgroundTaskManager(granted("shop_worker")) as worker, working(worker):
            declared(worker)
            assert await manager.result(await send.enqueue(1), timeout=60) == 1
    [finding] = await found(url, "rights")
    assert finding.severity is Severity.OK
    assert finding.message == (
        "the user 'shop_producer' may enqueue and see a job by its id, and not look or work; the schema belongs to "
        "'shop_owner', who migrates it"
    )


async def test_the_doctor_tells_one_who_only_enqueues_once_and_as_no_error_what_it_does_not_examine(granted):
    async with BackgroundTaskManager(granted("shop_producer")) as manager:
        findings = await manager.diagnose(deep=True)
    wrong = {each.check for each in findings if each.severity is not Severity.OK}
    # Of the server that tests run on.
    assert wrong <= {"durability"}
    assert [each.message for each in findings if "examined" in each.message] == [
        "the contents of the store are not examined: the user 'shop_producer' may not look"
    ]


async def test_a_producer_sees_a_job_by_the_command_and_all_if_it_is_a_viewer_too(
    granted, query, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    async with BackgroundTaskManager(granted("shop_producer")) as manager:
        job = await declared(manager).enqueue(1)
        answer = await asyncio.to_thread(CliRunner().invoke, main, ["status", job, "--url", granted("shop_producer")])
        assert answer.exit_code == ExitCode.DONE, answer.output
        query("GRANT shop_viewer TO shop_producer")
        assert (await manager.get_statistics()).queues["default"].pending == 1
        assert (await manager.get_task_status(job)).waiting_for is not None
    [finding] = await found(granted("shop_producer"), "rights")
    assert finding.message.startswith("the user 'shop_producer' may look and enqueue, and not work; ")


async def test_a_producer_without_the_names_of_workers_enqueues_and_sees_no_job(granted, query):
    query("REVOKE SELECT (id, number) ON deeper.node FROM shop_producer")
    async with BackgroundTaskManager(granted("shop_producer")) as manager:
        job = await declared(manager).enqueue(1)
        with pytest.raises(AccessError, match="table node; the user 'shop_producer' lacks"):
            await manager.get_task_status(job)
    [finding] = await found(granted("shop_producer"), "rights")
    assert finding.message.startswith(
        "the user 'shop_producer' may enqueue, and not look or see a job by its id or work"
    )


async def test_the_script_that_an_administrator_runs_as_the_owner_gives_the_owner_the_tables(roles, url_of, query):
    script = await PostgresBackend(Address(conninfo=url_of("shop_owner"))).migration_script()
    query(f"SET ROLE shop_owner; {script}")
    with psycopg.connect(url_of("shop_owner"), autocommit=True) as owner:
        owner.execute(printed("grants.sql"))
    assert [each.severity for each in await found(url_of("shop_worker"), "rights")] == [Severity.OK]


async def test_tables_that_are_not_the_owners_are_found_and_the_advice_names_who_can_grant(roles, url_of, query):
    query(await PostgresBackend(Address(conninfo=url_of("shop_owner"))).migration_script())
    query("GRANT USAGE ON SCHEMA deeper TO shop_worker")
    lacking, split = await found(url_of("shop_worker"), "rights")
    query(lacking.remedy.removeprefix("as a superuser (parts of the schema belong to 'postgres'): "))
    assert split.severity is Severity.WARNING
    assert "the schema belongs to 'shop_owner', and parts of it to 'postgres'" in split.message
    assert 'SET ROLE "shop_owner"' in split.remedy
    query("REVOKE SELECT ON deeper.store FROM shop_worker")
    with pytest.raises(AccessError, match=r"lacks SELECT.* of deeper\.store; as the owner 'postgres': GRANT"):
        await PostgresBackend(Address(conninfo=url_of("shop_worker"))).open()


async def test_one_who_only_looks_sees_all_and_changes_nothing(granted):
    async with BackgroundTaskManager(granted("shop_worker")) as worker:
        job = await declared(worker).enqueue(1)
    async with BackgroundTaskManager(granted("shop_viewer")) as manager:
        send = declared(manager)
        assert (await manager.get_statistics()).queues["default"].pending == 1
        assert (await manager.list_tasks()).total_entries == 1
        assert (await manager.get_task_status(job)).status == "pending"
        assert await manager.list_recurring_tasks() == []
        findings = await manager.diagnose(deep=True)
        faults = {each.check for each in findings if each.severity is Severity.ERROR}
        assert faults - {"durability"} == {"unserved queue"}
        [rights] = [each for each in findings if each.check == "rights"]
        assert rights.message.startswith("the user 'shop_viewer' may look, and not enqueue or work")
        words = r"lacks INSERT, UPDATE, DELETE of deeper\.job; as the owner 'shop_owner': GRANT INSERT, "
        with pytest.raises(BackendError, match=words):
            await send.enqueue(2)
        for call in (manager.cancel_task(job), manager.delete_task(job), manager.queues.pause("default")):
            with pytest.raises(BackendError, match=r"lacks INSERT, UPDATE, DELETE of deeper\."):
                await call


async def test_the_command_shows_a_store_to_one_who_only_looks(granted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    async with BackgroundTaskManager(granted("shop_worker")) as worker:
        job = await declared(worker).enqueue(1)
    for command in (["stats"], ["list"], ["status", job], ["queues"], ["schedules"]):
        answer = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--url", granted("shop_viewer")])
        assert answer.exit_code == 0, answer.output
    answer = await asyncio.to_thread(
        CliRunner().invoke, main, ["delete", job, "--url", granted("shop_viewer"), "--yes"]
    )
    assert answer.exit_code == ExitCode.STORE
    assert "lacks INSERT, UPDATE, DELETE of deeper.job" in " ".join(answer.output.split())


async def test_one_who_works_does_all_that_a_worker_does(granted, working, wait_until, caplog):
    url = granted("shop_worker")
    # As before each start of a unit: where there is nothing to do it takes no right.
    assert await PostgresBackend(Address(conninfo=url)).migrate() == ()
    async with BackgroundTaskManager(url, poll_interval_seconds=0.02, cleanup_interval_seconds=0.02) as manager:
        send = declared(manager)
        await manager.schedule_recurring_task("often", send, args=[1], cron_expression="@every 1s")
        failing = await send.enqueue(-1)
        async with working(manager):
            assert await manager.result(await send.enqueue(1), timeout=60) == 1
            await wait_until(lambda: _has_ended(manager, failing))
            await manager.retry_task(failing)
            await manager.queues.pause("other")
            await wait_until(lambda: _has_fired(manager, "often"))
            await manager.cancel_recurring_task("often")
            await manager.delete_task(failing)
    assert "met an unexpected error" not in caplog.text
    [finding] = await found(url, "rights")
    assert (finding.severity, finding.message.startswith("the user 'shop_worker' may look and enqueue and work;")) == (
        Severity.OK,
        True,
    )
    with psycopg.connect(url) as worker, pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute("DELETE FROM deeper.migration")


async def _has_ended(manager, job):
    return (await manager.get_task_status(job)).status == "discarded"


async def _has_fired(manager, name):
    return await manager.recurring_task_history(name)


async def test_one_without_any_right_is_told_which_it_lacks(roles, url_of, query):
    await PostgresBackend(Address(conninfo=url_of("shop_owner"))).migrate()
    backend = PostgresBackend(Address(conninfo=url_of("shop_worker")))
    words = (
        r"permission denied for schema deeper; the user 'shop_worker' lacks its USAGE; as the owner 'shop_owner': GRANT"
    )
    with pytest.raises(BackendError, match=words):
        await backend.open()
    [finding] = await found(url_of("shop_worker"), "rights")
    assert finding.message == "to work, the user 'shop_worker' lacks USAGE of the schema deeper"
    for statement in finding.remedy.removeprefix("as the owner 'shop_owner': ").split("; "):
        with psycopg.connect(url_of("shop_owner"), autocommit=True) as owner:
            owner.execute(statement)
    [finding] = await found(url_of("shop_worker"), "rights")
    assert finding.severity is Severity.OK
    await backend.open()
    await backend.close()


MISSING = [
    (
        "shop_producer",
        "SELECT ON deeper.unique_key",
        "to enqueue, the user 'shop_producer' lacks SELECT of deeper.unique_key",
    ),
    ("shop_worker", "DELETE ON deeper.counter", "to work, the user 'shop_worker' lacks DELETE of deeper.counter"),
    ("shop_viewer", "SELECT ON deeper.node", "to look, the user 'shop_viewer' lacks SELECT of deeper.node"),
    (
        "shop_producer",
        "EXECUTE ON ALL PROCEDURES IN SCHEMA deeper",
        "to enqueue, the user 'shop_producer' lacks EXECUTE of deeper.insert_and_notify",
    ),
]


async def test_a_right_that_is_missing_for_what_a_user_does_is_found_and_the_remedy_gives_it(granted, query):
    for user, taken, message in MISSING:
        query(f"REVOKE {taken} FROM {user}")
        [finding] = await found(granted(user), "rights")
        assert (finding.severity, finding.message) == (Severity.ERROR, message)
        with psycopg.connect(granted("shop_owner"), autocommit=True) as owner:
            owner.execute(finding.remedy.removeprefix("as the owner 'shop_owner': "))
        [finding] = await found(granted(user), "rights")
        assert finding.severity is Severity.OK


async def test_a_procedure_that_may_not_be_called_is_named_with_its_grant(granted, query):
    query("REVOKE EXECUTE ON ALL PROCEDURES IN SCHEMA deeper FROM shop_producer")
    async with BackgroundTaskManager(granted("shop_producer")) as manager:
        with pytest.raises(
            BackendError, match=r"lacks EXECUTE of deeper\.insert_and_notify; .*GRANT EXECUTE ON ALL ROUTINES"
        ):
            await declared(manager).enqueue(1)


async def test_only_the_owner_migrates_and_others_are_told_who_may(roles, url_of):
    stranger = PostgresBackend(Address(conninfo=url_of("shop_worker")))
    for attempt in (stranger.open, stranger.migrate):
        with pytest.raises(BackendError, match="permission denied for schema deeper"):
            await attempt()
    elsewhere = PostgresBackend(Address(conninfo=url_of("shop_worker"), schema="other"))
    with pytest.raises(SchemaError, match=r'CREATE SCHEMA "other" AUTHORIZATION "shop_worker"'):
        await elsewhere.open()


async def test_row_level_security_is_found_and_not_taken_for_an_empty_store(granted, query):
    query("ALTER TABLE deeper.store ENABLE ROW LEVEL SECURITY")
    with pytest.raises(SchemaError, match="row-level security hides it from this user, see 'deeper doctor'"):
        await PostgresBackend(Address(conninfo=granted("shop_worker"))).open()
    [finding] = await found(granted("shop_worker"), "row-level security")
    assert finding.severity is Severity.ERROR
    query("CREATE POLICY everyone ON deeper.store USING (true)")
    [finding] = await found(granted("shop_worker"), "row-level security")
    assert finding.severity is Severity.WARNING
    query(finding.remedy)
    assert await found(granted("shop_worker"), "row-level security") == []


async def test_a_worker_whose_user_may_not_work_ends_with_the_code_of_a_store_that_cannot_be_used(granted, tmp_path):
    (tmp_path / "shop.py").write_text(
        "from deeper_tasks import BackgroundTaskManager\n\nmanager = BackgroundTaskManager()\n"
    )
    words = ["worker", "shop:manager", "--url", granted("shop_producer")]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deeper_tasks.cli", *words, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, said = await worker.communicate()
    assert worker.returncode == ExitCode.STORE, said.decode()
    assert "lacks" in said.decode()
