"""Bad input: each is a clear error that names the value and the way out, and nothing is enqueued."""

import base64
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pydantic
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.state import State
from deeper_tasks.errors import (
    BackendUnavailableError,
    ConfigError,
    DuplicateJobError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobNotFoundError,
    ScheduleNotFoundError,
    SchemaError,
    TaskError,
    TaskNotFoundError,
)

_NAIVE_CURSOR = b'{"after":{"value":"2026-01-01T00:00:00","id":"x"},"sort_by":"inserted_at","is_descending":true}'


class Credentials(pydantic.BaseModel):
    password: pydantic.SecretStr


@pytest.fixture
async def manager(manager):
    """A manager that has nothing enqueued at the end."""
    yield manager
    assert (await manager.list_tasks()).total_entries == 0


@pytest.fixture
def send(manager):
    @manager.task(name="shop.send")
    async def send(user_id: int, text: str = ""): ...

    return send


async def refused(attempt, kind, *parts):
    """Check that a call is refused with an error of this kind, and that its message holds all parts."""
    with pytest.raises(kind) as raised:
        await attempt
    for part in parts:
        assert part in str(raised.value)


# arguments


@pytest.mark.parametrize("levels", [101, 900, 20_000])
async def test_an_argument_nested_too_deep_is_refused(manager, levels):
    @manager.task(name="shop.keep")
    async def keep(value, *, named=None): ...

    value = []
    for _ in range(levels - 1):
        value = [value]
    await refused(keep.enqueue(value), InvalidArgumentsError, "nested")
    await refused(keep.enqueue(1, named=value), InvalidArgumentsError, "nested")


@pytest.mark.parametrize("aware", [datetime.max.replace(tzinfo=UTC), datetime(9000, 1, 2, tzinfo=UTC)])
async def test_a_moment_near_the_end_of_the_calendar_is_refused(manager, send, aware):
    for options in ({}, {"expires_in_seconds": 3600}):
        attempt = manager.schedule_task(send, args=[1], scheduled_at=aware, **options)
        await refused(attempt, InvalidOptionError, "'scheduled_at'", "before the year 9000")


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, datetime(2026, 1, 1, tzinfo=UTC), b"bytes"])
async def test_an_argument_that_is_not_json_is_refused(manager, value):
    @manager.task(name="shop.keep")
    async def keep(value): ...

    kind = type(value).__name__
    await refused(keep.enqueue(value), InvalidArgumentsError, "'value'", "keep", kind, "not JSON", "annotate")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, {"deep": float("-inf")}]])
async def test_nan_and_infinities_are_refused(manager, value):
    @manager.task(name="shop.keep")
    async def keep(value): ...

    await refused(keep.enqueue(value), InvalidArgumentsError, "'value'", "NaN and infinities are not JSON")


async def test_a_key_that_is_no_string_is_refused(manager):
    @manager.task(name="shop.keep")
    async def keep(value): ...

    await refused(keep.enqueue({"a": {1: 2}}), InvalidArgumentsError, "['a']", "a key must be a string, not int")


async def test_half_a_character_is_refused(send):
    await refused(send.enqueue(1, "\ud800"), InvalidArgumentsError, "send", "lone surrogate")


async def test_a_value_inside_itself_is_refused(manager):
    @manager.task(name="shop.keep")
    async def keep(value): ...

    endless = []
    endless.append(endless)
    await refused(keep.enqueue(endless), InvalidArgumentsError, "nested too deeply, or contains itself")


@pytest.mark.parametrize("args", [None, 5, "7", b"7", {1}])
async def test_arguments_that_are_no_list_are_refused(manager, send, args):
    await refused(manager.enqueue_task(send, args=args), InvalidArgumentsError, "send", type(args).__name__, "list")


async def test_a_missing_argument_is_refused_with_the_signature(manager, send):
    call = manager.enqueue_task("shop", "send")
    await refused(call, InvalidArgumentsError, "send(user_id: int, text: str = '')", "missing", "'user_id'")


async def test_too_many_arguments_are_refused_with_the_signature(manager, send):
    call = manager.enqueue_task("shop", "send", [1, "a", "b"])
    await refused(call, InvalidArgumentsError, "send(user_id: int", "too many positional arguments")


async def test_an_unknown_named_argument_is_refused(manager, send):
    call = manager.enqueue_task("shop", "send", [1], kwargs={"txet": "x"})
    await refused(call, InvalidArgumentsError, "send(user_id: int", "unexpected keyword argument 'txet'")


async def test_an_argument_of_another_type_than_the_annotation_is_refused(manager, send):
    call = manager.enqueue_task("shop", "send", ["forty-two"])
    await refused(call, InvalidArgumentsError, "'user_id'", "expected `int`, got `str`")


async def test_an_argument_that_would_arrive_as_another_is_refused_without_its_value(manager):
    @manager.task(name="shop.login")
    async def login(credentials: Credentials): ...

    for call in (
        login.enqueue(Credentials(password="hunter2")),
        manager.enqueue_many([login.call(Credentials(password="hunter2"))]),
        manager.schedule_recurring_task(
            "daily", login, args=[Credentials(password="hunter2")], cron_expression="@daily"
        ),
    ):
        with pytest.raises(InvalidArgumentsError, match=r"'credentials'\.password of .*SecretStr") as raised:
            await call
        assert "hunter2" not in str(raised.value)
    assert await manager.list_recurring_tasks() == []


async def test_the_comparison_of_arguments_is_an_option_of_the_task_and_a_setting(url):
    credentials = Credentials(password="hunter2")
    async with BackgroundTaskManager(url, check_arguments="signature") as manager:

        @manager.task(name="shop.login")
        async def login(credentials: Credentials): ...

        @manager.task(name="shop.strict", check_arguments="values")
        async def strict(credentials: Credentials): ...

        await login.enqueue(credentials)
        await refused(strict.enqueue(credentials), InvalidArgumentsError, "SecretStr")
        await manager.delete_tasks()
    async with BackgroundTaskManager(url) as manager:

        @manager.task(name="shop.lax", check_arguments="signature")
        async def lax(credentials: Credentials): ...

        await lax.enqueue(credentials)
        await refused(lax.enqueue(1), InvalidArgumentsError, "'credentials'")


async def test_arguments_that_are_too_large_are_refused(url):
    async with BackgroundTaskManager(url, max_argument_bytes=100) as small:

        @small.task(name="shop.keep")
        async def keep(value): ...

        await refused(keep.enqueue("x" * 100), InvalidArgumentsError, "keep", "more than 100", "pass a reference")
        assert (await small.list_tasks()).total_entries == 0


# tasks


async def test_an_unknown_task_is_refused_with_the_nearest_name(manager, send):
    await refused(manager.enqueue_task("shop", "sent", [1]), TaskNotFoundError, "'shop.sent'", "'shop.send'")


async def test_a_task_of_an_unknown_module_is_refused(manager):
    call = manager.enqueue_task("no_such_package.tasks", "send")
    await refused(call, TaskNotFoundError, "no_such_package")


async def test_a_function_that_is_no_task_is_refused(manager):
    await refused(manager.enqueue_task("os", "getcwd"), TaskNotFoundError, "'os.getcwd'", "@manager.task")


async def test_a_module_without_a_function_is_refused(manager):
    await refused(manager.enqueue_task("shop"), TaskError, "'shop'", "name the function too")


async def test_a_task_with_a_function_is_refused(manager, send):
    await refused(manager.enqueue_task(send, "send", [1]), TaskError, "shop.send", "enqueue_task(task, args=[…])")


async def test_one_id_for_two_different_calls_is_refused(manager, send):
    task_id = await manager.enqueue_task("shop", "send", [1])
    call = manager.enqueue_task("shop", "send", [2], task_id=task_id)
    await refused(call, DuplicateJobError, repr(str(task_id)))
    calls = [send.call(1), send.with_options(task_id=task_id).call(2)]
    await refused(manager.enqueue_many(calls), DuplicateJobError, "calls[1]: ", repr(str(task_id)))
    many = manager.enqueue_many(calls, atomic=False)
    await refused(many, DuplicateJobError, "calls[1]: ", "; calls of other batches may be stored")
    await manager.delete_task(task_id)


async def test_one_id_for_two_different_calls_of_one_list_is_refused_with_the_place_of_both(manager, send):
    own = send.with_options(task_id=uuid4())
    calls = [send.call(1), own.call(2), own.call(2), own.call(3)]
    await refused(manager.enqueue_many(calls), DuplicateJobError, "calls[3]: ", "is that of calls[1] already")


# options


async def test_an_unknown_option_is_refused_with_the_nearest_one(manager, send):
    call = manager.enqueue_task("shop", "send", [1], max_attempt=3)
    await refused(call, InvalidOptionError, "'max_attempt'", "did you mean 'max_attempts'?")


async def test_an_option_like_no_other_is_refused_with_those_that_there_are(manager, send):
    call = manager.enqueue_task("shop", "send", [1], zzz=3)
    await refused(call, InvalidOptionError, "'zzz'", "there are ", "priority", "queue")


@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("queue", "", "1 to 128 printable characters, without spaces, commas, colons, '=' and '*'"),
        ("queue", "two words", "without spaces, commas, colons, '=' and '*'"),
        ("queue", "emails=5", "without spaces, commas, colons, '=' and '*'"),
        ("queue", "tenant-*", "without spaces, commas, colons, '=' and '*'"),
        ("priority", 101, "from -100 to 100"),
        ("priority", 0.5, "from -100 to 100"),
        ("priority", True, "from -100 to 100"),
        ("max_attempts", 0, "from 1 to"),
        ("retry_delay_seconds", -1, "cannot be negative"),
        ("delay_seconds", -0.001, "cannot be negative"),
        ("delay_seconds", float("nan"), "number of seconds"),
        ("delay_seconds", float("inf"), "number of seconds"),
        ("delay_seconds", "5", "seconds as a number, or a timedelta"),
        ("delay_seconds", timedelta(seconds=-1), "cannot be negative"),
        ("timeout_seconds", 0, "more than 0 seconds"),
        ("expires_in_seconds", 0, "more than 0 seconds"),
        ("unique_for_seconds", 0, "more than 0 seconds"),
        ("unique", "for_ever", "'until_done'"),
        ("unique_key", "k", "unique_for_seconds"),
        ("tags", "urgent", "list of strings"),
        ("tags", ["\n"], "printable"),
        ("meta", {"when": object()}, "not JSON"),
        ("meta", [1], "a dict with string keys"),
        ("task_id", "42", "a UUID"),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused(manager, send, option, value, way_out):
    call = manager.enqueue_task("shop", "send", [1], **{option: value})
    shown = repr(value) if not isinstance(value, list | dict) else ""
    await refused(call, InvalidOptionError, repr(option), shown, way_out)


async def test_two_kinds_of_uniqueness_at_once_are_refused(manager, send):
    call = manager.enqueue_task("shop", "send", [1], unique="until_done", unique_for_seconds=5)
    await refused(call, InvalidOptionError, "'unique'", "'unique_for_seconds'", "give one of them")


# times


async def test_a_naive_datetime_is_refused(manager, send):
    naive = datetime(2031, 1, 1)  # noqa: DTZ001 - what is tested
    call = manager.schedule_task("shop", "send", [1], naive)
    await refused(call, InvalidOptionError, "'scheduled_at'", repr(naive), "time zone", "tzinfo=UTC")


@pytest.mark.parametrize("delay", [-1, -0.5, timedelta(seconds=-1)])
async def test_a_negative_delay_is_refused(manager, send, delay):
    call = manager.schedule_task("shop", "send", [1], delay)
    await refused(call, InvalidOptionError, "'scheduled_at'", repr(delay), "cannot be negative")


@pytest.mark.parametrize("moment", ["tomorrow", True, float("nan")])
async def test_a_time_that_is_none_is_refused(manager, send, moment):
    call = manager.schedule_task("shop", "send", [1], moment)
    await refused(call, InvalidOptionError, "'scheduled_at'", repr(moment), "seconds")


async def test_a_schedule_without_a_time_is_refused(manager, send):
    await refused(manager.schedule_task("shop", "send", [1]), InvalidOptionError, "scheduled_at", "enqueue_task")


async def test_a_schedule_with_two_times_is_refused(manager, send):
    call = manager.schedule_task("shop", "send", [1], 5, delay_seconds=6)
    await refused(call, InvalidOptionError, "scheduled_at", "delay_seconds", "leave one out")


async def test_a_past_date_runs_now(manager, send):
    task_id = await manager.schedule_task("shop", "send", [1], datetime(2001, 1, 1, tzinfo=UTC))
    status = await manager.get_task_status(task_id)
    assert status.status is State.PENDING
    assert status.scheduled_at == status.inserted_at
    await manager.delete_task(task_id)


# recurring tasks


async def test_a_cron_minute_of_61_is_refused(manager, send):
    call = manager.schedule_recurring_task("nightly", "shop", "send", [1], "61 * * * *")
    await refused(call, InvalidOptionError, "'61 * * * *'", "minute", "'0 3 * * *'", "@daily")
    assert await manager.list_recurring_tasks() == []


@pytest.mark.parametrize("expression", ["", "* * * *", "0 0 30 2 *", "@sometimes", "@every 0s", "@every 1w", "x" * 300])
async def test_a_cron_expression_that_is_none_is_refused(manager, send, expression):
    call = manager.schedule_recurring_task("nightly", "shop", "send", [1], expression)
    await refused(call, InvalidOptionError, "cron expression")
    assert await manager.list_recurring_tasks() == []


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../../etc/passwd", "CEST+7"])
async def test_a_zone_that_does_not_exist_is_refused(manager, send, zone):
    call = manager.schedule_recurring_task("nightly", "shop", "send", [1], "0 3 * * *", timezone=zone)
    await refused(call, InvalidOptionError, repr(zone), "Europe/Berlin")
    assert await manager.list_recurring_tasks() == []


@pytest.mark.parametrize(("option", "value"), [("missed_runs", "never"), ("overlap", "maybe")])
async def test_a_policy_that_there_is_not_is_refused(manager, send, option, value):
    call = manager.schedule_recurring_task("nightly", "shop", "send", [1], "@daily", **{option: value})
    await refused(call, InvalidOptionError, repr(option), repr(value), "'skip'")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, None])
async def test_a_name_that_cannot_be_used_is_refused(manager, send, name):
    call = manager.schedule_recurring_task(name, "shop", "send", [1], "@daily")
    await refused(call, InvalidOptionError, repr(name), "printable")


@pytest.mark.parametrize("options", [{"task_id": str(uuid4())}, {"delay_seconds": 5}])
async def test_an_option_for_one_job_is_refused_for_a_recurring_task(manager, send, options):
    call = manager.schedule_recurring_task("nightly", "shop", "send", [1], "@daily", **options)
    await refused(call, InvalidOptionError, "a recurring task makes many", "leave it out")


async def test_arguments_of_a_recurring_task_are_checked_when_it_is_registered(manager, send):
    call = manager.schedule_recurring_task("nightly", "shop", "send", ["x"], "@daily")
    await refused(call, InvalidArgumentsError, "'user_id'")
    assert await manager.list_recurring_tasks() == []


@pytest.mark.parametrize(
    "method",
    [
        "cancel_recurring_task",
        "get_recurring_task",
        "run_recurring_task",
        "pause_recurring_task",
        "resume_recurring_task",
        "recurring_task_history",
    ],
)
async def test_an_unknown_recurring_task_is_named(manager, method):
    await refused(getattr(manager, method)("nightly"), ScheduleNotFoundError, "'nightly'")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10", None])
async def test_a_history_of_no_whole_number_of_runs_is_refused(manager, limit):
    call = manager.recurring_task_history("nightly", limit=limit)
    await refused(call, InvalidOptionError, "'limit'", repr(limit), "whole number")


# ids


@pytest.mark.parametrize("method", ["get_task_status", "cancel_task", "retry_task", "delete_task", "result"])
async def test_an_id_that_does_not_exist_is_named(manager, method):
    missing = str(uuid4())
    await refused(getattr(manager, method)(missing), JobNotFoundError, repr(missing), "may have been cleaned up")


@pytest.mark.parametrize("method", ["get_task_status", "expand_task_id", "result"])
@pytest.mark.parametrize("malformed", [None, 42, b"0" * 32, "\uff10" * 32, "\uff10" * 13, f"0x{30 * '1'}"])
async def test_an_id_of_the_wrong_kind_is_refused_by_every_function(manager, method, malformed):
    await refused(getattr(manager, method)(malformed), JobNotFoundError, repr(malformed), "UUID")
    with pytest.raises(JobNotFoundError):
        getattr(manager.sync, method)(malformed)


@pytest.mark.parametrize("method", ["get_task_status", "cancel_task", "retry_task", "delete_task", "result"])
@pytest.mark.parametrize("malformed", ["42", "", "no-such-id", "' OR 1=1 --", "\x00"])
async def test_a_malformed_id_is_named_and_says_what_ids_are(manager, method, malformed):
    await refused(getattr(manager, method)(malformed), JobNotFoundError, repr(malformed), "UUID")


# lists


@pytest.mark.parametrize(
    ("conditions", "parts"),
    [
        ({"page": 0}, ("page", "0", "from 1")),
        ({"per_page": 0}, ("per_page", "0", "1 to 1000")),
        ({"per_page": 1001}, ("per_page", "1001", "1 to 1000")),
        ({"sort_by": "name"}, ("sort_by", "'name'", "inserted_at")),
        ({"status": "done"}, ("status", "'done'", "completed")),
        ({"cursor": "nonsense"}, ("'nonsense'", "next_cursor")),
        ({"cursor": "é"}, ("'é'", "next_cursor")),
        ({"colour": "red"}, ("'colour'", "worker_module")),
    ],
)
async def test_a_list_that_cannot_be_had_is_refused(manager, conditions, parts):
    await refused(manager.list_tasks(**conditions), InvalidOptionError, *parts)


@pytest.mark.parametrize("method", ["cancel_tasks", "retry_tasks", "delete_tasks"])
async def test_an_unknown_condition_of_a_bulk_change_is_refused(manager, method):
    await refused(getattr(manager, method)(colour="red"), InvalidOptionError, "'colour'", "worker_module")


@pytest.mark.parametrize("option", ["completed_days", "failed_days"])
@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), 10**30, "7", True])
async def test_a_number_of_days_that_cannot_be_used_is_refused(manager, option, days):
    await refused(manager.cleanup_old_tasks(**{option: days}), InvalidOptionError, option, repr(days), "0 or more")


@pytest.mark.parametrize("method", ["pause", "resume"])
@pytest.mark.parametrize("name", ["a,b", "half \ud800"[5:], "\x9b2J", "\u202egnitset"])
async def test_a_queue_that_cannot_be_is_not_paused(manager, method, name):
    await refused(getattr(manager.queues, method)(name), InvalidOptionError, "'queue'", repr(name), "commas")


@pytest.mark.parametrize("reason", [5, ["gone"], "half \ud800"])
async def test_a_reason_that_is_no_text_is_refused(manager, reason):
    await refused(manager.cancel_tasks(reason=reason), InvalidOptionError, "'reason'", "text")
    await refused(manager.cancel_task(str(uuid4()), reason=reason), InvalidOptionError, "'reason'", "text")


async def tell(_: int) -> None: ...


@pytest.mark.parametrize("method", ["cancel_tasks", "retry_tasks", "delete_tasks", "cleanup_old_tasks"])
@pytest.mark.parametrize("on_progress", ["print", 5, tell])
async def test_what_cannot_be_told_of_progress_is_refused_before_anything_is_changed(manager, method, on_progress):
    await refused(
        getattr(manager, method)(on_progress=on_progress), InvalidOptionError, "on_progress", "plain function"
    )


@pytest.mark.parametrize("next_runs", [0, -1, 1.5, float("inf"), True, 1_001, 10**30])
async def test_a_number_of_runs_that_cannot_be_looked_ahead_is_refused(manager, send, next_runs):
    await manager.schedule_recurring_task("nightly", send, args=[1], cron_expression="@daily")
    await refused(manager.get_recurring_task("nightly", next_runs=next_runs), InvalidOptionError, "next_runs", "1000")
    await refused(manager.list_recurring_tasks(next_runs=next_runs), InvalidOptionError, "next_runs", "1000")


@pytest.mark.parametrize("name", [5, ["nightly"], "half \ud800"])
@pytest.mark.parametrize(
    "method", ["cancel_recurring_task", "pause_recurring_task", "resume_recurring_task", "run_recurring_task"]
)
async def test_a_name_that_no_recurring_task_can_have_is_not_found(manager, method, name):
    await refused(getattr(manager, method)(name), ScheduleNotFoundError, repr(name))


@pytest.mark.parametrize("calls", [5, None, ["shop.send"], [None]])
async def test_what_is_no_list_of_calls_is_refused(manager, calls):
    await refused(manager.enqueue_many(calls), InvalidOptionError, "task.call")


@pytest.mark.parametrize("queues", [5, "default"])
async def test_what_is_no_list_of_queues_is_refused(manager, queues):
    await refused(manager.declare_recurring_tasks(queues=queues), InvalidOptionError, "queues", "list of names")


# stores


async def test_a_file_that_is_no_database_is_named(tmp_path):
    file = tmp_path / "notes.db"
    file.write_text("these are notes, " * 100)
    await refused(
        BackgroundTaskManager(f"sqlite:///{file}").open(), SchemaError, repr(str(file)), "not an SQLite", "another file"
    )
    assert file.read_text() == "these are notes, " * 100


async def test_a_newer_schema_than_the_code_is_refused_with_the_way_out(tmp_path):
    file = tmp_path / "tasks.db"
    async with BackgroundTaskManager(f"sqlite:///{file}"):
        pass
    connection = sqlite3.connect(file)
    connection.execute("INSERT INTO deeper_migration (name) VALUES ('9999_from_the_future')")
    connection.commit()
    connection.close()
    newer = BackgroundTaskManager(f"sqlite:///{file}")
    await refused(newer.open(), SchemaError, "9999_from_the_future", "does not know", "upgrade")
    await refused(newer.migrate(), SchemaError, "9999_from_the_future")
    await refused(newer.get_statistics(), SchemaError, "9999_from_the_future")


async def test_a_missing_folder_is_named(tmp_path):
    file = tmp_path / "missing" / "tasks.db"
    manager = BackgroundTaskManager(f"sqlite:///{file}")
    await refused(manager.open(), BackendUnavailableError, repr(str(file.parent)), "does not exist")
    assert not file.parent.exists()


async def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    await refused(BackgroundTaskManager(f"sqlite:///{tmp_path}").open(), BackendUnavailableError, repr(str(tmp_path)))


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("oracle://host/db", ("'oracle://host/db'", "unknown scheme", "sqlite://")),
        ("sqlite://tasks.db", ("'sqlite://tasks.db'", "names no file", "sqlite:///tasks.db")),
        (
            "sqlite:/tasks.db",
            ("'sqlite:/tasks.db'", "sqlite:///tasks.db", "sqlite:////tasks.db", f"{Path.cwd()}/tasks"),
        ),
        ("sqlite:tasks.db", ("'sqlite:tasks.db'", "sqlite:///tasks.db", "sqlite:////tasks.db")),
        ("sqlite://var/tasks.db", ("'sqlite://var/tasks.db'", "sqlite:///var/tasks.db", "sqlite:////var/tasks.db")),
        ("SQLite:/a.db?timeout=5", ("'SQLite:/a.db?timeout=5'", "sqlite:///a.db?timeout=5")),
        ("sqlite:///c#/tasks.db", ("'sqlite:///c#/tasks.db'", "sqlite:///c%23/tasks.db")),
        ("postgresql:/host/db", ("'postgresql:/host/db'", "write postgresql://host/db")),
        ("sqlite:///", ("names no file", "memory://")),
        ("sqlite:///:memory:", ("names no file", "memory://")),
        ("sqlite:////", ("'sqlite:////' names no file", "sqlite:///tasks.db")),
        ("sqlite:////.", ("'sqlite:////.' names no file", "sqlite:///tasks.db")),
        ("sqlite:///.", ("'sqlite:///.' names no file", "sqlite:///tasks.db")),
        ("sqlite:///a/", ("'sqlite:///a/' names no file", "sqlite:///a for the file")),
        ("sqlite:///a/..?timeout=5", ("names no file", "sqlite:///tasks.db?timeout=5")),
        ("sqlite:///a.db ", ("blank at its beginning or end: remove it",)),
        (" sqlite:///a.db", ("blank at its beginning or end: remove it",)),
        ("sqlite:///a\n.db", ("control character '\\n': remove it, or percent-encode it as %0A",)),
        ("sqlite:///a\0.db", ("control character '\\x00': remove it;",)),
        ("sqlite:///a%00.db", ("NUL (%00), which no file's name can have: remove it",)),
        ("postgresql://h/d\n", ("control character",)),
        ("file:x.db", ("write sqlite:///x.db for the file",)),
        ("jdbc:postgresql://h/d", ("write postgresql://h/d;",)),
        ("sqlite:///a.db?timeout=5&timeout=6", ("the option 'timeout' twice: keep one",)),
        ("sqlite:///a.db?timeout=5&nope=1&foreign_keys=on", ("foreign_keys=on", "'nope'")),
        ("sqlite:///a.db?synchronous=off", ("'off'", "full or normal")),
        ("sqlite:///a.db?timeout=soon", ("'soon'", "seconds")),
        ("sqlite:///a.db?foreign_keys=odd", ("foreign_keys='odd'", "?foreign_keys=odd'")),
        ("sqlite:///a.db?timeout=nan", ("'nan'", "seconds")),
        ("sqlite:///a.db?sync=full", ("'sync'", "synchronous")),
        ("memory://?size=3", ("'size'", "none")),
        ("noop://?x=1", ("'x'", "none")),
        ("tasks.db", ("'tasks.db'", "scheme", "sqlite:///")),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url, parts):
    with pytest.raises(ConfigError) as raised:
        BackgroundTaskManager(url)
    for part in parts:
        assert part in str(raised.value)


async def test_a_long_id_is_quoted_shortened():
    async with BackgroundTaskManager("memory://") as manager:
        for ask in (manager.get_task_status, manager.cancel_task, manager.expand_task_id):
            with pytest.raises(LookupError, match="no job has the id 'xxx") as raised:
                await ask("x" * 100_000)
            assert len(str(raised.value)) < 300


def test_the_password_of_a_refused_url_is_not_shown():
    with pytest.raises(ConfigError) as raised:
        BackgroundTaskManager("oracle://scott:tiger@host/db?token=secret")
    assert "tiger" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_several_wrong_settings_are_told_together():
    with pytest.raises(ExceptionGroup) as raised:
        BackgroundTaskManager("memory://", default_max_attempts=0, qeues={"a": 1})
    assert [type(fault) for fault in raised.value.exceptions] == [ConfigError, ConfigError]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"page": "1"}, "'1'"),
        ({"page": 10**30}, "cursor"),
        ({"per_page": 2.5}, "2.5"),
        ({"status": 5}, "5"),
        ({"queue": 5}, "'queue'"),
        ({"tag": ["a"]}, "'tag'"),
        ({"tag": "half \ud800"}, "'tag'"),
        ({"task": 5}, "'task'"),
        ({"worker_module": ["shop"]}, "'worker_module'"),
        ({"cursor": "bnVsbA=="}, "next_cursor"),
        ({"cursor": base64.urlsafe_b64encode(_NAIVE_CURSOR).decode()}, "next_cursor"),
    ],
)
async def test_a_list_of_the_wrong_kind_of_thing_is_refused(manager, asked, part):
    with pytest.raises(InvalidOptionError) as raised:
        await manager.list_tasks(**asked)
    assert part in str(raised.value)


@pytest.mark.parametrize(("expression", "timezone"), [(5, "UTC"), ("@daily", 5), (None, "UTC")])
async def test_a_recurrence_that_is_no_text_is_refused(manager, send, expression, timezone):
    with pytest.raises(InvalidOptionError, match="texts"):
        await manager.schedule_recurring_task("nightly", send, args=[1], cron_expression=expression, timezone=timezone)
