"""The ends of jobs in a span of time, and how many of them were failures."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from deeper_tasks.domain.state import DEAD_LETTER, State


class Ends(Struct, frozen=True, kw_only=True):
    """The number of jobs that ended, and the number of those that ended as failed or discarded."""

    ended: int
    failed: int

    @classmethod
    def of(cls, *counts: dict[State, int]) -> Self:
        """Return the ends that are counted by state, by one queue or by several."""
        return cls(
            ended=sum(sum(each.values()) for each in counts),
            failed=sum(each.get(state, 0) for each in counts for state in DEAD_LETTER),
        )

    @property
    def error_rate(self) -> float | None:
        """The share of failures in all ends, from 0 to 1; None if nothing ended."""
        return self.failed / self.ended if self.ended else None
