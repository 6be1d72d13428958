"""`deeper schedules`: what runs again and again, when, and its control."""

from __future__ import annotations

import json
import sqlite3

import pytest

from deeper_tasks.cli.application import load_manager

STORE = ("--url", "sqlite:///tasks.db")
HOUR = 3600 * 10**6


@pytest.fixture
def nightly(folder):
    """Register a recurring task named nightly."""
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task("nightly", "shop", "add", [1], "0 3 * * *", timezone="Europe/Berlin")
    manager.sync.close()
    return "nightly"


def test_the_list_shows_what_runs_and_when(deeper, ask, nightly):
    header, line = deeper("schedules", *STORE).stdout.splitlines()
    assert header.split() == ["name", "when", "task", "last", "next"]
    assert line.startswith("nightly  0 3 * * * Europe/Berlin  shop.add  never  20")
    assert ask("schedules")[0]["cron_expression"] == "0 3 * * *"


def test_the_list_of_nothing_says_so(deeper):
    assert deeper("schedules", *STORE).stdout == "there is no recurring task\n"


def test_next_shows_as_many_runs_as_asked_for(deeper, ask, nightly):
    assert len(deeper("schedules", "next", nightly, *STORE).stdout.splitlines()) == 5
    answer = ask("schedules", "next", nightly, "-n", 12)
    assert len(answer["next_runs"]) == 12
    assert answer["next_runs"] == sorted(answer["next_runs"])


def test_run_enqueues_its_job_now_and_the_history_has_it(deeper, ask, nightly):
    assert deeper("schedules", "history", nightly, *STORE).stdout == "nightly has not run yet\n"
    job = deeper("schedules", "run", nightly, *STORE).stdout.strip()
    assert ask("status", job)["task"] == "shop.add"
    run = ask("schedules", "history", nightly)[0]
    assert (run["outcome"], run["task_id"], run["status"]) == ("run_now", job, "pending")
    shown = deeper("schedules", "history", nightly, *STORE).stdout
    assert "run now" in shown
    assert job in shown


def test_a_pause_is_shown_until_it_is_resumed(deeper, ask, nightly):
    assert deeper("schedules", "pause", nightly, *STORE).stdout == "nightly paused\n"
    assert deeper("schedules", *STORE).stdout.splitlines()[1].rstrip().endswith("paused")
    result = deeper("schedules", "next", nightly, *STORE)
    assert "deeper schedules resume nightly" in result.stderr
    assert deeper("schedules", "resume", nightly, *STORE).stdout.startswith("nightly resumed, next run 20")
    assert ask("schedules")[0]["is_paused"] is False


def test_remove_removes_it_and_leaves_its_jobs(deeper, ask, nightly):
    job = ask("schedules", "run", nightly)["id"]
    assert ask("schedules", "remove", nightly) == {"name": "nightly", "outcome": "removed"}
    assert ask("schedules") == []
    assert ask("status", job)["status"] == "pending"


def test_what_stands_in_the_code_is_removed_for_good_and_its_way_back_is_told(deeper, ask, folder):
    (folder / "clock.py").write_text(
        "from deeper_tasks import BackgroundTaskManager\n"
        "manager = BackgroundTaskManager('sqlite:///tasks.db')\n"
        "@manager.task(cron='@daily')\n"
        "def tick() -> None: ...\n"
    )
    manager = load_manager("clock:manager")
    manager.sync.declare_recurring_tasks()
    result = deeper("schedules", "remove", "clock.tick", *STORE)
    assert result.stdout == "clock.tick removed\n"
    assert "returns when its definition there changes, or by 'deeper schedules resume clock.tick'" in result.stderr
    manager.sync.declare_recurring_tasks()
    manager.sync.close()
    assert ask("schedules") == []
    assert "clock.tick is declared in the code, but was removed" in deeper("schedules", *STORE).stderr
    findings = json.loads(deeper("doctor", "--json", *STORE).stdout)["findings"]
    [told] = [each for each in findings if each["check"] == "removed recurring task"]
    assert "deeper schedules resume clock.tick" in told["remedy"]
    assert deeper("schedules", "resume", "clock.tick", *STORE).stdout.startswith("clock.tick resumed")
    assert [entry["name"] for entry in ask("schedules")] == ["clock.tick"]


@pytest.mark.parametrize("command", ["next", "run", "pause", "resume", "remove", "history"])
def test_a_name_that_is_not_there_is_exit_code_3(deeper, nightly, *, command):
    result = deeper("schedules", command, "nihgtly", "--json", *STORE)
    assert result.exit_code == 3
    assert json.loads(result.stderr)["error"] == "ScheduleNotFoundError"


def test_a_run_that_is_late_is_shown_as_such(deeper, folder, nightly):
    connection = sqlite3.connect(folder / "tasks.db")
    with connection:
        connection.execute("UPDATE deeper_schedule SET next_run = next_run - 48 * :hour", {"hour": HOUR})
    connection.close()
    assert " ago)" in deeper("schedules", *STORE).stdout


def test_an_entry_that_is_never_due_is_listed_as_such_and_hurts_no_command(deeper, ask, folder, nightly):
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task("hourly", "shop", "add", [1], "@hourly")
    manager.sync.close()
    connection = sqlite3.connect(folder / "tasks.db")
    with connection:
        damage = "UPDATE deeper_schedule SET document = replace(document, '0 3 * * *', '0 6 */15 * mon#2')"
        connection.execute(damage + " WHERE name = 'nightly'")
    connection.close()
    shown = deeper("schedules", *STORE).stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["hourly", "nightly"]
    assert shown[2].rstrip().endswith("never")
    reason = "'0 6 */15 * mon#2' is never due"
    hourly, broken = ask("schedules")
    assert (hourly["fault"], broken["next_runs"]) == (None, [])
    assert reason in broken["fault"]
    result = deeper("schedules", "next", nightly, *STORE)
    assert (result.stdout, reason in result.stderr) == ("", True)
    findings = json.loads(deeper("doctor", "--json", *STORE).stdout)["findings"]
    found = {finding["check"]: finding for finding in findings}
    assert reason in found["recurring task never due"]["message"]
    for command in ("pause", "resume", "run", "history", "remove"):
        assert deeper("schedules", command, nightly, *STORE).exit_code == 0
