"""`deeper cancel`, `deeper retry`, `deeper delete` and `deeper migrate`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime

import click
import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.ids import ClaimToken
from deeper_tasks.worker.liveness.host import describe_node

STORE = ("--url", "sqlite:///tasks.db")
UNKNOWN = "01900000-0000-7000-8000-000000000001"


@pytest.fixture
def at_a_terminal(deeper, monkeypatch):
    """Run the command with somebody there who answers."""
    monkeypatch.setattr("deeper_tasks.cli.confirm._is_terminal", lambda: True)
    return deeper


def claim(path, job):
    """Have a worker that is gone hold a job."""
    backend = SQLiteBackend(path)

    async def claim():
        await backend.open()
        node = describe_node("gone", {"default": 1})
        await backend.register(node)
        claimed = await backend.claim("default", limit=1, slots=1, node=node.id, token=ClaimToken("token"))
        await backend.close()
        return [each.id for each in claimed.jobs]

    assert asyncio.run(claim()) == [job]


def states(ask):
    return sorted(job["status"] for job in ask("list")["entries"])


def test_cancel_ends_the_jobs_named_and_tells_each(deeper, ask, enqueue):
    first, second = enqueue("shop.add", 1), enqueue("shop.add", 2)
    result = deeper("cancel", first, second, *STORE)
    assert (result.exit_code, result.stdout) == (0, f"{first} cancelled\n{second} cancelled\n")
    assert states(ask) == ["cancelled", "cancelled"]


def test_cancel_goes_on_after_a_job_that_cannot_be_cancelled(deeper, ask, enqueue):
    job = enqueue("shop.add", 1)
    result = deeper("cancel", UNKNOWN, job, "--json", *STORE)
    assert result.exit_code == 3
    assert json.loads(result.stdout) == [{"id": job, "outcome": "cancelled"}]
    assert json.loads(result.stderr)["error"] == "JobNotFoundError"


def test_cancel_of_an_ended_job_is_refused(deeper, dead):
    result = deeper("cancel", dead, *STORE)
    assert result.exit_code == 1
    assert result.stderr == f"deeper: the job {dead} is discarded and cannot be cancelled\n"


def test_cancel_by_conditions_takes_all_that_meet_them(deeper, ask, enqueue):
    enqueue("shop.add", 1)
    enqueue("shop.add", 2, "--delay", 60)
    enqueue("post.welcome", "Ada")
    assert deeper("cancel", "--queue", "default", "--yes", *STORE).stdout == "2 jobs cancelled, or asked to stop\n"
    assert states(ask) == ["cancelled", "cancelled", "pending"]
    assert ask("cancel", "--status", "pending", "--yes") == {"count": 1}


def test_cancel_by_conditions_needs_a_yes_where_nobody_can_be_asked(deeper, ask, enqueue):
    enqueue("shop.add", 1)
    result = deeper("cancel", "--queue", "default", *STORE)
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert states(ask) == ["pending"]


@pytest.mark.parametrize(("typed", "code", "state"), [("y\n", 0, "cancelled"), ("n\n", 1, "pending")])
def test_cancel_by_conditions_asks_at_a_terminal(at_a_terminal, ask, enqueue, *, typed, code, state):
    enqueue("shop.add", 1)
    result = at_a_terminal("cancel", "--queue", "default", *STORE, typed=typed)
    assert result.exit_code == code
    assert "Cancel 1 job?" in click.unstyle(result.output)
    assert states(ask) == [state]


def test_retry_runs_a_dead_job_again(deeper, ask, dead):
    assert deeper("retry", dead, *STORE).stdout == f"{dead} pending\n"
    job = ask("status", dead)
    assert (job["status"], job["attempts"], job["max_attempts"]) == ("pending", 1, 2)


def test_retry_of_all_dead_letters_leaves_cancelled_jobs_alone(deeper, ask, dead, enqueue):
    deeper("cancel", enqueue("shop.add", 1), *STORE)
    assert deeper("retry", "--all-dead", *STORE).stdout == "1 job made pending again\n"
    assert states(ask) == ["cancelled", "pending"]
    assert ask("retry", "--status", "cancelled") == {"count": 1}
    assert states(ask) == ["pending", "pending"]


def test_retry_of_a_waiting_job_is_refused(deeper, enqueue):
    assert deeper("retry", enqueue("shop.add", 1), *STORE).exit_code == 1


@pytest.mark.parametrize("command", ["cancel", "retry", "delete"])
def test_nothing_is_changed_without_ids_or_conditions_or_with_both(deeper, command):
    assert deeper(command, *STORE).exit_code == 2
    assert deeper(command, UNKNOWN, "--queue", "default", *STORE).exit_code == 2


def test_all_dead_means_all(deeper):
    assert deeper("retry", "--all-dead", "--queue", "default", *STORE).exit_code == 2


def test_reschedule_puts_the_jobs_named_to_another_time_and_tells_each(deeper, ask, enqueue):
    first, second = enqueue("shop.add", 1), enqueue("shop.add", 2, "--delay", 60)
    result = deeper("reschedule", first, second, "--at", "2031-05-14T12:00+00:00", *STORE)
    assert result.exit_code == 0
    assert [line.split(" (")[0].partition(" ")[2] for line in result.stdout.splitlines()] == [
        f"rescheduled, due {datetime(2031, 5, 14, 12, tzinfo=UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    ] * 2
    assert [ask("status", job)["scheduled_at"] for job in (first, second)] == ["2031-05-14T12:00:00Z"] * 2
    [answer] = ask("reschedule", first, "--at", "2032-05-14T12:00+00:00")
    assert answer == {"id": first, "outcome": "rescheduled", "scheduled_at": "2032-05-14T12:00:00Z"}


def test_reschedule_takes_a_delay_from_now(deeper, ask, enqueue):
    job = enqueue("shop.add", 1)
    assert "(in 2 h)" in deeper("reschedule", job, "--delay", "2h", *STORE).stdout
    assert ask("status", job)["status"] == "scheduled"


@pytest.mark.parametrize("when", [(), ("--at", "2031-05-14T12:00", "--delay", "1h")])
def test_reschedule_needs_one_time(deeper, enqueue, when):
    result = deeper("reschedule", enqueue("shop.add", 1), *when, *STORE)
    assert result.exit_code == 2
    assert "the new due time is missing or given twice; give --at TIME or --delay TIME" in click.unstyle(result.stderr)


@pytest.mark.parametrize("when", [("--at", "tomorrow"), ("--delay", "soon")])
def test_reschedule_refuses_what_is_no_time(deeper, enqueue, when):
    assert deeper("reschedule", enqueue("shop.add", 1), *when, *STORE).exit_code == 2


def test_run_now_ends_the_delay_of_the_jobs_named(deeper, ask, enqueue):
    job = enqueue("shop.add", 1, "--delay", 60)
    result = deeper("run-now", job, UNKNOWN, *STORE)
    assert (result.exit_code, result.stdout) == (3, f"{job} pending\n")
    assert states(ask) == ["pending"]
    assert ask("run-now", job) == [{"id": job, "outcome": "pending"}]


@pytest.mark.parametrize("command", [("reschedule", "--delay", "1h"), ("run-now",)])
def test_a_job_that_has_ended_is_neither_rescheduled_nor_run_now(deeper, dead, command):
    result = deeper(*command, dead, *STORE)
    assert result.exit_code == 1
    assert f"deeper: the job {dead} is discarded and cannot be" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("retry", "--task", "welcome"),
            (
                "no job has the task 'welcome'; there are: post.welcome, shop.add; "
                "write the full name of a task: post.welcome"
            ),
        ),
        (("list", "--task", "shop.ad"), "there are: post.welcome, shop.add; did you mean 'shop.add'?"),
        (("list", "--dead", "--queue", "emials"), "there are: default, emails; did you mean 'emails'?"),
        (("cancel", "--queue", "e*", "--yes"), "; write the full name of a queue, patterns are not supported here"),
        (("delete", "--tag", "mail", "--yes"), "no job has the tag 'mail'; there are: post"),
        (("list", "--worker-module", "shp", "--json"), "no job has a task of the module 'shp'; there are: post, shop"),
    ],
)
def test_a_name_that_no_job_has_is_reported_with_those_that_there_are(deeper, enqueue, words, said):
    enqueue("shop.add", 1)
    enqueue("post.welcome", "Ada")
    result = deeper(*words, *STORE)
    assert result.exit_code == 0
    assert said in result.stderr


def test_a_name_that_some_job_has_is_no_mistake_though_none_meets_all_conditions(deeper, enqueue):
    enqueue("post.welcome", "Ada")
    for words in (
        ("retry", "--task", "post.welcome", "--queue", "emails"),
        ("list", "--dead", "--tag", "post", "--worker-module", "post"),
    ):
        assert deeper(*words, *STORE).stderr == ""


def test_of_many_names_the_likeliest_are_shown(deeper, enqueue):
    for number in range(12):
        enqueue("shop.add", 1, "--queue", f"tenant-{number:02}")
    said = deeper("list", "--queue", "tenant-99", *STORE).stderr
    assert said.count("tenant-") == 8 + 2
    assert " and 4 more; did you mean" in said


def test_a_mistyped_name_is_reported_before_the_question(at_a_terminal, enqueue):
    enqueue("shop.add", 1)
    result = at_a_terminal("cancel", "--task", "add", *STORE, typed="y\n")
    assert result.stderr.count("write the full name of a task: shop.add") == 1
    assert result.stderr.index("full name") < result.stderr.index("Cancel 0 jobs?")


def test_delete_removes_the_jobs_named_and_tells_each(deeper, ask, enqueue):
    first, second = enqueue("shop.add", 1), enqueue("shop.add", 2)
    result = deeper("delete", first, UNKNOWN, *STORE)
    assert (result.exit_code, result.stdout) == (3, f"{first} deleted\n")
    assert [job["id"] for job in ask("list")["entries"]] == [second]


def test_delete_of_a_running_job_is_refused_and_by_conditions_it_is_left_alone(deeper, ask, enqueue, folder):
    running, waiting = enqueue("shop.add", 1), enqueue("shop.add", 2)
    claim(folder / "tasks.db", running)
    refused = deeper("delete", running, *STORE)
    assert refused.exit_code == 1
    assert refused.stderr == f"deeper: the job {running} is running and cannot be deleted\n"
    assert deeper("delete", "--queue", "default", "--yes", *STORE).stdout == "1 job deleted\n"
    assert [job["id"] for job in ask("list")["entries"]] == [running]
    assert waiting != running


def test_delete_by_conditions_needs_a_yes_where_nobody_can_be_asked(deeper, ask, enqueue):
    enqueue("shop.add", 1)
    result = deeper("delete", "--queue", "default", *STORE)
    assert result.exit_code == 2
    assert "add --yes to delete all" in result.stderr
    assert states(ask) == ["pending"]


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, []), ("n\n", 1, ["pending"])])
def test_delete_by_conditions_asks_at_a_terminal(at_a_terminal, ask, enqueue, *, typed, code, left):
    enqueue("shop.add", 1)
    result = at_a_terminal("delete", "--queue", "default", *STORE, typed=typed)
    assert result.exit_code == code
    assert "Delete 1 job?" in click.unstyle(result.output)
    assert states(ask) == left


def test_delete_of_dead_letters_leaves_the_others(ask, dead, enqueue):
    enqueue("shop.add", 1)
    assert ask("delete", "--dead", "--yes") == {"count": 1}
    assert states(ask) == ["pending"]


def test_dead_says_the_states_itself(deeper):
    for command in ("list", "delete"):
        result = deeper(command, "--dead", "--status", "pending", *STORE)
        assert result.exit_code == 2
        assert "leave out --status" in result.stderr


def test_migrate_names_what_it_applied_and_then_is_up_to_date(deeper, ask, folder):
    (folder / "tasks.db").unlink()
    assert deeper("migrate", *STORE).stdout.startswith("applied 0001")
    assert deeper("migrate", *STORE).stdout == "up to date\n"
    assert ask("migrate") == {"applied": []}


def test_a_schema_newer_than_the_code_is_exit_code_4(deeper, folder):
    deeper("migrate", *STORE)
    connection = sqlite3.connect(folder / "tasks.db")
    with connection:
        connection.execute("INSERT INTO deeper_migration (name) VALUES ('9999_later')")
    connection.close()
    for command in ("migrate", "stats"):
        result = deeper(command, *STORE)
        assert result.exit_code == 4
        assert "9999_later" in result.stderr
