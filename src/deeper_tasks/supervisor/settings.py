"""The settings of a supervisor."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class SupervisorSettings(Struct, frozen=True, kw_only=True):
    """
    The settings of a supervisor.

    `command` starts a worker process; the index of the process and its pipe are added. `silence_limit` is the number of
    seconds after which a process without a sign of life is killed. The workers restart after a change in
    `reload_folders`.
    """

    command: tuple[str, ...]
    processes: int
    silence_limit: float = 30.0
    reload_folders: tuple[Path, ...] = ()
