"""The ids that callers give to their calls: each stands for one call."""

from __future__ import annotations

from collections.abc import Callable

from deeper_tasks.errors import DuplicateJobError


class GivenIds:
    """The ids of the calls of one request. Of a call itself only a number is kept."""

    def __init__(self, *, name: Callable[[int], str]) -> None:
        """Name a call's place in messages by `name`."""
        self._name = name
        self._first: dict[str, tuple[int, int]] = {}

    def add(self, request_id: str, task: str, arguments: str, *, place: int) -> None:
        """
        Note what an id stands for.

        Raises:
            DuplicateJobError: it stands for another call already.
        """
        content = hash((task, arguments))
        first, known = self._first.setdefault(request_id, (place, content))
        if content != known:
            raise DuplicateJobError(
                f"the id {request_id!r} is that of {self._name(first)} already, "
                "which has another task or other arguments; give each call its own id",
                request_id=request_id,
            )
