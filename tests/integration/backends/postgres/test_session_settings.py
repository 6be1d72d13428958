"""The settings of sessions: whatever a database or a role carries, jobs are enqueued, run and looked at as ever."""

import pytest
from psycopg import sql

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.domain.finding import Severity

HOSTILE = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "log",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "xmloption": "document",
    "row_security": "off",
    "check_function_bodies": "off",
    "session_replication_role": "replica",
    "default_transaction_deferrable": "on",
    "plan_cache_mode": "force_custom_plan",
    "work_mem": "64",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "from_collapse_limit": "1",
    "lock_timeout": "500",
}
"""With a pooler, too, which hands out sessions as they are."""
OVERRIDDEN = {"default_transaction_isolation": "serializable", "array_nulls": "off"}
"""What a session of ours overrides; one that a pooler hands out is refused for it."""
IMPATIENT = {
    "lock_timeout": "1",
    "statement_timeout": "1",
    "idle_session_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
}
"""In milliseconds: of a session of ours the address's timeout decides."""


@pytest.fixture
def set_sessions(postgres, database_url):
    """Return a way to have the sessions of the database begin with settings."""

    def set_sessions(settings):
        name = sql.Identifier(database_url.rpartition("/")[2])
        for setting, value in settings.items():
            values = (name, sql.Identifier(setting), sql.Literal(value))
            postgres.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(*values))

    return set_sessions


@pytest.fixture(params=["none", "transaction"])
def hostile_url(request, set_sessions, database_url):
    """A database whose sessions begin with all of them."""
    set_sessions(HOSTILE | (OVERRIDDEN if request.param == "none" else {}))
    return f"{database_url}?pooler={request.param}"


async def test_sessions_of_ours_are_as_patient_as_the_address_says(set_sessions, database_url):
    set_sessions(IMPATIENT)
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    [settings] = await backend._database.call(
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'), "
        "current_setting('idle_session_timeout'), current_setting('idle_in_transaction_session_timeout')",
        {},
    )
    assert settings == ("0", "10s", "0", "10s")
    await backend.close()


async def test_jobs_run_and_are_looked_at_whatever_the_sessions_are_set_to(hostile_url, working, wait_until):
    async with BackgroundTaskManager(hostile_url, poll_interval_seconds=0.05) as manager:

        @manager.task(name="repeat", cron="0 0 1 1 *")
        async def repeat(text: str = "") -> str:
            return text

        @manager.task(name="pass_on", transactional=True)
        async def pass_on(text: str) -> None:
            await current_job().connection.execute("SELECT 1")
            await repeat.enqueue(text)

        async with working(manager):
            text = "größe \\ ' \" € NULL"
            assert await manager.result(await repeat.enqueue(text), timeout=60) == text
            later = await manager.schedule_task(repeat, args=[text], scheduled_at=0.01)
            assert await manager.result(later, timeout=60) == text
            await manager.result(await pass_on.enqueue(text), timeout=60)
            await manager.result(await manager.run_recurring_task("repeat"), timeout=60)
            await wait_until(lambda: _have_ended(manager, 5))
            findings = await manager.diagnose(deep=True)
        # Tests switch off what makes a commit durable.
        wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
        assert [finding.check for finding in wrong] == ["durability"]


async def _have_ended(manager, count):
    overview = await manager.get_overview()
    return sum(queue.ended_today for queue in overview.queues) == count
