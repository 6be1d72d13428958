"""The names of modules: patterns such as `tasks` and `*_tasks` say which modules have tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

TASK_MODULES = ("tasks", "*_tasks")
"""The default patterns for the names of modules with tasks, and of packages of such modules."""

MODULE_PATTERN_RULE = "write a pattern of a module's name, such as 'tasks', '*_jobs' or 'shop.work.*'"

_NEVER = ("tests", "test", "test_*", "*_test", "*_tests", "conftest", "migrations", "__main__")
_PATTERN = re.compile(r"[\w*?\[\]!-]+(\.[\w*?\[\]!-]+)*")


def is_module_pattern(pattern: object) -> bool:
    """Return whether a value can be a pattern for names of modules."""
    return isinstance(pattern, str) and _PATTERN.fullmatch(pattern) is not None


def is_named_as(module: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches a part of a module's name or, if the pattern has a dot, the whole name."""
    parts = module.split(".")
    return any(
        fnmatchcase(module, pattern) if "." in pattern else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def is_never_taken(name: str) -> bool:
    """Return whether the last part of a module's name is that of tests, of migrations or of a program."""
    return is_named_as(name, _NEVER)
