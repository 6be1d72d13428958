"""`deeper status`, `deeper list` and `deeper stats`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks import Page, State, Statistics, TaskStatus
from deeper_tasks.cli.rendering.formats import ago, first_line, safe
from deeper_tasks.cli.rendering.jobs import render_facts, render_texts
from deeper_tasks.cli.rendering.output import console
from deeper_tasks.domain.job import Progress

STORE = ("--url", "sqlite:///tasks.db")
UNKNOWN = "01900000-0000-7000-8000-000000000001"


def keys(view):
    return {field.name for field in msgspec.structs.fields(view)}


def test_status_shows_a_failed_job_with_its_traceback(deeper, dead):
    shown = deeper("status", dead, *STORE).stdout
    assert dead in shown
    assert "discarded" in shown
    assert "1 of 1" in shown
    assert "Traceback (most recent call last)" in shown
    assert "raise ValueError(reason)" in shown
    assert shown.splitlines()[1:3] == ["state       discarded", "error       ValueError: �[2J[red]no paper"]


def test_status_does_not_repeat_an_error_that_is_that_of_an_earlier_attempt(ask, dead, capsys):
    job = msgspec.convert(ask("status", dead), TaskStatus)
    [first] = job.errors
    other = msgspec.structs.replace(first, attempt=2, traceback=None, message="no ink")
    errors = [first, other, *(msgspec.structs.replace(first, attempt=number) for number in (3, 4))]
    job = msgspec.structs.replace(job, errors=tuple(errors))
    console().print(*render_texts(job), sep="\n")
    shown = capsys.readouterr().out
    assert shown.count("Traceback (most recent call last)") == 1
    assert re.findall(r"attempt (\d) failed .*?(?:, as attempt (\d))?\n", shown) == [
        ("1", ""),
        ("2", ""),
        ("3", "1"),
        ("4", "1"),
    ]
    assert "no ink" in shown


def test_status_of_a_job_that_completed_has_no_error_at_its_head(ask, dead):
    job = msgspec.convert(ask("status", dead), TaskStatus)
    heads = {
        state: any(str(line).startswith("error ") for line in render_facts(msgspec.structs.replace(job, status=state)))
        for state in (State.COMPLETED, State.PENDING, State.RETRYABLE, State.FAILED)
    }
    assert heads == {State.COMPLETED: False, State.PENDING: False, State.RETRYABLE: True, State.FAILED: True}


def test_status_shows_progress_log_and_why_there_is_no_result(ask, enqueue, capsys):
    job = msgspec.convert(ask("status", enqueue("shop.add", 1, "--tag", "sum")), TaskStatus)
    job = msgspec.structs.replace(
        job,
        status=State.COMPLETED,
        progress=Progress(fraction=0.25, message="begun"),
        log=("first line", "second line"),
        node="host-1",
        cancel_requested="by hand",
        result_omitted="too large",
    )
    console().print(*render_facts(job), *render_texts(job))
    shown = capsys.readouterr().out
    for text in ("25% begun", "second line", "host-1", "requested: by hand", "none: too large", "sum"):
        assert text in shown


def test_status_shows_since_when_and_why_workers_give_a_job_back(ask, enqueue, capsys):
    job = msgspec.convert(ask("status", enqueue("shop.add", 1)), TaskStatus)
    since = datetime(2026, 1, 31, 12, 2, tzinfo=UTC)
    for field, why in (
        ("unknown_since", "no worker that claimed it knows its task"),
        ("unfit_since", "its arguments do not fit its task"),
    ):
        console().print(*render_facts(msgspec.structs.replace(job, **{field: since})))
        shown = capsys.readouterr().out
        assert "released" in shown
        assert why in shown
        assert "2026-01-31" in shown


def test_status_shows_that_a_job_waits_in_quarantine(ask, enqueue, capsys):
    job = msgspec.convert(ask("status", enqueue("shop.add", 1)), TaskStatus)
    for is_quarantined in (False, True):
        console().print(*render_facts(msgspec.structs.replace(job, is_quarantined=is_quarantined)))
        assert ("waits for a process of its own" in capsys.readouterr().out) is is_quarantined


def test_a_job_cannot_rewrite_the_terminal(deeper, dead):
    for words in (["status", dead], ["list"]):
        shown = deeper(*words, *STORE).stdout
        assert "ValueError: �[2J[red]no paper" in shown
        assert "\x1b" not in shown


def test_status_shows_times_in_the_local_zone_and_how_far_away_they_are(deeper, enqueue):
    job = enqueue("shop.add", 1, "--at", "2099-01-31T09:00")
    shown = deeper("status", job, *STORE).stdout
    assert "2099-01-31 09:00:00" in shown
    assert " d)" in shown


def test_status_in_json_has_the_fields_of_the_view(ask, dead):
    job = ask("status", dead)
    assert job.keys() == keys(TaskStatus)
    assert job["errors"][0]["kind"] == "ValueError"


@pytest.mark.parametrize("task_id", [UNKNOWN, "nonsense"])
def test_status_of_no_job_is_exit_code_3(deeper, task_id):
    result = deeper("status", task_id, *STORE)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"deeper: no job has the id '{task_id}'")


def test_list_shows_the_jobs_and_how_many_there_are(deeper, enqueue):
    ids = [enqueue("shop.add", number) for number in range(3)]
    shown = deeper("list", "--per-page", 2, *STORE).stdout
    assert ids[2] in shown
    assert ids[1] in shown
    assert ids[0] not in shown
    assert "3 jobs, page 1 of 2" in shown


def test_list_of_nothing_says_so(deeper):
    assert deeper("list", *STORE).stdout == "0 jobs, page 1 of 1\n"


def test_dead_letters_are_found_with_their_errors_on_a_line_below_whatever_the_width(deeper, enqueue, dead, at_width):
    enqueue("shop.add", 1)
    for columns in (40, 80, 100, 140, 240):
        at_width(columns)
        head, job, error, footer = deeper("list", "--dead", *STORE).stdout.splitlines()
        assert "last error" not in head
        assert job.startswith(dead[:15])
        assert "    ValueError: �[2J[red]no paper".startswith(re.sub(r"(now|\d+ s ago): |…", "", error))
        assert "ValueError: �[2J" in error
        # When it died is said on either of the lines.
        assert re.search(r"ended (now|\d+ s ago)$", job) or re.match(r"    (now|\d+ s ago): ", error)
        assert footer == "1 job, page 1 of 1"


def test_a_narrow_terminal_shows_what_an_operator_acts_on(deeper, dead, at_width):
    at_width(80)
    head, job, _ = deeper("list", *STORE).stdout.splitlines()
    assert head.split() == ["id", "state", "task", "queue", "attempts", "last", "error"]
    assert job.split()[:5] == [dead[:15], "discarded", "shop.fail", "default", "1/1"]
    assert "ValueError" in job


def test_a_pipe_gets_whole_ids_and_whole_errors(deeper, enqueue, monkeypatch):
    enqueue("shop.add", 1, "--queue", "q" * 60)
    task = "shop." + "t" * 200
    deeper("enqueue", task, "--unchecked", *STORE)
    shown = deeper("list", *STORE).stdout
    assert task in shown
    assert "q" * 60 in shown


def test_dead_letters_come_with_what_died_last_first(deeper, ask, dead):
    assert [job["id"] for job in ask("list", "--dead")["entries"]] == [dead]
    assert ask("list", "--dead", "--sort-by", "inserted_at")["total_entries"] == 1


def test_list_in_json_has_the_fields_of_the_view(ask):
    assert ask("list").keys() == keys(Page)


def test_list_takes_conditions(ask, enqueue, dead):
    welcome = enqueue("post.welcome", "Ada")
    add = enqueue("shop.add", 1, "--tag", "sum")

    def ids(*words):
        return [job["id"] for job in ask("list", *words)["entries"]]

    assert ids("--status", "discarded") == [dead]
    assert ids("--status", "discarded", "--status", "pending") == [add, welcome, dead]
    assert ids("--queue", "emails") == [welcome]
    assert ids("--worker-module", "shop") == [add, welcome, dead]
    assert ids("--task", "shop.add") == [add]
    assert ids("--tag", "sum") == [add]
    assert ids("--ascending") == [dead, welcome, add]
    assert ids("--sort-by", "finished_at")[0] == dead
    assert ids("--page", 2, "--per-page", 2) == [dead]


def test_list_goes_on_after_a_cursor(ask, deeper, enqueue):
    first, second = enqueue("shop.add", 1), enqueue("shop.add", 2)
    cursor = ask("list", "--per-page", 1)["next_cursor"]
    shown = deeper("list", "--per-page", 1, "--cursor", cursor, *STORE).stdout
    assert first in shown
    assert second not in shown
    refused = deeper("list", "--ascending", "--cursor", cursor, *STORE)
    assert refused.exit_code == 2
    assert "belongs to a list by inserted_at, descending" in refused.stderr


@pytest.mark.parametrize("words", [["--page", "0"], ["--per-page", "5000"], ["--cursor", "nonsense"]])
def test_list_refuses_what_is_no_page(deeper, words):
    assert deeper("list", *words, *STORE).exit_code == 2


def test_stats_shows_each_queue_and_the_workers(deeper, enqueue, dead):
    enqueue("post.welcome", "Ada")
    shown = deeper("stats", *STORE).stdout
    above, header, default, emails, errors, workers = shown.splitlines()
    assert above.split() == ["completed", "failed", "errors", "errors"]
    assert header.split() == ["queue", "pending", "running", "discarded", "today", "today", "today", "1", "h"]
    assert " ".join(default.split()) == "default 0 0 1 0 1 100 % 100 %"
    assert " ".join(emails.split()) == "emails 1 0 0 0 0 - -"
    assert errors == "error rate: 100 % of 1 job that ended today, 100 % of 1 in the last hour"
    assert workers == "workers: 0, with 0 slots busy and 0 idle"


def test_stats_of_an_empty_store_says_so(deeper):
    assert "no queue has had a job yet" in deeper("stats", *STORE).stdout


def test_stats_in_json_has_the_fields_of_the_view(ask, enqueue):
    enqueue("shop.add", 1)
    statistics = ask("stats")
    assert statistics.keys() == keys(Statistics)
    assert statistics["queues"]["default"]["pending"] == 1


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(seconds=-5.1), "5 s ago"),
        (timedelta(seconds=-80), "80 s ago"),
        (timedelta(minutes=-5), "5 min ago"),
        (timedelta(hours=3), "in 3 h"),
        (timedelta(days=40), "in 40 d"),
        (timedelta(0), "now"),
    ],
)
def test_times_are_told_in_the_unit_that_fits(away, text):
    assert ago(datetime.now(UTC) + away) == text


def test_texts_are_shown_without_control_characters():
    assert safe("a\x07b\n\tc\u202ed") == "a�b\n\tc�d"
    assert first_line("one\ntwo") == "one …"
    assert first_line("") == ""


@pytest.mark.parametrize("command", [["stats"], ["list"], ["status", "nonsense"], ["cancel", "nonsense"]])
def test_a_command_that_only_looks_makes_no_store_of_a_mistyped_name(deeper, folder, command):
    result = deeper(*command, "--url", "sqlite:///taks.db")
    assert result.exit_code == 4
    assert "there is no database" in result.stderr
    assert not list(folder.glob("taks*"))


@pytest.mark.parametrize(
    "command",
    [
        ["status", "01890a5d-ac96-774b-bcce-b302099a8057"],
        ["list"],
        ["list", "--dead"],
        ["stats"],
        ["stats", "--watch"],
        ["cancel", "--queue", "a", "--yes"],
        ["retry", "--all-dead"],
        ["delete", "01890a5d-ac96-774b-bcce-b302099a8057"],
        ["cleanup"],
        ["queues", "pause", "a"],
        ["schedules"],
        ["schedules", "run", "nightly"],
    ],
    ids=" ".join,
)
def test_where_tasks_are_disabled_each_question_gets_the_same_clear_answer(deeper, command):
    result = deeper(*command, "--url", "noop://")
    assert result.exit_code == 1
    assert result.stderr.startswith("deeper: tasks are disabled here")
    assert result.stdout == ""
