"""Independent steps of maintenance: a step that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from deeper_tasks.errors import BackendUnavailableError

T = TypeVar("T")


async def each_of(*steps: Callable[[], Awaitable[T]]) -> list[T]:
    """
    Run steps in order, also after one has failed; return their results.

    Raises:
        BackendUnavailableError: the store is away; the steps that follow were not tried.
        Exception: the error of the first step that failed; all steps were tried.
    """
    answers: list[T] = []
    first: Exception | None = None
    for step in steps:
        try:
            answers.append(await step())
        except BackendUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised below
            first = first or error
    if first is not None:
        raise first
    return answers
