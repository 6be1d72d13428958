"""The names of modules: which are modules of tasks, by patterns such as `tasks` and `*_tasks`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

TASK_MODULES = ("tasks", "*_tasks")
"""How modules of tasks, and packages of such modules, are named unless the application says otherwise."""

MODULE_PATTERN_RULE = "write a pattern of a module's name, such as 'tasks', '*_jobs' or 'shop.work.*'"

_NEVER = ("tests", "test", "test_*", "*_test", "*_tests", "conftest", "migrations", "__main__")
_PATTERN = re.compile(r"[\w*?\[\]!-]+(\.[\w*?\[\]!-]+)*")


def is_module_pattern(pattern: object) -> bool:
    """Whether this can be a pattern of modules' names."""
    return isinstance(pattern, str) and _PATTERN.fullmatch(pattern) is not None


def is_named_as(module: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits a part of a module's name, or, if the pattern has a dot, the whole of it."""
    parts = module.split(".")
    return any(
        fnmatchcase(module, pattern) if "." in pattern else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def is_never_taken(name: str) -> bool:
    """Whether a module, by the last part of its name, is for tests, changes a schema, or runs a program."""
    return is_named_as(name, _NEVER)
