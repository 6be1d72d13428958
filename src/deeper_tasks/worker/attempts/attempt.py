"""An attempt: one job in one of this worker's slots, and how it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.stop import Stop, foremost
from deeper_tasks.tasks import CurrentJob, StopSignals
from deeper_tasks.worker.attempts.stalls import Stalls


class Attempt(StopSignals, eq=False):
    """
    A job that runs here, and the stops that were announced to it.

    Attributes:
        claimed: the worker's monotonic time when the claim's answer came.
        context: the job as its handler gets it; `onlooker` is the same for middleware.
        interrupt: stops the code. It is set while the code runs, and may be called more than once.
        pass_on: brings a stop to code that does not share the worker's memory.
        begin: is awaited by an executor that makes a process first, when the handler is about to be called.
        thread: the id of the thread that runs the handler; None if no thread does.
        overdue_since: the worker's monotonic time at which the timeout passed, set at the first interruption.
        ignored: how many interruptions have had no effect since then.
        stalls: the stalls of the loop on which the code runs beside other code; None if it runs elsewhere, or has
            not begun.
        on_loop_since: the worker's monotonic time at which the code came to the loop; 0 means at its start.
        excused: the seconds by which the deadline was put off for stalls.
        is_among_long: whether the jobs of the queue take so long that one more write for each does not matter.
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
        """Whether the start of the job must be written to the store before the job starts."""
        job = self.job
        if job.has_started:
            return False
        return self.is_among_long or job.is_quarantined or job.attempt > 1 or job.is_last_attempt

    @property
    def runs_unreported(self) -> bool:
        """Whether the code has started, and its start was not written before."""
        return self.context is not None and not self.must_report_start and not self.job.has_started

    @property
    def stop(self) -> Stop | None:
        """The stop by which the code was interrupted; of several stops the one that decides."""
        return foremost(self.forced) if self.forced else None

    def held_by_others(self, until: float) -> float:
        """Return for how many seconds, until this time, other code has blocked the loop that this code runs on."""
        if self.stalls is None:
            return 0.0
        return self.stalls.held_by_others(self.job.id, self.on_loop_since or self.started, until)

    def announce(self, stop: Stop, reason: str = "") -> None:
        """Announce a stop to the code; the interruption follows later, or never."""
        if stop not in self.announced:
            if foremost((*self.announced, stop)) is stop:
                self.reason = reason
            self.announced |= {stop}
            if self.pass_on is not None:
                self.pass_on(stop, reason)

    def tell_to_stop(self, stop: Stop, reason: str = "") -> None:
        """Announce a stop and interrupt the code. Of several reasons the one with the highest precedence counts."""
        self.announce(stop, reason)
        self.forced |= {stop}
        if self.interrupt is not None:
            self.interrupt()
