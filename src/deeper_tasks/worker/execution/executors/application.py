"""The application in its processes for jobs: what the zygote imports, and what its children run and hide."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.hooks.hook_names import HookNames, names_of


@dataclass(frozen=True, kw_only=True)
class Application:
    """
    By default nothing is imported, and no hook runs.

    `redactor` takes secrets out of what children log to handlers of their own.
    """

    modules: Callable[[], Iterable[str]] = tuple
    hooks: HookNames | None = None
    redactor: Redactor | None = None

    def all_modules(self) -> list[str]:
        """Return the modules to import, sorted: those of the tasks and those of the hooks."""
        return sorted({*self.modules(), *(self.hooks.modules if self.hooks is not None else ())})


def application_of(collaborators: Collaborators) -> Application:
    """Return the application whose tasks and hooks these collaborators know."""
    registry, hooks = collaborators.registry, collaborators.hooks
    return Application(
        modules=lambda: (task.module for task in registry if task.module is not None),
        hooks=names_of(hooks) if hooks else None,
        redactor=collaborators.redactor,
    )
