"""Which changed files mean that the application changed."""

import sys
from pathlib import Path

import pytest

from deeper_tasks.errors import ConfigError
from deeper_tasks.supervisor.changes import check_watching, is_source

APP = Path("/srv/.apps/shop")


@pytest.mark.parametrize(
    "name", ["tasks.py", "shop/tasks.py", "deeper_tasks.toml", "pyproject.toml", "env/settings.py"]
)
def test_source_files_and_settings_count(name):
    assert is_source(APP / name, folders=[APP])


@pytest.mark.parametrize(
    "name",
    [
        "tasks.db",
        "tasks.db-wal",
        "tasks.pyc",
        "notes.txt",
        ".tasks.py.swp",
        ".#tasks.py",
        ".venv/lib/python3.12/thing.py",
        "venv/thing.py",
        "env/lib/python3.12/site-packages/thing.py",
        "shop/__pycache__/tasks.py",
        ".git/hooks/hook.py",
        "node_modules/gyp/gyp.py",
    ],
)
def test_databases_caches_environments_and_editors_files_do_not(name):
    assert not is_source(APP / name, folders=[APP])


def test_a_folder_that_was_named_counts_though_it_lies_in_one_that_does_not():
    folder = APP / ".venv/lib/python3.12/site-packages/editable"
    assert is_source(folder / "thing.py", folders=[APP, folder])
    assert not is_source(Path("/elsewhere/thing.py"), folders=[APP, folder])


def test_without_watchfiles_the_message_has_the_command_that_installs_it(monkeypatch):
    check_watching([])
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match="install deeper_tasks with its extra 'reload'"):
        check_watching([])
