"""The stop signals of an attempt: the announced stops, and those of them that its handler has seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from msgspec import Struct

from deeper_tasks.domain.stop import Stop

_TIMEOUT = frozenset({Stop.TIMEOUT})


class StopSignals(Struct, kw_only=True, eq=False):
    """
    The stops of one attempt, shared by its worker and its handler. Safe to read from any thread.

    Attributes:
        timeout: how long the handler may run; None without a limit.
        now, started: the clock of the place where the handler runs, in seconds, and its value at the start.
        held: how long other code has kept the handler from running, by blocking the event loop.
        announced: the stops in force, including those without an interruption yet: a worker that stops announces
            the stop at once, and interrupts the handler at the end of its grace period.
        forced: the stops that have interrupted the handler.
        seen: the stops that the handler has read as true, or whose cancellation it has caught.
        reason: the message of the stop that decides how the attempt ends.
        exit: the exception by which a task or callback of the handler tried to end the program, or None.
    """

    timeout: timedelta | None = None
    now: Callable[[], float] | None = None
    started: float = 0.0
    held: timedelta = timedelta(0)
    announced: frozenset[Stop] = frozenset()
    forced: frozenset[Stop] = frozenset()
    seen: frozenset[Stop] = frozenset()
    reason: str = ""
    exit: BaseException | None = None

    def is_undisturbed(self, ran_for: timedelta) -> bool:
        """Whether the handler alone decides how the attempt ends after this time: no stop was announced or is due."""
        return not (
            self.announced
            or self.seen
            or self.exit is not None
            or (self.timeout is not None and ran_for > self.timeout)
        )

    def is_late(self, ran_for: timedelta) -> bool:
        """Whether a handler that ran this long has exceeded its timeout, not counting time in which it was held up."""
        return self.timeout is not None and ran_for > self.timeout and ran_for - self.held > self.timeout

    def in_force(self) -> frozenset[Stop]:
        """
        Return the stops that are in force now.

        A timeout that has passed is included, even before the worker has announced it: code that blocks the loop also
        keeps the worker from announcing it.
        """
        if self.timeout is None or self.now is None or Stop.TIMEOUT in self.announced:
            return self.announced
        now, most = self.now(), self.timeout.total_seconds()
        is_late = now - self.started > most and now - self.started - self.held_by_others(now) > most
        return self.announced | _TIMEOUT if is_late else self.announced

    def held_by_others(self, until: float) -> float:  # noqa: ARG002 - a handler with its own loop is never held up
        """Return for how many seconds, up to `until`, other code has kept the handler from running."""
        return 0.0

    def refresh(self) -> None:
        """Read stops that were announced since; nothing to do in a handler that shares the worker's memory."""

    def mark_seen(self, stops: frozenset[Stop]) -> None:
        """Note that the handler knows of these stops."""
        if not stops <= self.seen:
            self.seen |= stops
