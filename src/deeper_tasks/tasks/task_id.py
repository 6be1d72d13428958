"""The id that an enqueue returns: a string that also says whether the job is new."""

from __future__ import annotations

from typing import Self

from deeper_tasks.tasks.habits import TaskIdHabits


class TaskId(TaskIdHabits, str):
    """
    The id of a job.

    `is_new` is False when the enqueue made no job: a unique key was held (then
    this is the holder's id), or the same id had been sent before.
    """

    __slots__ = ("is_new",)

    is_new: bool

    def __new__(cls, value: str, *, is_new: bool = True) -> Self:
        """Make the id of a job that is new, or was there before."""
        task_id = super().__new__(cls, value)
        task_id.is_new = is_new
        return task_id
