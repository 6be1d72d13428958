"""`deeper completion`, and the names that a shell is given while somebody types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from deeper_tasks.cli.application import load_manager

STORE = ("--url", "sqlite:///tasks.db")


def suggest(line, **environment):
    """Return what the shell is given for the last word of a line."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "deeper_tasks.cli"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={
            **os.environ,
            "_DEEPER_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        },
    )
    assert done.stderr == ""
    return [each.partition(",")[2] for each in done.stdout.split()]


def suggest_patiently(line, **environment):
    """Press the key again while nothing comes: a busy machine may need longer than somebody who types would wait."""
    deadline = time.monotonic() + 60
    while not (found := suggest(line, **environment)) and time.monotonic() < deadline:
        pass
    return found


@pytest.fixture
def named(enqueue):
    """Have a queue and a recurring task there."""
    enqueue("post.welcome", "Ada")
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task("nightly", "shop", "add", [1], "@daily")
    manager.sync.close()


@pytest.mark.parametrize(("shell", "said"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-")])
def test_each_shell_has_its_script(deeper, *, shell, said):
    result = deeper("completion", shell)
    assert result.exit_code == 0
    assert said in result.stdout
    assert "_DEEPER_COMPLETE" in result.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_bash_is_one(deeper):
    script = deeper("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_an_unknown_shell_is_refused(deeper):
    assert deeper("completion", "tcsh").exit_code == 2


def test_commands_and_states_are_completed():
    assert suggest("deeper sche") == ["schedules"]
    assert suggest("deeper schedules re") == ["resume", "remove"]
    assert suggest("deeper list --status dis") == ["discarded"]


def test_queues_and_recurring_tasks_are_completed_from_the_store(named):
    assert suggest_patiently("deeper list --url sqlite:///tasks.db --queue e") == ["emails"]
    assert suggest_patiently("deeper queues pause --url sqlite:///tasks.db em") == ["emails"]
    assert suggest_patiently("deeper schedules run --app shop:manager ni") == ["nightly"]
    assert suggest_patiently("deeper queues pause e", DEEPER_TASKS_URL="sqlite:///tasks.db") == ["emails"]


def test_a_name_that_a_shell_would_run_is_not_suggested(named):
    manager = load_manager("shop:manager")
    for name in ("nightly;reboot", "nightly $(reboot)", "nightly*", "nightly`id`"):
        manager.sync.schedule_recurring_task(name, "shop", "add", [1], "@daily")
    manager.sync.close()
    assert suggest("deeper schedules run --app shop:manager ni") == ["nightly"]


def test_without_a_store_there_are_no_suggestions_and_no_complaints(folder):
    assert suggest("deeper queues pause e") == []
    assert suggest("deeper queues pause --url sqlite:///absent.db e") == []
    assert suggest("deeper queues pause --url nonsense e") == []
    assert suggest("deeper queues pause --app absent:manager e") == []
    assert not (folder / "absent.db").exists()


def test_an_application_that_talks_or_hangs_does_not_disturb_who_types(folder, named):
    (folder / "chatty.py").write_text("print('welcome to the shop')\nfrom shop import manager")
    assert suggest_patiently("deeper queues pause --app chatty:manager e") == ["emails"]
    (folder / "slow.py").write_text("import time\ntime.sleep(3600)")
    # It sleeps for longer than `suggest` waits.
    assert suggest("deeper queues pause --app slow:manager e") == []
