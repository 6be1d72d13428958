"""`deeper enqueue`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

ID = "01900000-0000-7000-8000-000000000001"
APP = ("--app", "shop:manager")
STORE = ("--url", "sqlite:///tasks.db")


def test_it_prints_the_id_alone(deeper, ask):
    result = deeper("enqueue", "shop.add", 1, 2, *APP)
    assert (result.exit_code, result.stderr) == (0, "")
    job = ask("status", result.stdout.strip())
    assert (job["task"], job["args"], job["status"]) == ("shop.add", [1, 2], "pending")


def test_an_enqueue_that_makes_a_new_store_says_where_it_is(deeper, folder):
    for told in (f"deeper: made a new, empty store at {folder}/other.db\n", ""):
        result = deeper("enqueue", "shop.add", 1, *APP, "--url", "sqlite:///other.db")
        assert (result.exit_code, result.stderr) == (0, told)


def test_an_enqueue_that_keeps_nothing_says_so(deeper, folder):
    (folder / "jobs.jsonl").write_text('{"args": [1]}\n')
    (folder / "deeper_tasks.toml").write_text("enabled = false\nurl = 'sqlite:///tasks.db'\n")
    by_settings, by_url = ("--unchecked",), ("--unchecked", "--url", "noop://")
    for where in (by_settings, by_url):
        for what in (("1",), ("--from", "jobs.jsonl"), ("1", "--json")):
            result = deeper("enqueue", "shop.add", *what, *where)
            assert result.exit_code == 0
            assert result.stderr.startswith("deeper: tasks are disabled here, by enabled = false or a url of noop://")
            assert result.stdout


def test_words_are_json_where_they_can_be_and_texts_otherwise(enqueue, ask):
    assert ask("status", enqueue("post.welcome", "Ada"))["args"] == ["Ada"]
    assert ask("status", enqueue("post.welcome", '"42"'))["args"] == ["42"]
    assert ask("status", enqueue("shop.add", "--", "-1", "-2"))["args"] == [-1, -2]


def test_arguments_may_be_json_documents(enqueue, ask):
    assert ask("status", enqueue("shop.add", "--args", "[1]", "--kwargs", '{"b": 2}'))["args"] == [1, 2]


@pytest.mark.parametrize("name", ["shop.send_welcome", "post.welcome", "welcome"])
def test_a_task_is_found_by_its_name_its_path_or_its_last_part(enqueue, ask, name):
    job = ask("status", enqueue(name, "Ada"))
    assert (job["task"], job["queue"], job["tags"]) == ("post.welcome", "emails", ["post"])


def test_a_last_part_that_two_tasks_share_is_refused(deeper, folder):
    with (folder / "shop.py").open("a") as shop:
        shop.write("\n@manager.task(name='goodbye.welcome')\nasync def goodbye() -> None: ...\n")
    result = deeper("enqueue", "welcome", *APP)
    assert result.exit_code == 3
    assert "several tasks end in 'welcome': goodbye.welcome, post.welcome" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"), [("add_up", "no task is named 'add_up'; there are: post.welcome"), ("shop.ad", "'shop.add'?")]
)
def test_an_unknown_task_is_exit_code_3_with_what_there_is(deeper, name, message):
    result = deeper("enqueue", name, *APP)
    assert result.exit_code == 3
    assert message in result.stderr


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_enqueued(deeper, ask):
    result = deeper("enqueue", "shop.add", "one", *APP)
    assert result.exit_code == 1
    assert result.stderr == "deeper: argument 'a' of add: expected `int`, got `str`\n"
    assert ask("list")["total_entries"] == 0


def test_options_reach_the_job(enqueue, ask):
    job = ask(
        "status",
        enqueue(
            *("shop.add", 1, "--queue", "later", "--priority", "-5", "--delay", "2h", "--max-attempts", 7),
            *("--tag", "a", "--tag", "b", "--meta", '{"by": "me"}', "--task-id", ID, "--expires-in", "1d"),
        ),
    )
    assert (job["id"], job["queue"], job["priority"], job["max_attempts"]) == (ID, "later", -5, 7)
    assert (job["tags"], job["meta"], job["status"]) == (["a", "b"], {"by": "me"}, "scheduled")
    due = datetime.fromisoformat(job["scheduled_at"])
    assert due - datetime.fromisoformat(job["inserted_at"]) == timedelta(hours=2)
    assert datetime.fromisoformat(job["expires_at"]) - due == timedelta(days=1)


def test_a_time_may_have_a_zone_and_is_local_otherwise(enqueue, ask):
    zoned = ask("status", enqueue("shop.add", 1, "--at", "2099-01-31T09:00+01:00"))
    local = ask("status", enqueue("shop.add", 2, "--at", "2099-01-31T09:00"))
    assert datetime.fromisoformat(zoned["scheduled_at"]) == datetime(2099, 1, 31, 8, tzinfo=UTC)
    assert datetime.fromisoformat(local["scheduled_at"]) == datetime(2099, 1, 31, 9).astimezone()


@pytest.mark.parametrize("unique", [["--unique-for", "1h"], ["--until-done"], ["--until-done", "--unique-key", "one"]])
def test_a_unique_job_is_enqueued_once_and_its_id_given_again(deeper, unique):
    first = deeper("enqueue", "shop.add", 1, *unique, *APP)
    second = deeper("enqueue", "shop.add", 1, *unique, *APP)
    assert second.stdout == first.stdout
    assert "no job was enqueued; the id is that of the existing job" in second.stderr
    assert second.exit_code == 0


def test_with_json_the_answer_tells_whether_the_job_is_new(deeper):
    words = ("enqueue", "shop.add", 1, "--task-id", ID, "--json", *APP)
    assert json.loads(deeper(*words).stdout) == {"id": ID, "is_new": True, "task": "shop.add"}
    assert json.loads(deeper(*words).stdout)["is_new"] is False


def test_the_same_id_with_other_arguments_is_refused(deeper, enqueue):
    enqueue("shop.add", 1, "--task-id", ID)
    assert deeper("enqueue", "shop.add", 2, "--task-id", ID, *APP).exit_code == 1


def test_a_store_alone_is_no_ground_to_enqueue_on(deeper):
    result = deeper("enqueue", "shop.add", 1, *STORE)
    assert result.exit_code == 2
    assert "add --app module:manager, or --unchecked" in result.stderr


def test_unchecked_enqueues_what_was_written(deeper, ask):
    result = deeper("enqueue", "elsewhere.tasks.sync", 7, "--kwargs", '{"x": [1]}', "--unchecked", *STORE)
    job = ask("status", result.stdout.strip())
    assert (job["task"], job["args"], job["kwargs"]) == ("elsewhere.tasks.sync", [7], {"x": [1]})


def test_settings_that_include_the_tasks_make_them_known(deeper, folder):
    (folder / "deeper_tasks.toml").write_text("url = 'sqlite:///tasks.db'\ninclude = ['shop']")
    assert deeper("enqueue", "add", 1).exit_code == 0
    assert deeper("enqueue", "add", "one").exit_code == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["1", "--args", "[1]"], "the command line has arguments twice"),
        (["--at", "2099-01-01", "--delay", "5"], "--at and --delay exclude each other"),
        (["--at", "tomorrow"], "'tomorrow' is not a time; write 2026-01-31T09:00"),
        (["--delay", "5 weeks"], "'5 weeks' is not a duration; write a number of seconds, or 30s, 5m, 2h, 7d"),
        (["--args", "{}"], "expected `array`, got `object`; write for example '[42, \"x\"]'"),
        (["--kwargs", "{"], "write for example '{\"user_id\": 42}'"),
        (["--priority", "500"], "option 'priority' cannot be 500"),
        (["--task-id", "one"], "option 'task_id' cannot be 'one'"),
    ],
)
def test_what_cannot_be_read_is_exit_code_2_with_the_way_out(deeper, words, message):
    result = deeper("enqueue", "shop.add", *words, *APP)
    assert result.exit_code == 2
    assert message.lower() in result.stderr.lower()
