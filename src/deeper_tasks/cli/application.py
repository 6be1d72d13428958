"""The application: the module that defines its manager, imported by a name such as `myapp.tasks:manager`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import deeper_tasks
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.config.working_folder import absolute, is_file, why_unsearchable
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.errors import ConfigError

_LIBRARY = Path(deeper_tasks.__file__).parent


def load_manager(place: str) -> BackgroundTaskManager:
    """
    Return the manager that `place` names, such as `myapp.tasks:manager`.

    The module is imported with the working folder first on Python's path.

    Raises:
        ConfigError: the module cannot be imported, or has no such manager; the message says what to write instead.
    """
    name, colon, attribute = place.partition(":")
    if name.endswith(".py") or os.sep in name:
        raise ConfigError(f"{place!r} names a file, not a module; write {_module_of(name)}:{attribute or 'manager'}")
    if not (name and colon and attribute):
        raise ConfigError(f"{place!r} names no manager; {_likely(name)}")
    module = _import(name)
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise ConfigError(f"{name!r} has no {attribute!r}; {_managers_in(module)}") from None
    if not isinstance(found, BackgroundTaskManager):
        raise ConfigError(f"{place!r} is {type(found).__name__}, not a BackgroundTaskManager; {_managers_in(module)}")
    found.place = place
    return found


def written_place(place: str) -> str:
    """Return the likely `module:manager` for a place that names a file, or a module without its manager."""
    name, _, attribute = place.partition(":")
    module = _module_of(name) if name.endswith(".py") or os.sep in name else name
    if not attribute:
        with suppress(ConfigError):
            attribute = next(iter(_names_of_managers(_import(module))), "")
    return f"{module}:{attribute or 'manager'}"


def _module_of(path: str) -> str:
    """Return the name by which a file is imported, starting below the innermost folder that is not a package."""
    file = absolute(Path(path))
    parts = [] if file.stem == "__init__" else [file.stem]
    for folder in file.parents:
        if not is_file(folder / "__init__.py"):
            break
        parts.insert(0, folder.name)
    return ".".join(parts)


def _likely(name: str) -> str:
    """Return the advice for a place without a manager: the module has one, or the colon was written as a dot."""
    if _is_module(name):
        return _managers_in(_import(name))
    module, _, attribute = name.rpartition(".")
    return f"write {module}:{attribute}" if _is_module(module) else "write module:manager, such as myapp.tasks:manager"


def _is_module(name: str) -> bool:
    find_from_working_folder()
    # find_spec raises instead of returning None for names such as "".
    with suppress(ImportError, AttributeError, ValueError):
        return importlib.util.find_spec(name) is not None
    return False


def find_from_working_folder() -> None:
    """Put the working folder first on Python's path, as `python -m` does, so that its modules can be imported."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - as sys.path has it
    except OSError:
        # The working folder was removed, so it has no modules to import.
        return
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import(name: str) -> ModuleType:
    find_from_working_folder()
    try:
        return importlib.import_module(name)
    except ConfigError as error:
        raise _wrong_settings(name, error, _place(error)) from error
    except ExceptionGroup as group:
        faults = [error for error in group.exceptions if isinstance(error, ConfigError)]
        if len(faults) < len(group.exceptions):
            raise _unimportable(name, group) from group
        place = _place(group)
        raise ExceptionGroup(group.message, [_wrong_settings(name, fault, place) for fault in faults]) from group
    except Exception as error:
        raise _unimportable(name, error) from error


def _wrong_settings(name: str, fault: ConfigError, place: str) -> ConfigError:
    return ConfigError(f"the settings of {name!r} cannot be used{place}: {fault}")


def _unimportable(name: str, error: Exception) -> ConfigError:
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        obstacle = why_unsearchable()
        reason = f"there is no module {error.name!r} in the working folder or on Python's path"
        reason += f"; {obstacle}" if obstacle else ""
    else:
        # The application's manager, with its own redacted names, does not exist yet: the built-in names must do.
        reason = f"{type(error).__name__}: {Redactor()(str(error))}{_place(error)}"
    return ConfigError(f"cannot import {name!r}: {reason}")


def _place(error: Exception) -> str:
    """Return the line of the application that raised the error, or called this library when it raised, else ""."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = [frame for frame in frames if not Path(frame.filename).is_relative_to(_LIBRARY)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _managers_in(module: ModuleType) -> str:
    names = _names_of_managers(module)
    if not names:
        return "no manager is defined there"
    return f"there is {', '.join(f'{module.__name__}:{name}' for name in names)}"


def _names_of_managers(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, BackgroundTaskManager)]
