"""`deeper doctor`: findings, each with its remedy, and the exit code."""

from __future__ import annotations

import json
import shlex
import sqlite3

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli import environment
from deeper_tasks.cli.application import load_manager
from deeper_tasks.domain.ids import JobId

STORE = ("--url", "sqlite:///tasks.db")


@pytest.fixture
def examine(deeper):
    """Examine and return what is wrong, by the names of the checks, and the exit code."""

    def examine(*words):
        result = deeper("doctor", *words, "--json")
        answer = json.loads(result.stdout)
        wrong = {each["check"]: each for each in answer["findings"] if each["severity"] != "ok"}
        assert all(each["remedy"] for each in wrong.values())
        # Of the library of the machine that tests run on.
        wrong.pop("sqlite", None)
        wrong.pop("space", None)
        return wrong, result.exit_code

    return examine


def test_an_idle_store_without_a_worker_is_a_warning(examine):
    wrong, code = examine(*STORE)
    assert wrong.keys() == {"workers"}
    assert code == 0


def test_it_tells_what_it_found_and_how_to_mend_it(deeper, enqueue):
    enqueue("post.welcome", "Ada")
    shown = deeper("doctor", *STORE).stdout
    assert "no living worker serves the queue 'emails', which has 1 pending job" in shown
    assert "→ start a worker for it: deeper worker module:manager --queues emails:10" in shown
    assert "1 error, " in shown


def test_the_remedies_name_the_manager_that_was_given(deeper, enqueue):
    enqueue("post.welcome", "Ada")
    shown = deeper("doctor", "--app", "shop:manager").stdout
    assert "deeper worker shop:manager --queues emails:10" in shown
    assert "module:manager" not in shown


def test_many_findings_of_a_kind_are_told_as_one_unless_each_is_asked_for(deeper, enqueue):
    for number in range(9):
        for _ in range(1 + (number == 4)):
            enqueue("shop.add", 1, "--queue", f"tenant-{number}")
    shown = deeper("doctor", *STORE).stdout
    assert shown.count("no living worker serves") == 1
    assert "the queue 'tenant-4', which has 2 pending jobs" in shown
    assert "and the same for 8 more: tenant-0, tenant-1, tenant-2, tenant-3, tenant-5 and 3 others; --full" in shown
    assert "--queues tenant-4:10; --queues '*:10' serves all queues" in shown
    assert "9 errors, " in shown
    whole = deeper("doctor", "--full", *STORE).stdout
    assert whole.count("no living worker serves") == 9
    assert "more:" not in whole
    findings = json.loads(deeper("doctor", "--json", *STORE).stdout)["findings"]
    assert {each["subject"] for each in findings if each["check"] == "unserved queue"} == {
        f"tenant-{number}" for number in range(9)
    }


def test_a_queue_that_nobody_serves_is_an_error_and_exit_code_1(examine, enqueue):
    enqueue("post.welcome", "Ada")
    wrong, code = examine(*STORE)
    assert code == 1
    assert wrong["unserved queue"]["severity"] == "error"


def test_it_shows_where_the_store_lies(deeper, folder):
    findings = json.loads(deeper("doctor", *STORE, "--json").stdout)["findings"]
    [store] = [each["message"] for each in findings if each["check"] == "store"]
    assert store == f"sqlite:///tasks.db ({folder}/tasks.db) answers, and its schema is this version's"


def test_no_word_about_the_store_is_a_finding_and_no_traceback(examine):
    wrong, code = examine()
    assert code == 1
    assert "no store is named;" in wrong["settings"]["message"]


def test_several_wrong_settings_are_a_finding_each(deeper, folder):
    (folder / "deeper_tasks.toml").write_text("url = 'sqlite:///tasks.db'\nqueus = 1\nlog_level = 'loud'")
    result = deeper("doctor", "--json")
    messages = [each["message"] for each in json.loads(result.stdout)["findings"] if each["severity"] == "error"]
    assert result.exit_code == 1
    assert len(messages) == 2
    assert "did you mean 'queues'?" in messages[0]


def test_a_store_that_is_not_there_is_an_error_and_none_is_made(examine, folder):
    wrong, code = examine("--url", "sqlite:///absent.db")
    assert code == 1
    assert wrong.keys() == {"file", "store"}
    assert not (folder / "absent.db").exists()


def test_a_password_is_not_shown(deeper):
    result = deeper("doctor", "--url", "postgresql://me:secret@host/db", "--json")
    assert result.exit_code == 1
    assert "secret" not in result.output


def test_missing_migrations_are_told_with_the_command_that_applies_them(examine, folder):
    connection = sqlite3.connect(folder / "tasks.db")
    with connection:
        connection.execute("DELETE FROM deeper_migration WHERE name = (SELECT max(name) FROM deeper_migration)")
    connection.close()
    wrong, code = examine(*STORE)
    assert code == 1
    assert "deeper migrate" in wrong["schema"]["remedy"]


def test_with_the_application_tasks_that_it_does_not_have_are_told(examine, enqueue, deeper):
    enqueue("shop.add", 1)
    deeper("enqueue", "shop.vanished", "--unchecked", *STORE)
    wrong, _ = examine("--app", "shop:manager")
    assert "'shop.vanished'" in wrong["unknown tasks"]["message"]
    assert "unknown tasks" not in examine(*STORE)[0]


def test_a_pause_and_dead_letters_are_told(examine, deeper, dead):
    deeper("queues", "pause", "default", *STORE)
    wrong, _ = examine(*STORE)
    assert wrong["paused queue"]["remedy"] == "deeper queues resume default"
    assert "deeper list --dead" in wrong["dead letters"]["remedy"]


def test_a_damaged_file_is_an_error(examine, folder):
    with BackgroundTaskManager("sqlite:///tasks.db").sync as manager:
        manager.enqueue_many([])
    connection = sqlite3.connect(folder / "tasks.db")
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'deeper_job_inserted'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with (folder / "tasks.db").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    wrong, code = examine(*STORE)
    assert code == 1
    assert {"soundness", "database"} & wrong.keys()


def test_deep_finds_an_index_that_does_not_fit_its_table(examine, enqueue, folder):
    enqueue("shop.add", 1)
    connection = sqlite3.connect(folder / "tasks.db")
    with connection:
        connection.execute("PRAGMA writable_schema = ON")
        # What the index holds no longer is what it says it holds.
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'WHERE state = 3', 'WHERE state = 6') "
            "WHERE name = 'deeper_job_pending'"
        )
    connection.close()
    wrong, code = examine("--deep", *STORE)
    assert code == 1
    assert "deeper_job_pending" in wrong["soundness"]["message"]


def test_a_file_that_is_no_database_is_an_error(examine, folder):
    (folder / "notes.txt").write_text("remember the milk\n" * 100)
    wrong, code = examine("--url", "sqlite:///notes.txt")
    assert code == 1
    assert "is not an SQLite database" in wrong["database"]["message"]


def test_it_says_where_the_settings_come_from(deeper, folder, monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_URL", "sqlite:///tasks.db")
    (folder / "deeper_tasks.toml").write_text("log_level = 'debug'")
    findings = json.loads(deeper("doctor", "--json").stdout)["findings"]
    told = {each["check"]: each["message"] for each in findings}
    assert told["settings from"] == "DEEPER_TASKS_URL, deeper_tasks.toml"
    assert told["python"].startswith("Python 3.")


def test_extras_are_told_with_what_they_lack(monkeypatch):
    wants = ["click>=8", "pytest>=1; extra == 'test'", 'absent-library[x]>=1; python_version > "3" and extra == "web"']
    monkeypatch.setattr(environment, "requires_of", lambda _: wants)
    told = {finding.check: finding.message for finding in environment.examine_python()}
    assert told["extra test"] == "installed"
    assert told["extra web"] == "not installed, lacks absent-library"


def test_nothing_is_changed_by_looking(deeper, ask, enqueue):
    job = JobId(enqueue("shop.add", 1))
    before = ask("list")
    deeper("doctor", "--deep", *STORE)
    assert ask("list") == before
    assert before["entries"][0]["id"] == job


def test_a_broken_file_of_settings_is_a_finding_and_no_traceback(examine, folder):
    (folder / "pyproject.toml").write_text("[tool.deeper_tasks\n")
    wrong, code = examine()
    assert code == 1
    assert "is not TOML" in wrong["settings"]["message"]


def test_a_remedy_can_be_copied_into_a_shell_whatever_the_name(deeper, examine):
    name = "it's; here"
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task(name, "shop", "add", [1], "@daily")
    manager.sync.pause_recurring_task(name)
    manager.sync.close()
    remedy = examine(*STORE)[0]["paused recurring task"]["remedy"]
    assert shlex.split(remedy) == ["deeper", "schedules", "resume", name]


def test_tasks_that_are_switched_off_are_told(examine):
    wrong, code = examine("--url", "noop://")
    assert code == 0
    assert "no store was examined" in wrong["switched off"]["message"]
