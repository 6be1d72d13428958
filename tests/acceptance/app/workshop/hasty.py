"""The fleet's application, whose workers give code that was told to stop half a second, not five."""

from deeper_tasks.worker import worker
from workshop.fleet import manager

__all__ = ["manager"]

worker.LAST_WORDS = 0.5
