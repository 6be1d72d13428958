"""The application: its manager, found by `module:manager`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from operator import attrgetter
from types import ModuleType

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import ConfigError


def load_manager(place: str) -> BackgroundTaskManager:
    """
    Return the manager that `place` names, such as `myapp.tasks:manager`.

    Its module is imported, with the working folder first on the path.

    Raises:
        ConfigError: there is no such module or manager; the message has the way out.
    """
    name, colon, attribute = place.partition(":")
    if not (name and colon and attribute):
        raise ConfigError(f"{place!r} names no manager; write module:manager, such as myapp.tasks:manager")
    module = _import(name)
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise ConfigError(f"{name!r} has no {attribute!r}; {_managers_in(module)}") from None
    if not isinstance(found, BackgroundTaskManager):
        raise ConfigError(f"{place!r} is {type(found).__name__}, not a BackgroundTaskManager; {_managers_in(module)}")
    found.place = place
    return found


def find_from_working_folder() -> None:
    """Let modules of the working folder be imported, as `python -m` does."""
    folder = os.getcwd()  # noqa: PTH109 - as sys.path has it
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import(name: str) -> ModuleType:
    find_from_working_folder()
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            reason = f"there is no module {error.name!r} in the working folder or on Python's path"
        else:
            reason = f"{type(error).__name__}: {error}{_place(error)}"
        raise ConfigError(f"cannot import {name!r}: {reason}") from error


def _place(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename == __file__:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"


def _managers_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, BackgroundTaskManager)]
    if not names:
        return "no manager is defined there"
    return f"there is {', '.join(f'{module.__name__}:{name}' for name in names)}"
