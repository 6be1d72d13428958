"""The areas of the facade: its functions, by subject."""

from deeper_tasks.manager.areas.area import Area, Namespace, NamespaceHolder
from deeper_tasks.manager.areas.control import ControlArea
from deeper_tasks.manager.areas.enqueue import EnqueueArea
from deeper_tasks.manager.areas.life import LifeArea
from deeper_tasks.manager.areas.queues import Queues
from deeper_tasks.manager.areas.reading import ReadingArea
from deeper_tasks.manager.areas.recurring import RecurringArea

__all__ = [
    "Area",
    "ControlArea",
    "EnqueueArea",
    "LifeArea",
    "Namespace",
    "NamespaceHolder",
    "Queues",
    "ReadingArea",
    "RecurringArea",
]
