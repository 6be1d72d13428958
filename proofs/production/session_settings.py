"""Session settings: all that a role can carry, one after another, under every command, a producer and a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from click.testing import CliRunner

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.cli import main
from deeper_tasks.domain.finding import Severity
from deeper_tasks.errors import JobNotCompletedError
from proofs.production.needs import POSTGRES
from proofs.production.site import Site
from proofs.production.situation import Situation

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

_ROLE = "carrier"
_PATIENCE = timedelta(seconds=60)

SELECT_SETTINGS = """
SELECT name, vartype, enumvals, min_val, max_val, setting
FROM pg_settings
WHERE context IN ('user', 'superuser') AND name <> ALL (%s)
ORDER BY name
"""
_LEFT_OUT = [
    # Of the transaction, or what the session is.
    *("transaction_isolation", "transaction_read_only", "transaction_deferrable", "session_authorization", "role"),
    # Played by itself, and by the failovers.
    "default_transaction_read_only",
    # These have no value that a server could work with.
    *("session_preload_libraries", "local_preload_libraries", "dynamic_library_path", "extension_control_path"),
    *("post_auth_delay", "backtrace_functions", "allow_in_place_tablespaces", "output_plugin_libraries"),
]
_TEXTS = {
    "DateStyle": ["SQL, DMY", "German, DMY", "Postgres, MDY"],
    "TimeZone": ["Asia/Kolkata", "America/St_Johns"],
    "client_encoding": ["LATIN1", "SQL_ASCII", "EUC_JP"],
    "search_path": ["nowhere", "pg_temp"],
    "default_tablespace": ["nowhere"],
    "temp_tablespaces": ["nowhere"],
    "default_text_search_config": ["pg_catalog.simple"],
    "timezone_abbreviations": ["India"],
    "application_name": ["another"],
}
_NUMBERS = {
    # Each ends something that a session of the store, or of an application, would do by itself in a while.
    "statement_timeout": ["2000"],
    "lock_timeout": ["10"],
    "transaction_timeout": ["5000"],
    "idle_session_timeout": ["100"],
    "idle_in_transaction_session_timeout": ["2000"],
}
_REFUSED_OF_POOLER = ("default_transaction_isolation", "array_nulls")
"""The settings that the store overrides. A pooler's session is refused for them, with the remedy."""
_REPORTED = {"track_counts": "autovacuum", "synchronous_commit": "durability", "fsync": "durability"}
"""By the setting: the finding of the doctor that is right about it."""

_DOCTOR = ("doctor", "--deep")
_COMMANDS: Sequence[Sequence[str]] = (
    ("migrate",),
    ("migrate", "--sql"),
    ("list",),
    ("list", "--dead", "--json"),
    ("stats",),
    ("queues",),
    ("queues", "pause", "default"),
    ("queues", "resume", "default"),
    ("schedules",),
    ("schedules", "pause", "carried"),
    ("schedules", "resume", "carried"),
    ("schedules", "history", "carried"),
    ("schedules", "run", "carried"),
    ("retry", "--all-dead"),
    ("cancel", "--queue", "default", "--yes"),
    ("delete", "--queue", "nowhere", "--yes"),
    ("cleanup",),
    _DOCTOR,
)


def play(site: Site) -> None:
    """Give a role each value of each setting, and use the store by that role, directly and as through a pooler."""
    logging.disable(logging.CRITICAL)
    try:
        with site.postgres(fsync="on", full_page_writes="on", synchronous_commit="on") as server:
            _play_all(site, server)
    finally:
        logging.disable(logging.NOTSET)


def _play_all(site: Site, server: PostgresServer) -> None:
    from psycopg import sql

    database = site.url.rpartition("/")[2]
    server.execute(f"CREATE ROLE {_ROLE} LOGIN")
    server.execute(f"ALTER DATABASE {database} OWNER TO {_ROLE}")
    url = site.url.replace("postgres@", f"{_ROLE}@", 1)
    asyncio.run(_use(url))
    faults = []
    for name, value in _values(server):
        server.execute(sql.SQL("ALTER ROLE carrier SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        faults += [f"{name} = {value!r}: {fault}" for fault in _faults(url, name)]
        server.execute(f"ALTER ROLE {_ROLE} RESET ALL")
    assert not faults, "\n".join(faults)


def _values(server: PostgresServer) -> Iterator[tuple[str, str]]:
    for name, kind, words, low, high, usual in server.execute(SELECT_SETTINGS, _LEFT_OUT):
        if name in _TEXTS or name in _NUMBERS:
            values = _TEXTS.get(name) or _NUMBERS[name]
        elif kind == "bool":
            values = ["off" if usual == "on" else "on"]
        elif kind == "string":
            values = []
        else:
            values = [value for value in words or (low, high) if value != usual]
        yield from ((name, value) for value in values)


def _faults(url: str, name: str) -> Iterator[str]:
    poolers = ["none"] if name in _REFUSED_OF_POOLER else ["none", "transaction"]
    for pooler in poolers:
        try:
            asyncio.run(asyncio.wait_for(_use(f"{url}?pooler={pooler}", reported=_REPORTED.get(name)), 60))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other settings are played too
            yield f"with pooler={pooler}: {type(error).__name__}: {error}"
    job, fault = _command(url, "enqueue", "carried", "--delay", "1h", "--unchecked")
    of_job = [(*words, job) for words in (("status",), ("reschedule", "--delay", "2h"), ("run-now",), ("delete",))]
    faults = [fault, *(_command(url, *command)[1] for command in (*(of_job if job else ()), *_COMMANDS))]
    yield from filter(None, faults)


def _command(url: str, *words: str) -> tuple[str, str | None]:
    """Return what a command said, and what was wrong with it."""
    result = CliRunner().invoke(main, [*words, "--url", url])
    # The doctor minds that no worker runs.
    if result.exit_code in {0, 1 if words == _DOCTOR else 0} and (result.exit_code or result.exception is None):
        return result.stdout.strip(), None
    return "", f"deeper {' '.join(words)} ended with {result.exit_code}: {result.output[-300:]}"


async def _use(url: str, *, reported: str | None = None) -> None:
    """Do all that a producer, a worker and the doctor do."""
    async with BackgroundTaskManager(url, poll_interval_seconds=0.1) as manager:

        @manager.task(name="carried", cron="0 0 1 1 *")
        async def carried(text: str = "") -> str:
            return text

        @manager.task(name="carried_inside", transactional=True)
        async def carried_inside(text: str) -> None:
            await current_job().connection.execute("SELECT 1")
            await carried.enqueue(text)

        @manager.task(name="carried_badly", max_attempts=1)
        async def carried_badly() -> None:
            current_job().progress(0.5, "half")
            raise ValueError

        started = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=started.set_result))
        worker = await started
        try:
            text, timeout = "größe \\ ' \" € NULL", _PATIENCE.total_seconds()
            assert await manager.result(await carried.enqueue(text), timeout=timeout) == text
            for options in ({"unique": "until_done"}, {"delay_seconds": 0.01}, {"tags": ["a"], "priority": 1}):
                job = await carried.with_options(**options).enqueue(text)  # type: ignore[arg-type]
                assert await manager.result(job, timeout=timeout) == text
            await manager.result(await carried_inside.enqueue(text), timeout=timeout)
            await manager.enqueue_many([carried.call(str(number)) for number in range(20)])
            failing = await carried_badly.enqueue()
            try:
                await manager.result(failing, timeout=timeout)
            except JobNotCompletedError:
                await manager.retry_task(failing)
            findings = await manager.diagnose(deep=True)
        finally:
            worker.stop()
            await running
        wrong = [
            each
            for each in findings
            if each.check != reported
            and (
                each.severity is Severity.ERROR or (each.check == "server's clock" and each.severity is not Severity.OK)
            )
        ]
        assert not wrong, wrong


SITUATION = Situation(
    name="session-settings",
    plays="a role carries each hostile value of some 200 settings (minutes); every command, producer and worker go on",
    needs=(POSTGRES,),
    play=play,
)
