"""Patterns of queues: an entry such as `tenant-*` serves every queue whose name begins with `tenant-`."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

WILDCARD = "*"
LAST_CHARACTER = chr(0x10FFFF)
"""The greatest character. No name of a queue has it, because it cannot be printed."""


class QueuePattern(Struct, frozen=True, kw_only=True):
    """
    The queues that one pattern of a worker serves: all whose names begin with `prefix`, except the excluded.

    `excluded` are the names that the worker lists itself, `excluded_prefixes` the prefixes of its longer patterns.
    """

    prefix: str
    excluded: frozenset[str] = frozenset()
    excluded_prefixes: tuple[str, ...] = ()

    def matches(self, queue: str) -> bool:
        """Return whether the pattern serves a queue."""
        return (
            queue.startswith(self.prefix)
            and queue not in self.excluded
            and not queue.startswith(self.excluded_prefixes)
        )


class ServedQueues:
    """
    The queues that the entries of one or several workers serve; an entry is a name or a pattern.

    One entry serves a queue: the exact name or, without it, the longest pattern that matches.

    >>> served = ServedQueues({"default": 10, "tenant-*": 2})
    >>> "tenant-7" in served, "emails" in served, served.entry_for("tenant-7")
    (True, False, 'tenant-*')
    """

    __slots__ = ("_names", "_prefixes")

    def __init__(self, entries: Iterable[str]) -> None:
        every = set(entries)
        self._names = frozenset(entry for entry in every if not is_pattern(entry))
        self._prefixes = sorted((prefix_of(entry) for entry in every if is_pattern(entry)), key=len, reverse=True)

    def __contains__(self, queue: str) -> bool:
        return self.entry_for(queue) is not None

    def entry_for(self, queue: str) -> str | None:
        """Return the entry that serves a queue; None if none does."""
        if queue in self._names:
            return queue
        prefix = next((prefix for prefix in self._prefixes if queue.startswith(prefix)), None)
        return None if prefix is None else prefix + WILDCARD

    def pattern_of(self, entry: str) -> QueuePattern:
        """Return the queues that a pattern among the entries serves, without those that another entry serves."""
        prefix = prefix_of(entry)
        return QueuePattern(
            prefix=prefix,
            excluded=frozenset(name for name in self._names if name.startswith(prefix)),
            excluded_prefixes=tuple(
                longer for longer in self._prefixes if longer != prefix and longer.startswith(prefix)
            ),
        )


def is_pattern(entry: str) -> bool:
    """Return whether an entry of a worker's queues is a pattern; if not, it is the name of a queue."""
    return entry.endswith(WILDCARD)


def prefix_of(pattern: str) -> str:
    """Return the beginning of all names that a pattern serves: `tenant-` for `tenant-*`."""
    return pattern.removesuffix(WILDCARD)


def end_of_prefix(prefix: str) -> str:
    """Return a text that sorts after all names that begin with `prefix`, by code points."""
    return prefix + LAST_CHARACTER
