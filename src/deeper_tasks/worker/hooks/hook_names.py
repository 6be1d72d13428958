"""The names of hooks: by them a process for jobs, which shares no memory with its worker, imports the hooks."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter

from msgspec import Struct

from deeper_tasks.domain.redactor import Redact, Redactor
from deeper_tasks.errors import HookError
from deeper_tasks.tasks.naming import module_of
from deeper_tasks.worker.hooks.hooks import Hook, Hooks, describe


class HookName(Struct, frozen=True):
    """The place that a hook is imported from, as a task is. Without a module it cannot be imported."""

    module: str | None
    qualname: str


class HookNames(Struct, frozen=True, kw_only=True):
    """The hooks of a manager by their names, in their order."""

    starts: list[HookName]
    stops: list[HookName]

    @property
    def modules(self) -> set[str]:
        """The modules to import for them."""
        return {name.module for name in (*self.starts, *self.stops) if name.module is not None}

    def find(self) -> Hooks:
        """
        Import the hooks.

        Raises:
            HookError: one of them cannot be found by its name.
        """
        hooks = Hooks()
        hooks.starts, hooks.stops = [*map(_find, self.starts)], [*map(_find, self.stops)]
        return hooks


class RedactorName(Struct, frozen=True, kw_only=True):
    """The arguments that a redactor was made with; its functions by their names."""

    names: tuple[str, ...]
    patterns: tuple[str, ...]
    functions: list[HookName]

    def find(self) -> Redactor:
        """Make the redactor again. If one of its functions cannot be found, it withholds every text."""
        redactor = Redactor(names=self.names, patterns=self.patterns)
        redactor.functions += [_redact_by(name) for name in self.functions]
        return redactor


def name_redactor(redactor: Redactor) -> RedactorName:
    """Return the name of a redactor of this process."""
    functions = [*map(_name_of, redactor.functions)]
    return RedactorName(names=redactor.names, patterns=redactor.patterns, functions=functions)


def names_of(hooks: Hooks) -> HookNames:
    """Return the names of hooks that stand in this process."""
    return HookNames(starts=[*map(_name_of, hooks.starts)], stops=[*map(_name_of, hooks.stops)])


def _redact_by(name: HookName) -> Redact:
    try:
        return _find(name)
    except HookError as error:
        missing = error

    def withhold(_: str) -> str:
        raise missing

    return withhold


def _name_of(hook: Hook) -> HookName:
    try:
        here = attrgetter(hook.__qualname__)(sys.modules[hook.__module__])
        module = module_of(hook)
    except (AttributeError, KeyError):
        here = module = None
    # A method of an object, or a function inside another one, cannot be imported by its name.
    if module is None or (here is not hook and getattr(here, "__wrapped__", None) is not hook):
        return HookName(None, describe(hook))
    return HookName(module, hook.__qualname__)


def _find(name: HookName) -> Hook:
    where = name.qualname if name.module is None else f"{name.module}.{name.qualname}"
    if name.module is None:
        message = (
            f"a process for jobs cannot import the hook {where}; "
            "define it at the top level of a module, as tasks with executor='process' are"
        )
        raise HookError(message)
    try:
        found: Hook = attrgetter(name.qualname)(importlib.import_module(name.module))
    except BaseException as error:
        message = f"a process for jobs cannot import the hook {where}: {type(error).__name__}: {error}"
        raise HookError(message) from error
    return found
