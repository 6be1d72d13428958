"""The settings of a supervisor."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class SupervisorSettings(Struct, frozen=True, kw_only=True):
    """
    How a supervisor works. `command` starts a worker process, to which a process's index and pipe are added.

    `silence_limit` is how many seconds a process may give no sign of life.
    `reload_folders` are watched for changes, if there are any.
    """

    command: tuple[str, ...]
    processes: int
    silence_limit: float = 30.0
    reload_folders: tuple[Path, ...] = ()
