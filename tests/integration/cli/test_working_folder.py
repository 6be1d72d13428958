"""A working folder that this user may not enter, or that was removed: no command needs it that has a URL."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.manager_search import modules_in
from deeper_tasks.errors import ConfigError
from deeper_tasks.tasks.naming import import_folders

COMMANDS = (
    "stats",
    "status 0197",
    "list",
    "doctor",
    "queues",
    "queues resume default",
    "schedules",
    "schedules resume x",
    "migrate",
    "enqueue x",
    "list --app absent:manager",
    "worker absent:manager",
)

WALK = """
import json, os, sys, watchfiles
from pathlib import Path
from click.testing import CliRunner
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli import main

kind, commands = sys.argv[1], json.loads(sys.argv[2])
folder = Path.cwd()
store = os.environ["DEEPER_TASKS_URL"]

def run(words):
    result = CliRunner().invoke(main, words.split())
    failure = result.exception
    assert failure is None or isinstance(failure, SystemExit), (words, repr(failure))
    return [words, result.exit_code, result.stdout + result.stderr]

# All that the commands import is there before the rights are given up.
run("migrate")
before = [run(each) for each in [*commands, "stats --url sqlite:///own.db"]]
if kind == "removed":
    folder.rmdir()
else:
    folder.chmod(0)
    if os.getuid() == 0:
        os.setgroups([]); os.setresgid(64001, 64001, 64001); os.setresuid(64001, 64001, 64001)
with_url = [run(each) for each in commands]
BackgroundTaskManager.from_settings()
own = run("stats --url sqlite:///own.db")
keep = run("demo --keep own.db")
reload = run("worker absent:manager --reload")
del os.environ["DEEPER_TASKS_URL"]
without = [run(each) for each in commands if "absent" not in each and each != "doctor"]
doctor = run("doctor")
print(json.dumps([before[:-1], with_url, own, keep, reload, without, doctor]))
"""


@pytest.fixture
def place(folder, monkeypatch):
    """A working folder for a program, and a store that every user may write to."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        for name, mode in (("work", 0o755), ("store", 0o777)):
            (Path(outer) / name).mkdir()
            (Path(outer) / name).chmod(mode)
        database = Path(outer) / "store" / "tasks.db"
        database.touch()
        database.chmod(0o666)
        monkeypatch.setenv("DEEPER_TASKS_URL", f"sqlite:///{database}")
        yield Path(outer) / "work"
        if (Path(outer) / "work").exists():
            (Path(outer) / "work").chmod(0o755)


@pytest.mark.parametrize("kind", ["locked", "removed"])
def test_each_command_works_with_a_url_where_the_working_folder_cannot_be_looked_into(place, kind):
    program = subprocess.run(
        [sys.executable, "-c", WALK, kind, json.dumps(COMMANDS)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    before, with_url, own, keep, reload, without, doctor = json.loads(program.stdout)
    assert [each[:2] for each in with_url] == [each[:2] for each in before]
    assert "absent" in with_url[-1][2]
    told = str(place) if kind == "locked" else "the working folder, which cannot be found"
    for _, code, said in (own, keep, reload):
        assert code in {2, 4}
        assert told in said
    assert "correct the store's URL, or let user" in own[2] if kind == "locked" else "absolute path" in own[2]
    told = str(place) if kind == "locked" else "the working folder cannot be found"
    for words, code, said in without:
        assert code == 2, words
        assert "no store is named; give --url" in said
        assert told in said
    assert doctor[1] == 1
    assert "settings from" in doctor[2]


def test_a_path_that_begins_at_a_removed_folder_is_refused_with_the_way_out(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"'tasks\.db' is relative to the working folder.* or give an absolute path"):
        BackgroundTaskManager("sqlite:///tasks.db")
    with pytest.raises(ConfigError, match=r"write sqlite:///tasks\.db for the file in the working folder, sqlite:////"):
        BackgroundTaskManager("sqlite:tasks.db")
    monkeypatch.syspath_prepend("")
    assert gone not in import_folders()
    BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db")
    monkeypatch.chdir(tmp_path)


def test_a_folder_that_cannot_be_entered_is_passed_over_where_managers_are_suggested(folder, monkeypatch):
    (folder / "locked").mkdir()
    is_file = Path.is_file

    def refused(path):
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.setattr(Path, "exists", refused)
    assert "shop" in list(modules_in(folder))
