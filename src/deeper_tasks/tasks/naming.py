"""The name of a function: `module.qualname`, by which a worker in another process can import it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deeper_tasks.errors import TaskError
from deeper_tasks.tasks.quoting import quoted

_PROGRAMS = frozenset({"__main__", "__mp_main__"})
"""The names of the program's own module, in the program and in a process that multiprocessing spawns."""
_LONGEST_NAME = 512


def module_of(function: Callable[..., Any]) -> str | None:
    """Return the module that a worker imports to find the function; None if there is no such module."""
    name = function.__module__
    if name not in _PROGRAMS:
        return name
    # sys.modules is the second choice: under a debugger or profiler, the tool is __main__ there, not the program that
    # it runs; the same holds for a program that multiprocessing is just importing.
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return importable_program(names if names.get("__name__") == name else vars(sys.modules[name]))


def importable_program(names: Mapping[str, Any]) -> str | None:
    """Return the name under which other processes can import a program, given its module's names, or None."""
    spec, file = names.get("__spec__"), names.get("__file__")
    if spec is not None:
        # The program is a zip file or a folder, whose `__main__` is another program in any other process.
        return None if spec.name == "__main__" else str(spec.name)
    if file is None:
        return None
    path = Path(file).resolve()
    return path.stem if path.stem.isidentifier() and path.parent in import_folders() else None


def import_folders() -> set[Path]:
    """Return the folders of Python's path, with links resolved."""
    folders = set()
    for entry in sys.path:
        # A relative entry raises if the working folder was removed.
        with suppress(OSError):
            folders.add(Path(entry).resolve())
    return folders


def importable_name(module: str) -> str:
    """Return the name under which other processes can import a module of this process; else its own name."""
    return (importable_program(vars(sys.modules[module])) if module in _PROGRAMS else None) or module


def default_name(function: Callable[..., Any]) -> str:
    """
    Return `module.qualname` of a function.

    Raises:
        TaskError: a worker could not import the function by such a name.
    """
    qualname = function.__qualname__
    if "<" in qualname:
        kind = "a lambda" if function.__name__ == "<lambda>" else "defined inside another function"
        message = f"{qualname} is {kind}, so a worker cannot import it; define it at module level, or give name=…"
        raise TaskError(message)
    module = module_of(function)
    if module is None:
        message = (
            f"{qualname} is defined in __main__, which a worker cannot import; "
            "move it to a module that can be imported, or give name=…"
        )
        raise TaskError(message)
    return f"{module}.{qualname}"


def check_name(name: object) -> str:
    """Return the name of a task; raise TaskError if it is empty, too long, or has spaces or control characters."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or " " in name:
        message = f"a task's name is a text of 1 to {_LONGEST_NAME} characters without spaces, not {quoted(name)}"
        raise TaskError(message)
    return name
