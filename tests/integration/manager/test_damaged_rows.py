"""Rows that were damaged behind the store's back: every reader goes on, and a claim fails such a job alone."""

import asyncio
import base64
import json
import shlex
import sqlite3
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from deeper_tasks import BackgroundTaskManager, RunOutcome, State
from deeper_tasks.backends.protocol import Folding
from deeper_tasks.cli import main
from deeper_tasks.domain.settlement import End
from deeper_tasks.errors import DamagedError, InvalidOptionError, JobNotCompletedError, ScheduleNotFoundError
from deeper_tasks.integrations.events import JobFailed
from deeper_tasks.testing.conformance.builders import join, new_job, put_running, settle

DEEP = "[" * 900 + "]" * 900
ABYSS = "[" * 50_000 + "]" * 50_000
LATE, EARLY = object(), object()

# Field, content, and whether a job with it can be run. Lists are written as one document where a store keeps one.
DAMAGE = [
    ("options", '{"tags":["re', False),
    ("options", "", True),
    ("options", "nonsense", False),
    ("options", "[7]", False),
    ("options", '"text"', False),
    ("options", '{"tags":7}', False),
    ("options", '{"tags":["red"],"timeout":"soon"}', False),
    ("options", '{"meta":{"a":NaN}}', False),
    ("options", '{"meta":null}', False),
    ("options", f'{{"meta":{{"a":{DEEP}}}}}', False),
    ("options", f'{{"meta":{{"a":{ABYSS}}}}}', False),
    ("arguments", '[[1],{"a"', False),
    ("arguments", "", False),
    ("arguments", "7", False),
    ("arguments", "[]", False),
    ("arguments", '[{"a":1},[]]', False),
    ("arguments", "[[NaN],{}]", False),
    ("arguments", f"[[{ABYSS}],{{}}]", False),
    ("errors", ["nonsense"], True),
    ("errors", ["[1,2"], True),
    ("errors", ["7"], True),
    ("errors", ['{"attempt":1,"at":"never","kind":"E","message":"m"}'], True),
    ("errors", [ABYSS], True),
    ("progress", '{"fraction":null}', True),
    ("progress", '{"fraction":NaN}', True),
    ("progress", '{"fraction":7}', True),
    ("progress", '"half"', True),
    ("progress", ABYSS, True),
    ("log", ["nonsense"], True),
    ("log", ["7"], True),
    ("log", ["null"], True),
    ("log", [ABYSS], True),
    ("result", '{"a', True),
    ("result", "NaN", True),
    ("result", DEEP, True),
    ("result", ABYSS, True),
    ("inserted_at", LATE, False),
    ("inserted_at", EARLY, False),
    ("scheduled_at", LATE, False),
    ("scheduled_at", EARLY, False),
    ("attempted_at", LATE, True),
    ("expires_at", LATE, False),
]
UNREADABLE = [case for case in DAMAGE if case[:2] != ("options", "")]


KEYS = {"schedule": "name", "queue": "name", "schedule_run": "job"}


class SQLiteStore:
    """A database file, and what is written to it by hand."""

    def __init__(self, path):
        self.path = path
        self.url = f"sqlite:///{path}"
        self.settings = ""

    def write(self, table, changes):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(self.settings)
            for key, field, value in changes:
                written = {LATE: 1 << 62, EARLY: -(1 << 62)}.get(value) if not isinstance(value, list | str) else value
                if isinstance(value, list):
                    written = f"[{','.join(value)}]"
                name = KEYS.get(table, "id")
                statement = f"UPDATE deeper_{table} SET {field} = ? WHERE {name} = ?"
                assert connection.execute(statement, (written, key)).rowcount == 1

    def count(self, count):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE deeper_counter SET count = ?", (count,))


class PostgresStore:
    """A database of a server, and what is written to it by hand."""

    def __init__(self, url):
        self.url = url

    def write(self, table, changes):
        with psycopg.connect(self.url) as connection:
            for key, field, value in changes:
                moments = {LATE: "infinity", EARLY: "0044-03-15 12:00:00+00 BC"}
                written = value if isinstance(value, list | str) else moments[value]
                name = f"{KEYS.get(table, 'id')}::text"
                statement = f"UPDATE deeper.{table} SET {field} = %s WHERE {name} = %s"
                assert connection.execute(statement, (written, key)).rowcount == 1

    def count(self, count):
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE deeper.counter SET count = %s", (count,))


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "tasks.db")
    return PostgresStore(request.getfixturevalue("store_url"))


@pytest.fixture
async def manager(store):
    manager = BackgroundTaskManager(store.url, poll_interval_seconds=0.05)

    @manager.task(tags=["red"], name="shop.add")
    async def add(number: int) -> int:
        return number

    manager.add = add
    async with manager:
        yield manager


async def enqueue_damaged(manager, store):
    """Enqueue a job for each kind of damage and do it; returns the ids by case, and those of two sound jobs."""
    ids = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(len(DAMAGE) + 2)])]
    store.write("job", [(job_id, field, value) for job_id, (field, value, _) in zip(ids[1:-1], DAMAGE, strict=True)])
    return dict(zip(ids[1:-1], DAMAGE, strict=True)), {ids[0], ids[-1]}


async def every_page(manager, **conditions):
    page = await manager.list_tasks(per_page=7, **conditions)
    yield page
    while page.next_cursor is not None:
        page = await manager.list_tasks(per_page=7, cursor=page.next_cursor, **conditions)
        yield page


def run(store, *words):
    result = CliRunner().invoke(main, [*words, "--url", store.url])
    assert result.exception is None or isinstance(result.exception, SystemExit), words
    return result.stdout


def fields_of(damage):
    return [each.field for each in damage]


async def test_every_reader_shows_what_it_can_and_marks_what_it_cannot(manager, store):
    hurt, sound = await enqueue_damaged(manager, store)
    for sort_by in ("inserted_at", "scheduled_at", "finished_at"):
        for descending in (True, False):
            listed = [
                job
                async for page in every_page(manager, sort_by=sort_by, descending=descending)
                for job in page.entries
            ]
            assert sorted(job.id for job in listed) == sorted(hurt.keys() | sound)
    for job in listed:
        field = hurt[job.id][0] if job.id in hurt and hurt[job.id] in UNREADABLE else None
        assert fields_of(job.damage) == ([] if field is None else [field])
        assert (job.status, job.task, job.queue) == (State.PENDING, "shop.add", "default")
        # A list does not tell what jobs wait for.
        assert replace(await manager.get_task_status(job.id), waiting_for=None) == job
    assert (await manager.list_dead_letters()).entries == ()
    assert (await manager.get_statistics()).queues["default"].pending == len(hurt) + 2
    assert (await manager.get_overview()).queues[0].pending == len(hurt) + 2
    tagged = await manager.list_tasks(tag="red", per_page=1000)
    assert sound <= {job.id for job in tagged.entries}


async def test_the_command_shows_them_too_and_the_doctor_names_them(manager, store):
    hurt, sound = await enqueue_damaged(manager, store)

    def ask(*words):
        return json.loads(run(store, *words, "--json"))

    def look():
        assert {job["id"] for job in ask("list", "--per-page", "1000")["entries"]} == hurt.keys() | sound
        assert run(store, "list", "--per-page", "1000").count("damaged") == len(UNREADABLE)
        for job_id, case in {case[0]: (job_id, case) for job_id, case in hurt.items()}.values():
            told = [each["field"] for each in ask("status", job_id)["damage"]]
            assert told == ([case[0]] if case in UNREADABLE else [])
        some = next(iter(hurt))
        assert "options cannot be read" in run(store, "status", some)
        assert ask("stats")["queues"]["default"]["pending"] == len(hurt) + 2
        assert "default" in run(store, "queues")
        assert "default" in run(store, "stats")
        shallow = [each for each in ask("doctor")["findings"] if each["check"] == "damaged rows"]
        deep = [each for each in ask("doctor", "--deep")["findings"] if each["check"] == "damaged rows"]
        assert all(each["severity"] == "warning" and each["remedy"] for each in deep)
        assert len(shallow) == len(deep) == 21
        assert deep[-1]["message"] == f"and {len(UNREADABLE) - 20} damaged rows more"
        named = {job_id for job_id in hurt if any(job_id in each["message"] for each in deep)}
        assert len(named) == 20
        assert "damaged rows" in run(store, "doctor", "--deep")

    await asyncio.to_thread(look)


async def test_a_worker_fails_what_cannot_be_run_and_runs_all_else(manager, store, working, wait_until):
    hurt, sound = await enqueue_damaged(manager, store)
    failed = {}
    manager.subscribe(lambda event: failed.setdefault(event.job_id, event.error), JobFailed)
    async with working(manager):

        async def is_done():
            statistics = await manager.get_statistics()
            return statistics.queues["default"].completed_today + statistics.queues["default"].failed_today == (
                len(hurt) + 2
            )

        await wait_until(is_done)
    unfit = {job_id for job_id, (_, _, runs) in hurt.items() if not runs}
    assert failed.keys() == unfit
    for job_id in hurt.keys() | sound:
        job = await manager.get_task_status(job_id)
        assert job.status is (State.FAILED if job_id in unfit else State.COMPLETED)
        if job_id in unfit:
            field = hurt[job_id][0]
            [error] = job.errors
            assert error.kind == ("InvalidArgumentsError" if field == "arguments" else "DamagedError")
            assert failed[job_id].message == error.message
            assert field in error.message
    assert await manager.retry_tasks() == len(unfit)
    assert await manager.cancel_tasks() == len(unfit)
    assert await manager.delete_tasks() == len(hurt) + 2
    assert (await manager.list_tasks()).total_entries == 0


async def test_the_result_of_a_completed_job_that_cannot_be_read_is_an_error(manager, store, working):
    job, late, early = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(3)])]
    async with working(manager):
        for each in (job, late, early):
            assert await manager.result(each, timeout=30) == 1
    store.write("job", [(job, "result", '{"a'), (late, "finished_at", LATE), (early, "finished_at", EARLY)])
    with pytest.raises(DamagedError, match="result"):
        await manager.result(job)
    assert (await manager.get_task_status(job)).result is None
    ended = [entry async for page in every_page(manager, sort_by="finished_at") for entry in page.entries]
    assert [entry.id for entry in ended] == [late, job, early]
    assert [fields_of(entry.damage) for entry in ended] == [["finished_at"], ["result"], ["finished_at"]]


async def test_damaged_recurring_tasks_queues_and_workers_are_shown_and_hold_up_no_other(
    manager, store, working, wait_until
):
    for name in ("broken", "late", "sound"):
        await manager.schedule_recurring_task(name, manager.add, cron_expression="@every 1s", args=[1])
    await manager.queues.pause("letters")
    store.write("schedule", [("broken", "document", '{"name":"bro'), ("late", "next_run", LATE)])
    store.write("queue", [("letters", "paused_at", LATE)])
    damaged = {entry.name: fields_of(entry.damage) for entry in await manager.list_recurring_tasks()}
    assert damaged == {"broken": ["document"], "late": ["next_run"], "sound": []}
    for change in (manager.pause_recurring_task, manager.run_recurring_task):
        with pytest.raises(DamagedError, match="register it again, or remove it"):
            await change("broken")
    async with working(manager) as worker:
        await wait_until(manager.backend.nodes)
        store.write("node", [(worker.node_id, "document", "nonsense")])
        await wait_until(lambda: has_run(manager, "sound"))
        overview = await manager.get_overview()
        assert [(worker.id, fields_of(worker.damage)) for worker in overview.workers] == [(worker.node_id, ["node"])]
        assert [fields_of(queue.damage) for queue in overview.queues if queue.name == "letters"] == [["paused_at"]]
        assert (await manager.get_statistics()).workers_summary.workers == 1
        told = [finding for finding in await manager.diagnose() if finding.check == "damaged rows"]
        assert len(told) == 4

        def look():
            assert "damaged" in run(store, "schedules", "list")
            assert run(store, "queues").count("damaged") == 1
            assert [fields_of_json(entry) for entry in json.loads(run(store, "schedules", "list", "--json"))] == [
                ["document"],
                ["next_run"],
                [],
            ]
            for name, field in (("broken", "document"), ("late", "next_run")):
                result = CliRunner().invoke(main, ["schedules", "next", name, "--url", store.url])
                assert f"is damaged, and makes no jobs: {field}: " in result.stderr
                assert "never due" not in result.stderr
                shown = json.loads(run(store, "schedules", "next", name, "--json"))
                assert fields_of_json(shown) == [field]

        await asyncio.to_thread(look)
    assert not await has_run(manager, "late")
    await manager.schedule_recurring_task("broken", manager.add, cron_expression="@every 1s", args=[1])
    assert (await manager.get_recurring_task("broken")).damage == ()
    await manager.cancel_recurring_task("late")
    with pytest.raises(ScheduleNotFoundError):
        await manager.get_recurring_task("late")
    await manager.queues.resume("letters")


async def test_a_run_in_the_history_that_cannot_be_read_is_shown_as_that(manager, store):
    await manager.schedule_recurring_task("sound", manager.add, cron_expression="@daily", args=[1])
    for _ in range(3):
        await manager.run_recurring_task("sound")
    _, lost, late = await manager.recurring_task_history("sound")
    store.write("schedule_run", [(lost.task_id, "outcome", "lost"), (late.task_id, "fired_at", LATE)])
    history = await manager.recurring_task_history("sound")
    assert [run.outcome for run in history] == [RunOutcome.RUN_NOW, RunOutcome.UNREADABLE, RunOutcome.RUN_NOW]
    assert [fields_of(run.damage) for run in history] == [[], ["outcome"], ["fired_at"]]
    assert "unreadable" in await asyncio.to_thread(run, store, "schedules", "history", "sound")
    [told] = [finding for finding in await manager.diagnose(deep=True) if finding.check == "damaged rows"]
    assert "the history of the recurring task sound" in told.message


async def test_a_store_in_memory_that_was_given_what_cannot_be_read_shows_it_too(working):
    manager = BackgroundTaskManager("memory://", poll_interval_seconds=0.05)

    @manager.task(name="shop.add")
    async def add(number: int) -> int:
        return number

    async with manager:
        hurt = new_job(task="shop.add", arguments='[[1],{"a"')
        await manager.backend.insert([hurt])
        sound = await manager.enqueue_task(add, args=[1])
        assert {job.id: fields_of(job.damage) for job in (await manager.list_tasks()).entries} == {
            hurt.request_id: ["arguments"],
            sound: [],
        }
        async with working(manager):
            assert await manager.result(sound, timeout=30) == 1
            with pytest.raises(JobNotCompletedError, match="arguments"):
                await manager.result(hurt.request_id, timeout=30)


async def has_run(manager, name):
    return (await manager.get_recurring_task(name)).last_run is not None


def fields_of_json(entry):
    return [each["field"] for each in entry["damage"]]


async def test_a_number_that_cannot_grow_holds_up_no_queue(manager, store, working):
    highest = str(2**63 - 1) if isinstance(store, SQLiteStore) else str(2**31 - 1)
    hurt, sound = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(2)])]
    store.write("job", [(hurt, "attempt", highest), (hurt, "max_attempts", highest)])
    async with working(manager):
        assert await manager.result(sound, timeout=30) == 1
        assert await manager.result(hurt, timeout=30) == 1
    late = str(await manager.enqueue_task(manager.add, args=[1], queue="other"))
    await manager.cancel_task(late)
    store.write("job", [(late, "attempt", highest)])
    await manager.retry_task(late)


@pytest.fixture
def unchecked(store):
    """Lets the tables take what their checks refuse, as tables that were restored without them do."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(without_checks(store))


@contextmanager
def without_checks(store):
    if isinstance(store, SQLiteStore):
        store.settings = "PRAGMA ignore_check_constraints = ON"
        yield
        return
    with psycopg.connect(store.url, autocommit=True) as connection:
        checks = connection.execute(SELECT_CHECKS).fetchall()
        for name, _ in checks:
            connection.execute(f"ALTER TABLE deeper.job DROP CONSTRAINT {name}")
        yield
        connection.execute("DELETE FROM deeper.job")
        for name, check in checks:
            connection.execute(f"ALTER TABLE deeper.job ADD CONSTRAINT {name} {check}")


SELECT_CHECKS = """
SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'deeper.job'::regclass AND contype = 'c'
"""
NUMBERS = ("attempt", "max_attempts", "original_max_attempts")


async def test_numbers_that_are_none_of_a_job_are_refused_and_fail_the_job_alone_where_they_are(
    manager, store, working, unchecked
):
    lowest = str(-(2**63) if isinstance(store, SQLiteStore) else -(2**31))
    hurt = {}
    for field in NUMBERS:
        for value in ("-1", lowest):
            hurt[str(await manager.enqueue_task(manager.add, args=[1]))] = (field, value)
    sound = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(3)])]
    changes = [(job_id, field, value) for job_id, (field, value) in hurt.items()]
    for change in changes:
        with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
            store.write("job", [change])
    unchecked()
    store.write("job", changes)
    listed = {job.id: fields_of(job.damage) for job in (await manager.list_tasks(per_page=100)).entries}
    assert listed == {job_id: [field] for job_id, (field, _) in hurt.items()} | {job_id: [] for job_id in sound}
    told = [finding for finding in await manager.diagnose(deep=True) if finding.check == "damaged rows"]
    assert all(any(job_id in finding.message for finding in told) for job_id in hurt)
    async with working(manager):
        for job_id in sound:
            assert await manager.result(job_id, timeout=30) == 1
        for job_id, (field, _) in hurt.items():
            with pytest.raises(JobNotCompletedError, match=f"cannot be read: {field}: it is less than"):
                await manager.result(job_id, timeout=30)
    assert await manager.retry_tasks(status="failed") == len(hurt)
    assert await manager.cancel_tasks() == len(hurt)
    store.write("job", changes)
    assert await manager.delete_tasks() == len(hurt) + len(sound)


async def test_attempts_that_are_none_hold_up_neither_the_settles_nor_the_rescue_of_others(store, unchecked):
    lowest = str(-(2**63) if isinstance(store, SQLiteStore) else -(2**31))
    async with BackgroundTaskManager(store.url) as manager:
        unchecked()
        node = await join(manager.backend)
        first, second, third = [await put_running(manager.backend, node, queue=f"q{each}") for each in range(3)]
        store.write("job", [(first.id, "attempt", lowest), (second.id, "attempt", lowest)])
        assert len(await settle(manager.backend, [first], End.RELEASE)) == 1
        rescued = await manager.backend.rescue(node, beat=0)
        assert {job.id for job in rescued.jobs} == {second.id, third.id}


async def fold(backend):
    """Have the counters, where they lag behind, be what is counted."""
    if isinstance(backend, Folding):
        await backend.fold()


@pytest.mark.parametrize("count", [2**63 - 1, -(2**63)])
async def test_counters_at_the_end_of_their_numbers_hold_up_neither_claims_nor_the_due(manager, store, working, count):
    early = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(2)])]
    await manager.enqueue_task(manager.add, args=[1], delay_seconds=3600)
    await fold(manager.backend)
    store.count(count)
    due = await manager.enqueue_task(manager.add, args=[1], delay_seconds=0.1)
    async with working(manager):
        for job_id in (*early, str(due)):
            assert await manager.result(job_id, timeout=30) == 1
    for _ in range(2):
        await manager.backend.promote()
        await fold(manager.backend)
        await manager.backend.statistics()
    await manager.list_tasks()
    await manager.get_overview()
    await manager.cleanup_old_tasks()
    # SQLite's clean-up has counted anew.
    found = ["ok"] if isinstance(store, SQLiteStore) else ["error"]
    assert [each.severity for each in await manager.diagnose(deep=True) if each.check == "counters"] == found


@pytest.mark.parametrize("count", [None, 0, -3])
async def test_jobs_that_the_counters_do_not_know_are_listed_and_found_and_counted_anew(tmp_path, count):
    store = SQLiteStore(tmp_path / "it's.db")
    async with BackgroundTaskManager(store.url) as manager:

        @manager.task(name="shop.add")
        async def add(number: int) -> int:
            return number

        ids = {str(job) for job in await manager.enqueue_many([add.call(number) for number in range(3)])}
        await manager.enqueue_task(add, args=[1], queue="other")
        store.write("job", [(min(ids), "arguments", "nonsense")])
        with closing(sqlite3.connect(store.path)) as connection, connection:
            if count is None:
                connection.execute("DELETE FROM deeper_counter WHERE queue = 'default'")
            else:
                connection.execute("UPDATE deeper_counter SET count = ? WHERE queue = 'default'", (count,))
        for sort_by in ("inserted_at", "scheduled_at", "finished_at"):
            page = await manager.list_tasks(queue="default", sort_by=sort_by)
            assert ({job.id for job in page.entries}, page.total_entries) == (ids, 3)
        overview = {queue.name: queue for queue in (await manager.get_overview()).queues}
        if count:
            assert (overview["default"].pending, fields_of(overview["default"].damage)) == (0, ["counters"])
        told = {finding.check: finding for finding in await manager.diagnose(deep=True)}
        assert "0 pending in 'default' and there are 3".replace("0", str(count or 0)) in told["counters"].message
        assert any(min(ids) in finding.message for finding in await manager.diagnose(deep=True))
        _, path, statements = shlex.split(told["counters"].remedy)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(statements)
        assert [each.severity for each in await manager.diagnose(deep=True) if each.check == "counters"] == ["ok"]
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("DELETE FROM deeper_counter WHERE queue = 'default'")
        await manager.cleanup_old_tasks()
        assert (await manager.get_statistics()).queues["default"].pending == 3
        assert [each.severity for each in await manager.diagnose(deep=True) if each.check == "counters"] == ["ok"]
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("DELETE FROM deeper_counter WHERE queue = 'default'")
        assert await manager.cancel_tasks(task="shop.add") == 4


async def test_a_beat_that_cannot_grow_is_no_end_of_its_worker(store):
    async with BackgroundTaskManager(store.url) as manager:
        node = await join(manager.backend)
        store.write("node", [(node, "beat", str(2**63 - 1))])
        for beat in (0, 1):
            await manager.backend.beat(node, busy=0)
            [record] = await manager.backend.nodes()
            assert record.beat == beat


async def test_a_text_that_is_no_unicode_fails_its_job_alone_and_hides_no_other(tmp_path, working):
    """Only in SQLite can another program write one."""
    store = SQLiteStore(tmp_path / "tasks.db")
    async with BackgroundTaskManager(store.url, poll_interval_seconds=0.05) as manager:

        @manager.task(name="shop.say")
        async def say(text: str) -> str:
            return text

        fields = ["arguments", "task", "options", "unique_key", "errors", "log", "progress", "cancel_requested"]
        calls = [say.with_options(meta={"a": 1}).call("\N{REPLACEMENT CHARACTER}") for _ in [*fields, "none"]]
        ids = [str(job) for job in await manager.enqueue_many(calls)]
        with closing(sqlite3.connect(store.path)) as connection, connection:
            for job_id, field in zip(ids, fields, strict=False):
                broken = "CAST(x'5b5b22ff225d2c7b7d5d' AS TEXT)"
                connection.execute(f"UPDATE deeper_job SET {field} = {broken} WHERE id = ?", (job_id,))
        assert {job.id for job in (await manager.list_tasks()).entries} == set(ids)
        async with working(manager):
            assert await manager.result(ids[-1], timeout=30) == "\N{REPLACEMENT CHARACTER}"
            for job_id, field in zip(ids, fields, strict=False):
                if field in {"arguments", "task", "options"}:
                    with pytest.raises(JobNotCompletedError, match=f"{field}: .*utf-8"):
                        await manager.result(job_id, timeout=30)
        assert await asyncio.to_thread(run, store, "list")
        assert json.loads(await asyncio.to_thread(run, store, "list", "--json"))["total_entries"] == len(ids)


async def test_a_state_that_is_none_is_refused_by_the_store_and_can_be_changed_where_it_is_there(manager, store):
    ids = [str(job) for job in await manager.enqueue_many([manager.add.call(1) for _ in range(3)])]
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
        store.write("job", [(ids[0], "state", "42")])
    if not isinstance(store, SQLiteStore):
        return
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE deeper_job SET state = 42 WHERE id IN (?, ?)", ids[:2])
    page = await manager.list_tasks()
    assert {job.id: fields_of(job.damage) for job in page.entries} == {ids[0]: ["state"], ids[1]: ["state"], ids[2]: []}
    assert (await manager.get_task_status(ids[0])).status is State.BLOCKED
    await manager.cancel_task(ids[0])
    await manager.delete_task(ids[1])
    assert (await manager.get_task_status(ids[0])).status is State.CANCELLED
    assert [finding.check for finding in await manager.diagnose(deep=True)].count("damaged rows") == 1


async def test_a_cursor_made_by_hand_is_refused(manager):
    await manager.enqueue_many([manager.add.call(1) for _ in range(3)])
    page = await manager.list_tasks(per_page=1)
    assert page.next_cursor is not None
    after = b'{"value":"9999-12-30T00:00:00Z","id":"01900000-0000-7000-8000-000000000001","stored":"\'; drop"}'
    document = b'{"after":' + after + b',"sort_by":"inserted_at","is_descending":true}'
    for cursor in ("eyJ2YWx1ZSI6bnVsbH0=", "é", "x", base64.urlsafe_b64encode(document).decode()):
        with pytest.raises(InvalidOptionError, match="not a cursor"):
            await manager.list_tasks(cursor=cursor)
