"""The stop signals of an attempt: which stops were announced to it, and which of them its handler has seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from msgspec import Struct

from deeper_tasks.domain.stop import Stop

_TIMEOUT = frozenset({Stop.TIMEOUT})


class StopSignals(Struct, kw_only=True, eq=False):
    """
    The stops of one attempt, as its worker and its handler know them. Safe to read from any thread.

    Attributes:
        timeout: how long the handler may run; None without a limit.
        now, started: the clock of where it runs, in seconds, and what that showed at its start.
        held: how much of its time other code than its own has kept it from running, by blocking the loop.
        announced: the stops that are in force, those without an interruption too: a worker that stops
            says so at once, and interrupts at the end of its grace period.
        forced: those by which the code was interrupted.
        seen: those that the handler's own code has read as true, or caught the cancellation of.
        reason: the words that came with the stop that decides.
        exit: what a task or a callback of the handler's tried to end the program by; None: nothing did.
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
        """Whether nothing but the handler itself decides how it ends after so long: neither a stop nor its timeout."""
        return not (
            self.announced
            or self.seen
            or self.exit is not None
            or (self.timeout is not None and ran_for > self.timeout)
        )

    def is_late(self, ran_for: timedelta) -> bool:
        """Whether a handler that ran so long has ended after its timeout, by no fault of others."""
        return self.timeout is not None and ran_for > self.timeout and ran_for - self.held > self.timeout

    def in_force(self) -> frozenset[Stop]:
        """
        Return the stops that are in force at this moment.

        Among them is the timeout as soon as it has passed: code that keeps the loop from turning gets no announcement.
        """
        if self.timeout is None or self.now is None or Stop.TIMEOUT in self.announced:
            return self.announced
        now, most = self.now(), self.timeout.total_seconds()
        is_late = now - self.started > most and now - self.started - self.held_by_others(now) > most
        return self.announced | _TIMEOUT if is_late else self.announced

    def held_by_others(self, until: float) -> float:  # noqa: ARG002 - where the code has a loop for itself, nothing does
        """Return for how many seconds until then other code has kept it from running, by blocking its loop."""
        return 0.0

    def refresh(self) -> None:
        """Take in the stops announced since; where the worker shares its memory there is nothing to do."""

    def mark_seen(self, stops: frozenset[Stop]) -> None:
        """Note that the handler knows of these stops."""
        if not stops <= self.seen:
            self.seen |= stops
