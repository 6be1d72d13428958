"""Steps of upkeep that have nothing to do with one another: one that fails keeps none of the others from being done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from deeper_tasks.errors import BackendUnavailableError

T = TypeVar("T")


async def each_of(*steps: Callable[[], Awaitable[T]]) -> list[T]:
    """
    Take steps in their order, each also where one before it has failed; returns their answers.

    Raises:
        BackendUnavailableError: the store is away; no further step was tried.
        Exception: what the first step raised that failed. All were tried.
    """
    answers: list[T] = []
    first: Exception | None = None
    for step in steps:
        try:
            answers.append(await step())
        except BackendUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised in the end
            first = first or error
    if first is not None:
        raise first
    return answers
