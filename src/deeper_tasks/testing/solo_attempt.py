"""A solo attempt: runs one attempt for the testing kit, and moves the clock whenever the attempt waits for time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from deeper_tasks.domain.stop import Stop
from deeper_tasks.testing.clock import ManualClock, real_sleep
from deeper_tasks.testing.demands import Demands
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.process.exits import confined_exits
from deeper_tasks.worker.settling.attempt_end import AttemptEnd


class SoloAttempt:
    """Runs an attempt to its end, however much of the kit's time that takes."""

    def __init__(self, attempt: Attempt, *, clock: ManualClock, deadlines: Deadlines, demands: Demands) -> None:
        self._attempt = attempt
        self._clock = clock
        self._deadlines = deadlines
        self._demands = demands
        self.was_broken_off = False
        """Whether the kit did not wait for the end: the job is to be released."""

    async def run(self, runner: Runner, *, base: BaseContext) -> AttemptEnd | None:
        """
        Return the end of the attempt.

        Raises:
            StuckJobError: it did not end.
        """
        attempt = self._attempt
        running = attempt.task = asyncio.Task(runner.run(attempt), context=base.fresh())
        try:
            with confined_exits(asyncio.get_running_loop()):
                await self._wait_for(running)
        finally:
            if not running.done():
                await self._break_off(running)
        return running.result()

    async def _wait_for(self, running: asyncio.Task[AttemptEnd | None]) -> None:
        loop, has_slept = asyncio.get_running_loop(), asyncio.Event()
        with self._clock.watched(lambda: loop.call_soon_threadsafe(has_slept.set)):
            while not running.done():
                alarm = self._clock.next_alarm()
                if alarm is not None:
                    self._pass_time(alarm)
                    await _let_run()
                    continue
                sleeping = asyncio.ensure_future(has_slept.wait())
                try:
                    done, _ = await asyncio.wait(
                        (running, sleeping), timeout=self._demands.patience, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    sleeping.cancel()
                has_slept.clear()
                if not done:
                    raise self._demands.stuck(self._attempt.job)

    def _pass_time(self, alarm: datetime) -> None:
        """Move the clock to when the next sleeper of a job wakes, or to the deadline that comes before."""
        now, seconds = self._clock.now(), self._deadlines.turn()
        if seconds is not None:
            # At least the smallest step: a deadline is kept as a float, which may lie a little after the moment.
            alarm = min(alarm, now + max(timedelta(seconds=seconds), timedelta.resolution))
        self._clock.move(max(now, alarm))
        self._deadlines.turn()

    async def _break_off(self, running: asyncio.Task[AttemptEnd | None]) -> None:
        self.was_broken_off = True
        self._attempt.tell_to_stop(Stop.SHUTDOWN)
        if self._attempt.interrupt is None:
            running.cancel()
        await asyncio.wait((running,), timeout=self._demands.patience)


async def _let_run() -> None:
    """Let the tasks that were woken run until they wait again."""
    for _ in range(20):
        await real_sleep(0)
