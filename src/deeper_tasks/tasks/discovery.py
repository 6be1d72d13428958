"""Discovery: finds the modules of a package without importing them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from types import ModuleType

from deeper_tasks.domain.module_names import MODULE_PATTERN_RULE, is_module_pattern, is_never_taken
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks.quoting import quoted


def check_patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    """
    Return patterns of module names as a tuple.

    Raises:
        InvalidOptionError: one of them is not such a pattern.
    """
    checked = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in checked:
        if not is_module_pattern(pattern):
            raise InvalidOptionError(f"option 'task_modules' cannot hold {quoted(pattern)}: {MODULE_PATTERN_RULE}")
    return checked


def modules_below(package: ModuleType) -> list[str]:
    """Return the names of all modules of a package, at any depth, except tests, migrations and programs."""
    return list(_walk(getattr(package, "__path__", ()), f"{package.__name__}."))


def _walk(path: Iterable[str], prefix: str) -> Iterator[str]:
    for found in pkgutil.iter_modules(path, prefix):
        if not is_never_taken(found.name.removeprefix(prefix)):
            yield found.name
            if found.ispkg:
                yield from _walk(_path_of(found), f"{found.name}.")


def _path_of(package: pkgutil.ModuleInfo) -> Iterable[str]:
    spec = package.module_finder.find_spec(package.name, None)
    return () if spec is None else spec.submodule_search_locations or ()
