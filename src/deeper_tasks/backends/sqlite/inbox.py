"""The inbox of a thread: its requests, in the order in which they came."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from deeper_tasks import native

T = TypeVar("T")


class Inbox(Generic[T]):
    """
    Items, and a sign for each. Any thread puts them in, and one thread takes them out.

    An exception that is raised in the taking thread during its wait may lose the sign, and never an item. A call of
    `sign` replaces the lost one.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._signs: native.SimpleQueue[None] = native.SimpleQueue()

    def put(self, item: T) -> None:
        """Put an item in, and give a sign."""
        self._items.append(item)
        self._signs.put(None)

    def sign(self) -> None:
        """Give a sign without an item."""
        self._signs.put(None)

    def wait(self) -> None:
        """Wait for a sign, and use it up."""
        self._signs.get()

    @property
    def has_signs(self) -> bool:
        """Whether `wait` returns at once."""
        return not self._signs.empty()

    @property
    def is_empty(self) -> bool:
        """Whether there is no item."""
        return not self._items

    def take(self) -> T | None:
        """Take the first item out; None: there is none."""
        return self._items.popleft() if self._items else None
