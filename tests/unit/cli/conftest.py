"""What the tests of the command share: an application in a folder of its own, and the command on it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

import pytest
from click.testing import CliRunner

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli import main
from deeper_tasks.cli.application import load_manager
from deeper_tasks.integrations.events import JobDiscarded

URL = "sqlite:///tasks.db"

SHOP = """
from deeper_tasks import BackgroundTaskManager, current_job

manager = BackgroundTaskManager("sqlite:///tasks.db", poll_interval_seconds=0.05)
orders = [1, 2, 3]


@manager.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@manager.task(name="post.welcome", queue="emails", tags=["post"])
async def send_welcome(name: str) -> None: ...


@manager.task(max_attempts=1)
async def fail(reason: str) -> None:
    current_job().progress(0.25, "begun")
    raise ValueError(reason)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder with `shop.py` in it, and no settings around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in [name for name in os.environ if name.startswith("DEEPER_TASKS_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "shop.py").write_text(SHOP)
    with BackgroundTaskManager(URL).sync:
        """The store is there: commands that only look make none."""
    modules = set(sys.modules)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:], root.level = handlers, level
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def deeper():
    """Run the command here; returns its result, with `exit_code`, `stdout` and `stderr`."""

    def deeper(*words, typed=None):
        result = CliRunner().invoke(main, [str(word) for word in words], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return deeper


@pytest.fixture
def ask(deeper):
    """Run the command with --json on the store; returns its answer."""

    def ask(*words):
        result = deeper(*words, "--url", URL, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return ask


@pytest.fixture
def enqueue(deeper):
    """Enqueue with the application, from the command line; returns the id."""

    def enqueue(*words):
        result = deeper("enqueue", "--app", "shop:manager", *words)
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    return enqueue


@pytest.fixture
def dead(enqueue):
    """Return the id of a job that was run here and discarded."""
    job = enqueue("shop.fail", "\x1b[2J[red]no paper")
    manager = load_manager("shop:manager")

    async def work():
        started = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=started.set_result))
        worker = await started
        unsubscribe = manager.subscribe(lambda _: worker.stop(), JobDiscarded)
        await running
        unsubscribe()
        await manager.close()

    asyncio.run(work())
    return job
