"""The changes of an application's files, after which `--reload` restarts the workers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeper_tasks.config.working_folder import may
from deeper_tasks.errors import ConfigError

if TYPE_CHECKING:
    from watchfiles import Change

_SUFFIXES = frozenset({".py", ".toml"})
_IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


async def changes_in(folders: Sequence[Path]) -> AsyncIterator[list[Path]]:
    """Yield, after each change, the application's source files that changed."""
    from watchfiles import awatch

    def is_wanted(_: Change, path: str) -> bool:
        return is_source(Path(path), folders=folders)

    async for changes in awatch(*folders, watch_filter=is_wanted):
        yield sorted({Path(path) for _, path in changes})


def is_source(path: Path, *, folders: Sequence[Path]) -> bool:
    """Whether a path is a Python or TOML file in one of the folders, outside caches and virtual environments."""
    if path.suffix not in _SUFFIXES or path.name.startswith("."):
        return False
    inside = [path.relative_to(folder).parts for folder in folders if path.is_relative_to(folder)]
    return any(not any(part.startswith(".") or part in _IGNORED for part in parts[:-1]) for parts in inside)


def check_watching(folders: Sequence[Path]) -> None:
    """
    Check that the folders can be watched.

    Raises:
        ConfigError: watchfiles is not installed, or a folder cannot be read; the message has the way out.
    """
    try:
        import watchfiles  # noqa: F401 - only to check that it is installed
    except ImportError as error:
        raise ConfigError("--reload needs watchfiles: install deeper_tasks with its extra 'reload'") from error
    for folder in folders:
        if not may(folder, os.R_OK | os.X_OK):
            raise ConfigError(
                f"--reload cannot watch the folder {str(folder)!r}: user {os.geteuid()} may not read it; "
                "start the worker in the application's folder"
            )
