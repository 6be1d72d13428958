"""An area: functions of a manager that belong together."""

from __future__ import annotations

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
