"""`deeper enqueue --from`: a job for each line of a file."""

from __future__ import annotations

import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks import BackgroundTaskManager, task
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.cli.commands import enqueue_lines
from deeper_tasks.cli.commands.enqueue_lines import Defaults, LineEnqueuer, LineReader, opened_lines
from deeper_tasks.cli.target import Target
from deeper_tasks.errors import BackendUnavailableError, DuplicateJobError
from deeper_tasks.testing import FaultyBackend

APP = ("--app", "shop:manager")
ID = "01900000-0000-7000-8000-000000000001"


@pytest.fixture
def lines(folder):
    """Write a file of lines; a line that is no text becomes JSON."""

    def lines(*given):
        written = [each if isinstance(each, str) else json.dumps(each) for each in given]
        (folder / "jobs.jsonl").write_text("".join(f"{each}\n" for each in written))
        return "jobs.jsonl"

    return lines


def listed(ask):
    return sorted(ask("list")["entries"], key=lambda job: job["id"])


def test_each_line_is_a_job_with_the_arguments_and_options_it_says(deeper, ask, lines):
    path = lines(
        {"args": [1, 2]},
        "",
        {"task": "post.welcome", "kwargs": {"name": "Ada"}, "priority": -5, "tags": ["a"]},
        {"args": [3], "queue": "late", "delay_seconds": 60},
        {"args": [4], "scheduled_at": "2099-01-31T09:00:00+01:00", "task_id": ID},
    )
    result = deeper("enqueue", "shop.add", "--from", path, *APP)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "4 jobs enqueued\n", "")
    by_call = {(job["task"], *job["args"]): job for job in listed(ask)}
    assert set(by_call) == {("shop.add", 1, 2), ("post.welcome", "Ada"), ("shop.add", 3), ("shop.add", 4)}
    welcome = by_call["post.welcome", "Ada"]
    assert (welcome["tags"], welcome["priority"], welcome["queue"]) == (["a"], -5, "emails")
    late = by_call["shop.add", 3]
    assert (late["queue"], late["status"]) == ("late", "scheduled")
    assert by_call["shop.add", 4]["id"] == ID
    assert datetime.fromisoformat(by_call["shop.add", 4]["scheduled_at"]) == datetime(2099, 1, 31, 8, tzinfo=UTC)


def test_the_command_line_gives_the_defaults_of_all_lines(deeper, ask, lines):
    path = lines({"args": [1]}, {"args": [2], "queue": "own"}, {"args": [3], "delay_seconds": 60})
    words = ("--queue", "bulk", "--tag", "import", "--at", "2099-01-01T00:00+00:00")
    assert deeper("enqueue", "shop.add", "--from", path, *words, *APP).exit_code == 0
    jobs = listed(ask)
    assert [job["queue"] for job in jobs] == ["bulk", "own", "bulk"]
    assert all(job["tags"] == ["import"] for job in jobs)
    due = [datetime.fromisoformat(job["scheduled_at"]) for job in jobs]
    assert due[:2] == [datetime(2099, 1, 1, tzinfo=UTC)] * 2
    assert due[2] - datetime.fromisoformat(jobs[2]["inserted_at"]) == timedelta(seconds=60)


def test_the_standard_input_is_read_and_the_answer_is_json_if_asked_for(deeper, ask):
    given = [{"task": "shop.add", "args": [1], "task_id": ID}, {"task": "shop.add", "args": [2]}]
    typed = "\ufeff" + "\n".join(map(json.dumps, given))
    first = deeper("enqueue", "--from", "-", *APP, "--json", typed=typed)
    assert json.loads(first.stdout) == {"enqueued": 2, "existing": 0}
    again = deeper("enqueue", "--from", "-", *APP, typed=typed)
    assert again.stdout == "1 job enqueued; 1 job existed already\n"
    assert ask("list")["total_entries"] == 3


def test_no_lines_are_no_jobs(deeper, lines):
    assert deeper("enqueue", "shop.add", "--from", lines(), *APP).stdout == "0 jobs enqueued\n"


@pytest.mark.parametrize(
    "case",
    [
        ('{"args": [1]', 2, "the line cannot be read: it ends too early (column 13); write"),
        ("[1]", 2, "Expected `object`, got `array`"),
        ({"args": 5}, 2, "Expected `array`, got `int` - at `$.args`"),
        ({"args": [1], "priorty": 1}, 2, "unknown option 'priorty'; did you mean 'priority'?"),
        ({"args": [1], "connection": "x"}, 2, "unknown option 'connection'"),
        ({"args": [1], "priority": 500}, 2, "option 'priority' cannot be 500"),
        (
            {"args": [1], "scheduled_at": "soon"},
            2,
            "option 'scheduled_at': 'soon' is not a time; write 2026-01-31T09:00",
        ),
        ({"args": [1], "priority": True}, 2, "option 'priority' cannot be true: give a whole number"),
        ({"args": [1], "queue": {"a": None}}, 2, """option 'queue' cannot be {"a":null}: a queue's name"""),
        ('{"args": ["ab', 2, "it ends too early (column 14)"),
        ('{"args": ["é", 01]}', 2, "invalid number (column 17)"),
        (
            r'{"args": ["\ud83d\ude00\\ud800", "\ud800"]}',
            2,
            r"\ud800 is half a character; write both halves (column 35)",
        ),
        ({"args": [1], "scheduled_at": "2099-01-01T00:00:00Z", "delay_seconds": 5}, 2, "exclude each other"),
        ({"args": ["one"]}, 1, "argument 'a' of add: expected `int`, got `str`"),
        ({"args": [1], "task": "shop.ad"}, 3, "did you mean 'shop.add'?"),
        ("\udce9".encode("utf-8", "surrogateescape").decode("latin-1"), 2, "the line cannot be read"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_nothing_is_enqueued(deeper, ask, lines, case):
    line, code, message = case
    result = deeper("enqueue", "shop.add", "--from", lines({"args": [1]}, "", line, {"args": [1]}), *APP)
    assert result.exit_code == code
    assert result.stderr.startswith("deeper: jobs.jsonl:3: ")
    assert result.stderr.endswith("; no job was enqueued\n")
    assert message in result.stderr
    assert ask("list")["total_entries"] == 0


def test_a_line_that_names_no_task_needs_one_on_the_command_line(deeper, lines):
    result = deeper("enqueue", "--from", lines({"args": [1]}), *APP)
    assert result.exit_code == 2
    assert 'jobs.jsonl:1: the line names no task; add "task"' in result.stderr


def test_an_argument_that_is_refused_is_not_quoted(deeper, lines):
    result = deeper("enqueue", "shop.add", "--from", lines({"args": ["s3cret"]}), *APP, "--json")
    assert "s3cret" not in result.stdout + result.stderr
    assert json.loads(result.stderr)["exit_code"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shop.add", "1", "--from", "jobs.jsonl"], "with --from each line has its own arguments and id"),
        (["shop.add", "--kwargs", "{}", "--from", "jobs.jsonl"], "with --from each line has its own arguments and id"),
        (["shop.add", "--task-id", ID, "--from", "jobs.jsonl"], "with --from each line has its own arguments and id"),
        (["shop.add", "--from", "none.jsonl"], "none.jsonl cannot be read: No such file or directory"),
        (["shop.add", "--from", "."], ". cannot be read: Is a directory"),
        ([], "name the TASK, or give --from FILE"),
        (["shop.add", "1", "--start-line", "2"], "--start-line has no effect without --from"),
    ],
)
def test_words_that_do_not_go_together_are_exit_code_2(deeper, lines, words, message):
    lines({"args": [1]})
    result = deeper("enqueue", *words, *APP)
    assert result.exit_code == 2
    assert message in result.stderr


def test_unchecked_lines_may_be_of_any_task(deeper, ask, lines):
    path = lines({"task": "elsewhere.sync", "args": [7]}, {"task": "elsewhere.mail", "kwargs": {"to": "Ada"}})
    result = deeper("enqueue", "--from", path, "--unchecked", "--url", "sqlite:///tasks.db")
    assert result.stdout == "2 jobs enqueued\n"
    assert [job["task"] for job in listed(ask)] == ["elsewhere.sync", "elsewhere.mail"]


def test_a_run_goes_on_at_the_line_that_is_named(deeper, ask, lines):
    path = lines({"args": ["one"]}, {"args": [2]}, {"args": [3]})
    assert deeper("enqueue", "shop.add", "--from", path, "--start-line", "2", *APP).stdout == "2 jobs enqueued\n"
    assert [job["args"] for job in listed(ask)] == [[2], [3]]


@pytest.fixture
def shop():
    """A manager on a store that can fail, the reader of seven lines, and the target of a command without a terminal."""
    store = FaultyBackend(MemoryBackend())
    manager = BackgroundTaskManager("memory://", backend=store)

    @manager.task(name="shop.add")
    async def add(a: int) -> None: ...

    content = "".join(json.dumps({"args": [number]}) + "\n" for number in range(7)).encode()
    defaults = Defaults(task="shop.add", options={}, scheduled_at=None)
    reader = LineReader(io.BytesIO(content), "jobs.jsonl", defaults=defaults, find=lambda _: add)
    with manager.sync:
        yield store, manager, reader, Target(url=None, app=None, as_json=False)


@pytest.mark.parametrize(
    ("at", "told"),
    [(0, "it is unknown whether lines 1 to 2 are"), (2, "lines 1 to 4 are enqueued, and lines 5 to 6 may be;")],
)
def test_a_store_that_stops_answering_leaves_a_statement_of_what_is_in_it(shop, monkeypatch, at, told):
    store, manager, reader, target = shop
    monkeypatch.setattr(enqueue_lines, "_AT_ONCE", 2)
    store.fail("insert", times=1, on_call=at + 1)
    with pytest.raises(BackendUnavailableError, match=told) as raised:
        LineEnqueuer(target, manager, reader, first=1).run()
    first = 2 * at + 1
    assert f"check that before you continue with --start-line {first}" in str(raised.value)
    assert manager.sync.list_tasks().total_entries == 2 * at
    LineEnqueuer(target, manager, reader, first=first).run()
    assert sorted(job.args[0] for job in manager.sync.list_tasks().entries) == list(range(7))


def test_ctrl_c_leaves_a_statement_of_what_is_in_the_store(shop, monkeypatch):
    _, manager, reader, target = shop
    monkeypatch.setattr(enqueue_lines, "_AT_ONCE", 5)
    real, calls = manager.sync.enqueue_many, []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(batch)

    monkeypatch.setattr(manager.sync, "enqueue_many", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt, match="lines 1 to 5 are enqueued, and lines 6 to 7 may be"):
        LineEnqueuer(target, manager, reader, first=1).run()


@pytest.mark.parametrize(
    ("at", "told"), [(3, "no job was enqueued"), (10, "lines 1 to 2 are enqueued; continue with --start-line 3")]
)
def test_ctrl_c_between_two_batches_leaves_one_too(shop, monkeypatch, at, told):
    _, manager, reader, target = shop
    monkeypatch.setattr(enqueue_lines, "_AT_ONCE", 2)
    read, real = [], reader.call

    def interrupted(number, text):
        read.append(number)
        if len(read) == at:
            raise KeyboardInterrupt
        return real(number, text)

    monkeypatch.setattr(reader, "call", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        LineEnqueuer(target, manager, reader, first=1).run()
    assert str(raised.value) == told


def test_a_start_beyond_the_end_is_refused(deeper, lines):
    result = deeper("enqueue", "shop.add", "--from", lines({"args": [1]}, ""), "--start-line", "3", *APP)
    assert (result.exit_code, result.stderr) == (
        2,
        "deeper: --start-line 3 is beyond the end of jobs.jsonl; its last line is 2\n",
    )


def test_the_first_twenty_wrong_lines_are_told_and_the_others_counted(deeper, ask, lines):
    result = deeper("enqueue", "shop.add", "--from", lines({"args": [1]}, *[{"args": ["x"]}] * 23), *APP)
    told = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in told[:-1]] == [f"jobs.jsonl:{number}" for number in range(2, 22)]
    assert told[-1] == "deeper: 3 more, 23 lines of jobs.jsonl are wrong; no job was enqueued"
    assert result.exit_code == 2
    assert ask("list")["total_entries"] == 0


def test_an_id_that_stands_for_two_lines_is_found_before_the_first_is_enqueued(deeper, ask, lines):
    path = lines({"args": [1], "task_id": ID}, {"args": [1, 0]}, {"args": [2], "task_id": ID.upper()})
    result = deeper("enqueue", "shop.add", "--from", path, *APP)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"deeper: jobs.jsonl:3: the id {ID!r} is that of line 1 already, which has another")
    assert ask("list")["total_entries"] == 0


def test_an_id_that_is_another_job_s_names_its_line(shop, monkeypatch):
    _, manager, _, target = shop
    add = manager.registry.get("shop.add")
    manager.sync.enqueue_task(add, args=[1], task_id=ID)
    monkeypatch.setattr(enqueue_lines, "_AT_ONCE", 2)
    content = '{"args": [1]}\n' * 3 + json.dumps({"args": [2], "task_id": ID})
    defaults = Defaults(task="shop.add", options={}, scheduled_at=None)
    reader = LineReader(io.BytesIO(content.encode()), "jobs.jsonl", defaults=defaults, find=lambda _: add)
    with pytest.raises(
        DuplicateJobError, match=r"^jobs\.jsonl:4: the id .*; correct that line first; lines 1 to 2 are enq"
    ):
        LineEnqueuer(target, manager, reader, first=1).run()


def test_a_time_is_read_as_that_of_the_command_line_is(deeper, ask, lines):
    times = ["2099-01-01T00:00Z", "2099-01-01T00:00"]
    path = lines(*({"args": [1], "scheduled_at": time} for time in times))
    assert deeper("enqueue", "shop.add", "--from", path, *APP).stdout == "2 jobs enqueued\n"
    due = [datetime.fromisoformat(job["scheduled_at"]) for job in listed(ask)]
    assert due == [datetime(2099, 1, 1, tzinfo=UTC), datetime(2099, 1, 1).astimezone()]


def test_a_large_file_is_read_line_by_line(folder):
    line = json.dumps({"args": ["x" * 10_000]}) + "\n"
    (folder / "large.jsonl").write_text(line * 1_000)
    add = task(name="shop.add")(lambda a: a)
    defaults = Defaults(task="shop.add", options={}, scheduled_at=None)
    with opened_lines("large.jsonl") as (file, name):
        reader = LineReader(file, name, defaults=defaults, find=lambda _: add)
        tracemalloc.start()
        count = sum(1 for line in reader.lines(first=1) if reader.call(*line))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 1_000
    assert peak < 1_000_000, "bytes; the file has ten million"
