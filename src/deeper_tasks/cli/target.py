"""The target: the store that a command works on, and the manager that opens it."""

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
from deeper_tasks.cli.completion.candidates import complete_place
from deeper_tasks.config import load_settings
from deeper_tasks.config.working_folder import is_file, why_unsearchable
from deeper_tasks.errors import ConfigError
from deeper_tasks.integrations.events import StoreMade

R = TypeVar("R")

_DISABLED = "deeper: tasks are disabled here, by enabled = false or a url of noop://: the job is neither kept nor run"


class Target(Struct, frozen=True, kw_only=True):
    """The options --url, --app and --json of a command line; without --url and --app, the settings name the store."""

    url: str | None
    app: str | None
    as_json: bool

    @property
    def knows_tasks(self) -> bool:
        """Whether the manager has, or may have, the application's tasks: not if only a URL is given."""
        return self.app is not None or self.url is None

    @contextmanager
    def opened(self, *, with_tasks: bool = False, create: bool = False) -> Iterator[BackgroundTaskManager]:
        """
        Yield the manager with its store open, to be used through `manager.sync`.

        with_tasks: Import the modules that the setting `include` names.
        create: Make the store if it does not exist, and warn if tasks are disabled, so that no job would be kept. Only
            commands that enqueue do so.

        Raises:
            ConfigError: neither the command line nor the settings name a store, or the named one cannot be used.
            BackendUnavailableError, SchemaError: the store cannot be opened.
        """
        with self.closing(with_tasks=with_tasks) as manager:
            manager.subscribe(_announce_new_store, StoreMade)
            if create and not manager.backend.capabilities.runs_jobs:
                click.echo(_DISABLED, err=True)
            manager.sync.open(create=create)
            yield manager

    @contextmanager
    def closing(self, *, with_tasks: bool = False) -> Iterator[BackgroundTaskManager]:
        """Yield the manager as `opened` does, but with its store not yet open; close it afterwards."""
        # Text that the application prints at its import must not get into the answer on stdout.
        with redirect_stdout(sys.stderr):
            manager = self._manager(with_tasks=with_tasks)
        abilities = manager.backend.capabilities
        if abilities.runs_jobs and not abilities.is_shared:
            raise ConfigError(
                f"the store {manager.settings.url} exists in one process only, so a command cannot see its jobs; "
                "use a store that processes share, such as sqlite:///tasks.db"
            )
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
                "no store is named; give --url sqlite:///tasks.db or --app myapp.tasks:manager, "
                f"set DEEPER_TASKS_URL, or write url = '…' into deeper_tasks.toml{f'; {obstacle}' if obstacle else ''}"
            )
        find_from_working_folder()
        return BackgroundTaskManager(settings=settings if with_tasks else msgspec.structs.replace(settings, include=()))


def takes_target(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options --url, --app and --json; the command gets them as its first argument, a `Target`."""

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


def _announce_new_store(event: StoreMade) -> None:
    click.echo(f"deeper: made a new, empty store at {event.place}", err=True)


def _has_settings() -> bool:
    """Whether the environment or a file has settings; without, the default store would be a guess."""
    return bool(os.environ.get("DEEPER_TASKS_URL", "").strip()) or settings_file() is not None


def settings_file() -> Path | None:
    """Return the settings file of the working folder, or None."""
    own, project = Path("deeper_tasks.toml"), Path("pyproject.toml")
    if is_file(own):
        return own
    has_table = is_file(project) and "deeper_tasks" in tomllib.loads(project.read_text("utf-8")).get("tool", {})
    return project if has_table else None
