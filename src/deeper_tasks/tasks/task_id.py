"""The id that an enqueue returns: a string that also says whether the job is new."""

from __future__ import annotations

from typing import Self

from deeper_tasks.tasks.foreign_names import ForeignTaskIdNames


class TaskId(ForeignTaskIdNames, str):
    """
    The id of a job.

    `is_new` is False if the enqueue made no job: another job held the unique key, and this is its id, or the same id
    had been sent before.
    """

    __slots__ = ("is_new",)

    is_new: bool

    def __new__(cls, value: str, *, is_new: bool = True) -> Self:
        """Make the id of a job that is new, or existed before."""
        task_id = super().__new__(cls, value)
        task_id.is_new = is_new
        return task_id
