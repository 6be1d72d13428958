"""An area: functions of a manager that belong together."""

from __future__ import annotations

from typing import Any

from deeper_tasks.manager.core import ManagerCore
from deeper_tasks.manager.parts import Parts


class Area:
    """
    Functions of a manager about one subject. They reach all that they need by the core.

    The facade inherits from the areas whose functions are flat on the manager (`manager.cancel_task(…)`), and
    has an object of each area that is a namespace (`manager.queues.pause(…)`).
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    @property
    def _parts(self) -> Parts:
        return self._core.parts


class Namespace:
    """An object that holds the functions of an area by a name, such as `manager.queues`."""


class NamespaceHolder:
    """An object whose namespaces cannot be assigned: such an assignment is most likely intended for a setting."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Namespace):
            raise AttributeError(  # noqa: TRY004 - the attribute is what is wrong
                f"{name} cannot be assigned: it holds the functions of manager.{name}; "
                f"give the setting to the manager when you make it: BackgroundTaskManager(url, {name}=…)"
            )
        super().__setattr__(name, value)
