"""An attempt: one job in one of this worker's slots, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.stop import Stop, foremost
from deeper_tasks.tasks import CurrentJob, StopSignals
from deeper_tasks.worker.attempts.stalls import Stalls


class Attempt(StopSignals, eq=False):
    """
    A job that runs here, and the stops that it was told of.

    `interrupt` is how its executor stops the code: it is set while the code
    runs, and may be called more than once. `pass_on` is how a stop reaches
    code that does not share the worker's memory. `context` is the job as its handler
    gets it, `onlooker` the same for middleware. `claimed` is the worker's monotonic
    time when the claim's answer came.
    `thread` is the id of the thread that runs it, None elsewhere than in a thread. `overdue_since` is the worker's
    monotonic time at which its timeout passed, once it was interrupted for that, and `ignored` how often that has been
    in vain since.
    `stalls` are those of the loop on which its code runs beside other code; None where it runs elsewhere, or has not
    begun. It runs there `on_loop_since` that time of its clock; 0: since its start. `excused` is by how many seconds
    its deadline was put off for them.
    `begin`, where a process has to be made first, is how its executor tells that the handler is about to be called.
    `is_among_long`: the jobs of its queue take so
    long that a write more for each does not matter.
    """

    job: ClaimedJob
    claimed: float
    context: CurrentJob | None = None
    onlooker: CurrentJob | None = None
    deadline: float | None = None
    overdue_since: float | None = None
    ignored: int = 0
    thread: int | None = None
    interrupt: Callable[[], object] | None = None
    begin: Callable[[], Awaitable[None]] | None = None
    pass_on: Callable[[Stop, str], object] | None = None
    task: asyncio.Task[object] | None = None
    stalls: Stalls | None = None
    on_loop_since: float = 0.0
    excused: float = 0.0
    is_among_long: bool = False

    @property
    def must_report_start(self) -> bool:
        """Whether the store must know that the job starts, before it does."""
        job = self.job
        if job.has_started:
            return False
        return self.is_among_long or job.is_quarantined or job.attempt > 1 or job.is_last_attempt

    @property
    def runs_unreported(self) -> bool:
        """Whether its code has been started, and the store was not told so before."""
        return self.context is not None and not self.must_report_start and not self.job.has_started

    @property
    def stop(self) -> Stop | None:
        """The stop by which the code was interrupted; of several the one that decides."""
        return foremost(self.forced) if self.forced else None

    def held_by_others(self, until: float) -> float:
        """Return for how many seconds until then other code has kept it from running, by blocking its loop."""
        if self.stalls is None:
            return 0.0
        return self.stalls.held_by_others(self.job.id, self.on_loop_since or self.started, until)

    def announce(self, stop: Stop, reason: str = "") -> None:
        """Let the code know that it should stop; the interruption follows later, or never."""
        if stop not in self.told:
            if foremost((*self.told, stop)) is stop:
                self.reason = reason
            self.told |= {stop}
            if self.pass_on is not None:
                self.pass_on(stop, reason)

    def tell_to_stop(self, stop: Stop, reason: str = "") -> None:
        """Interrupt the code. Of several reasons the one that comes first by precedence counts."""
        self.announce(stop, reason)
        self.forced |= {stop}
        if self.interrupt is not None:
            self.interrupt()
