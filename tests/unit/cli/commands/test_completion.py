"""`deeper completion`, and the names that a shell is given while a user types."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deeper_tasks.cli import main
from deeper_tasks.cli.application import load_manager
from deeper_tasks.cli.completion import candidates

STORE = ("--url", "sqlite:///tasks.db")


def _asked_by_bash(line):
    return {"_DEEPER_COMPLETE": "bash_complete", "COMP_LINE": line, "COMP_BREAKS": " \t\n\"'><=;|&(:"}


def _read(answer):
    return [each.partition(",")[2] for each in answer.split()]


def suggest(line, **environment):
    """Return what bash is given for the last word of a line, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_PATIENCE", 60.0)
        result = CliRunner().invoke(main, prog_name="deeper", env={**_asked_by_bash(line), **environment})
    assert (result.exit_code, result.stderr) == (0, "")
    return _read(result.stdout)


@pytest.fixture
def named(enqueue):
    """Have a queue and a recurring task there."""
    enqueue("post.welcome", "Ada")
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task("nightly", "shop", "add", [1], "@daily")
    manager.sync.close()


def test_an_unknown_shell_is_refused(deeper):
    assert deeper("completion", "tcsh").exit_code == 2


def test_commands_and_states_are_completed():
    assert suggest("deeper sche") == ["schedules"]
    assert suggest("deeper schedules re") == ["resume", "remove"]
    assert suggest("deeper list --status dis") == ["discarded"]


def test_queues_and_recurring_tasks_are_completed_from_the_store(named):
    assert suggest("deeper list --url sqlite:///tasks.db --queue e") == ["emails"]
    assert suggest("deeper queues pause --url sqlite:///tasks.db em") == ["emails"]
    assert suggest("deeper schedules run --app shop:manager ni") == ["nightly"]
    assert suggest("deeper queues pause e", DEEPER_TASKS_URL="sqlite:///tasks.db") == ["emails"]


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


def test_managers_of_the_working_folder_are_completed_without_an_import(folder):
    (folder / "bakery" / "ovens").mkdir(parents=True)
    made = "raise RuntimeError\nmy: object = deeper_tasks.BackgroundTaskManager.from_settings()\n"
    (folder / "bakery" / "ovens" / "hot.py").write_text(made)
    (folder / "bakery" / "venv").mkdir()
    (folder / "bakery" / "venv" / "pyvenv.cfg").touch()
    (folder / "bakery" / "venv" / "library.py").write_text(made)
    (folder / "bakery" / "not-a-module.py").write_text(made)
    assert suggest("deeper worker sh") == ["shop:manager"]
    assert suggest("deeper worker ") == ["bakery.ovens.hot:my", "shop:manager"]
    # Bash replaces what follows the last colon or equals sign.
    assert suggest("deeper worker shop:") == ["manager"]
    assert suggest("deeper list --app=bakery.ovens.hot:m") == ["my"]
    assert suggest("deeper list --app=bak") == ["bakery.ovens.hot:my"]
    assert suggest("deeper list --app=bak", COMP_BREAKS=" ") == ["--app=bakery.ovens.hot:my"]


def test_modules_are_completed_where_no_file_makes_a_manager_and_managers_that_only_an_import_shows(folder):
    (folder / "shop.py").rename(folder / "hidden.py")
    (folder / "hidden.py").write_text((folder / "hidden.py").read_text().replace("manager =", "manager = every ="))
    (folder / "store.py").write_text("from hidden import manager as keeper")
    assert suggest("deeper worker st") == ["store:"]
    assert suggest("deeper worker store:") == ["keeper"]


def test_tasks_and_their_modules_are_completed_from_the_application_and_the_store(deeper, named):
    deeper("enqueue", "mill.flour.grind", "--unchecked", *STORE)
    assert suggest("deeper enqueue --app shop:manager shop.") == ["shop.add", "shop.fail"]
    assert suggest("deeper list --url sqlite:///tasks.db --task m") == ["mill.flour.grind"]
    assert suggest("deeper cancel --app shop:manager --worker-module ") == ["mill.flour", "post", "shop"]
    # Without its store an application still has its tasks.
    (Path("tasks.db")).rename("away.db")
    assert suggest("deeper enqueue --app shop:manager p") == ["post.welcome"]
    assert suggest("deeper enqueue --app shop:manager --queue e") == ["emails"]


def test_the_queues_of_a_worker_are_completed_one_after_the_other(named):
    assert suggest("deeper worker shop:manager --queues em") == ["emails:"]
    # What bash takes for the word begins behind the colon.
    assert suggest("deeper worker shop:manager --queues emails:5,de") == ["5,default:"]


@pytest.mark.parametrize("line", ["deeper enqueue shop.add --from jo", "deeper worker --health-file jo"])
def test_where_a_file_is_meant_the_shell_is_asked_for_files(line):
    result = CliRunner().invoke(main, prog_name="deeper", env=_asked_by_bash(line))
    assert result.stdout == "file,jo\n"
