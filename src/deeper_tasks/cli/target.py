"""The target: which store a command works on, and the manager over it."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.application import find_from_working_folder, load_manager
from deeper_tasks.cli.suggestions import complete_place
from deeper_tasks.config import load_settings
from deeper_tasks.config.working_folder import is_file, why_unsearchable
from deeper_tasks.errors import ConfigError
from deeper_tasks.integrations.events import StoreMade

R = TypeVar("R")

_DISABLED = (
    "deeper: tasks are disabled here, by enabled = false or a url of noop://: what is enqueued is neither kept nor run"
)


class Target(Struct, frozen=True, kw_only=True):
    """What was said about the store: its URL, the application, or nothing, which leaves it to the settings."""

    url: str | None
    app: str | None
    as_json: bool

    @property
    def knows_tasks(self) -> bool:
        """Whether the manager is, or may be, one that has the application's tasks."""
        return self.app is not None or self.url is None

    @contextmanager
    def opened(self, *, with_tasks: bool = False, create: bool = False) -> Iterator[BackgroundTaskManager]:
        """
        Yield the manager with its store open, for use by `manager.sync`.

        Only `with_tasks` are the modules imported that the settings' `include` names.
        Only with `create` is a store made that is not there: for what enqueues, which is told if no job is kept.

        Raises:
            ConfigError: nothing says which store is meant, or what says it is wrong.
            BackendUnavailableError, SchemaError: it cannot be used.
        """
        with self.closing(with_tasks=with_tasks) as manager:
            manager.subscribe(_tell_of_new_store, StoreMade)
            if create and not manager.backend.capabilities.runs_jobs:
                click.echo(_DISABLED, err=True)
            manager.sync.open(create=create)
            yield manager

    @contextmanager
    def closing(self, *, with_tasks: bool = False) -> Iterator[BackgroundTaskManager]:
        """Yield the manager as `opened` does, its store not yet open."""
        # What an application prints when it is imported is no part of the answer.
        with redirect_stdout(sys.stderr):
            manager = self._manager(with_tasks=with_tasks)
        abilities = manager.backend.capabilities
        if abilities.runs_jobs and not abilities.is_shared:
            raise ConfigError(f"{manager.settings.url} lives inside one process, and no other can see its jobs")
        try:
            yield manager
        finally:
            manager.sync.close()

    def _manager(self, *, with_tasks: bool) -> BackgroundTaskManager:
        if self.app is not None:
            manager = load_manager(self.app)
            if self.url is not None:
                manager.use_store(self.url)
            return manager
        if self.url is not None:
            manager = BackgroundTaskManager(self.url)
            find_from_working_folder()
            return manager
        settings = load_settings()
        if not _has_settings():
            obstacle = why_unsearchable()
            raise ConfigError(
                "which store is meant? Give --url sqlite:///tasks.db or --app myapp.tasks:manager, "
                f"set DEEPER_TASKS_URL, or write url = '…' into deeper_tasks.toml{f'; {obstacle}' if obstacle else ''}"
            )
        find_from_working_folder()
        return BackgroundTaskManager(settings=settings if with_tasks else msgspec.structs.replace(settings, include=()))


def takes_target(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options --url, --app and --json; it takes them as its first argument, a `Target`."""

    @click.option("--url", metavar="URL", help="The store, such as sqlite:///tasks.db.")
    @click.option(
        "--app",
        metavar="MODULE:MANAGER",
        help="Your application's manager; its store, unless --url is given.",
        shell_complete=complete_place,
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    @wraps(command)
    def call(url: str | None, app: str | None, *, as_json: bool, **rest: object) -> R:
        return command(Target(url=url, app=app, as_json=as_json), **rest)

    return call


def _tell_of_new_store(event: StoreMade) -> None:
    click.echo(f"deeper: made a new, empty store at {event.place}", err=True)


def _has_settings() -> bool:
    """Whether settings are written anywhere; their default store would be a guess."""
    return bool(os.environ.get("DEEPER_TASKS_URL", "").strip()) or settings_file() is not None


def settings_file() -> Path | None:
    """Return the file of settings in the working folder, or None."""
    own, project = Path("deeper_tasks.toml"), Path("pyproject.toml")
    if is_file(own):
        return own
    is_ours = is_file(project) and "deeper_tasks" in tomllib.loads(project.read_text("utf-8")).get("tool", {})
    return project if is_ours else None
