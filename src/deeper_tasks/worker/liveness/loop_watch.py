"""The loop watch: a thread that notices when the worker's event loop is blocked, and reports which code blocks it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.integrations.events import EventBus, LoopRecovered, LoopStalled
from deeper_tasks.lasting import lasting
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.attempts.stalls import Stalls
from deeper_tasks.worker.liveness.last_resort import LAST_WORDS, LastResort
from deeper_tasks.worker.liveness.snapshot import Snapshot, has_nothing_to_do, take_snapshot
from deeper_tasks.worker.settings import WorkerSettings

_logger = logging.getLogger("deeper_tasks")

_NAME = "deeper-loop-watch"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
"""Seconds between two questions to a loop that turns."""
LOOK_INTERVAL = 0.02
"""Seconds between two looks at a loop that owes an answer."""
_WIDEST_GAP = 2.0
_LAST_WORDS = 2.0
"""Seconds that a message may take, because the code that blocks the loop may hold the lock of a log handler."""


class StallTimer:
    """
    Adds up how long something did not happen, by looks that follow each other closely.

    After a gap between two looks only the processor time that this process used in the gap counts. A suspended machine
    or a stopped process used none, and was not blocked; code that let no other thread run was.
    """

    def __init__(self, *, widest_gap: float, now: float, cpu: float) -> None:
        self._widest_gap = widest_gap
        self._looked_at = now
        self._cpu = cpu
        self.seconds = 0.0

    def look(self, now: float, cpu: float) -> float:
        """Return the time since the last look, as far as it counts, and add it; `cpu` is the processor time so far."""
        gap = now - self._looked_at
        counted = gap if gap <= self._widest_gap else min(gap, cpu - self._cpu)
        self.seconds += counted
        self._looked_at, self._cpu = now, cpu
        return counted

    def reset(self) -> None:
        """Begin anew at the last look."""
        self.seconds = 0.0


class _Block:
    """The part of a stall in which the code of one job, or of none, blocked the loop."""

    def __init__(self, job: ClaimedJob | None) -> None:
        self.job = job
        self.seconds = 0.0
        self.is_reported = False

    def is_by(self, job: ClaimedJob | None) -> bool:
        return self.job is job or (self.job is not None and job is not None and self.job.id == job.id)


class LoopWatch:
    """
    Asks a loop that is not at rest for an answer ten times a second, and looks every `LOOK_INTERVAL` until it answers.

    Code that blocks the loop for `loop_stall_warning` is reported once, and so is the end of the block; the code of
    another job is another block. If several jobs together block the loop so long, the job that blocks it at that
    moment is reported. `last_resort` decides when a blocked loop ends the process; other workers then rescue its jobs.
    `hook` returns the name of the hook that runs, if any. To be made in the loop.
    """

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        running: Callable[[], Iterable[Attempt]],
        bus: EventBus,
        last_resort: LastResort,
        hook: Callable[[], str] = str,
    ) -> None:
        threshold = _seconds(settings.loop_stall_warning) or _seconds(settings.loop_stall_limit)
        self._is_quiet = threshold is None
        self._threshold = threshold or LAST_WORDS
        self._pause = min(max(self._threshold / 2, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        self._last_resort = last_resort
        self._hook = hook
        self._running = running
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._asked = self._answered = 0
        self._was_asked = False
        self._block: _Block | None = None
        self._reported: list[_Block] = []
        self.stalls = Stalls()
        self._stopping = threading.Event()
        widest_gap = min(max(self._threshold, 2 * self._pause), _WIDEST_GAP)
        self._timer = StallTimer(widest_gap=widest_gap, now=time.monotonic(), cpu=time.process_time())
        self._thread = threading.Thread(target=lasting(self._run, name=_NAME), name=_NAME, daemon=True)

    def start(self) -> None:
        """Start the thread, unless the settings want no watch."""
        if self._last_resort.is_needed or not self._is_quiet:
            self._thread.start()

    async def stop(self) -> None:
        """End the thread; the loop, which runs this, is not blocked."""
        self._answer(self._asked)
        self._stopping.set()
        if self._thread.is_alive():
            await run_in_thread(self._thread.join)

    def _ask(self) -> None:
        self._asked += 1
        self._was_asked = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answer, self._asked)

    def _answer(self, asked: int) -> None:
        self._answered = asked

    @property
    def _is_answered(self) -> bool:
        return self._answered == self._asked

    def _run(self) -> None:
        pause = self._pause
        while not self._stopping.wait(pause):
            pause = self._look()
        self._look()

    def _look(self) -> float:
        """Look once; returns the seconds to the next look."""
        counted = self._timer.look(time.monotonic(), time.process_time())
        # After a time in which no thread could run the loop may have answered first; only now can the cause be seen.
        if self._is_answered and counted <= self._threshold:
            return self._note_turn(counted)
        self._note_stall(counted)
        return min(LOOK_INTERVAL, self._pause)

    def _note_turn(self, counted: float) -> float:
        was_asked, self._was_asked = self._was_asked, False
        block, self._block = self._block, None
        if block is not None:
            block.seconds += counted
        self.stalls.end()
        reported, self._reported = self._reported, []
        for each in reported:
            self._tell(partial(self._emit, LoopRecovered(after=_duration(each.seconds), **_about(each.job))))
        self._timer.reset()
        # A loop at rest is not woken. After a block the loop is asked, because the next callback may block it as well.
        if block is None and (was_asked or has_nothing_to_do(self._loop_thread)):
            return self._pause
        self._ask()
        return min(LOOK_INTERVAL, self._pause)

    def _note_stall(self, counted: float) -> None:
        answered, is_owed = self._answered, not self._is_answered
        after = time.monotonic()
        seen = take_snapshot(self._loop, self._loop_thread, self._running())
        before = time.monotonic()
        has_gone_on = self._answered != answered
        if self._is_answered:
            self._ask()
        if has_gone_on or self._stopping.is_set():
            # The loop went on during the look, so the code that was seen need not be the code that blocked it.
            return
        if seen.is_waiting:
            # The loop is not blocked: on a busy machine no thread of this process got its turn.
            self._timer.reset()
            self._block = None
            return
        if is_owed:
            self.stalls.note(seen.turn, None if seen.job is None else seen.job.id, after=after, before=before)
        self._add(counted, seen)
        verdict = self._last_resort.verdict(self._timer.seconds)
        if verdict is not None and not self._is_answered:
            code, why = verdict
            self._tell(partial(self._say_last_words, why, seen))
            self._last_resort.end_process(code)

    def _add(self, counted: float, seen: Snapshot) -> None:
        """Add time to the current block, and report the block once it is long enough."""
        block, threshold = self._block, self._threshold
        if block is None or not block.is_by(seen.job):
            block = self._block = _Block(seen.job)
        block.seconds += counted
        if not block.is_reported and (
            block.seconds >= threshold or (not self._reported and self._timer.seconds >= threshold)
        ):
            block.is_reported = True
            self._reported.append(block)
            self._tell(partial(self._tell_of, block, seen))

    def _tell_of(self, block: _Block, seen: Snapshot) -> None:
        stalled_for, in_all = _duration(block.seconds), _duration(self._timer.seconds)
        self._emit(LoopStalled(stalled_for=stalled_for, in_all=in_all, stack=seen.stack, **_about(block.job)))

    def _emit(self, event: LoopStalled | LoopRecovered) -> None:
        if not self._is_quiet:
            self._bus.emit(event)

    def _say_last_words(self, why: str, seen: Snapshot) -> None:
        _logger.critical(
            "the event loop was blocked for %s by %s, %s; "
            "this process ends and leaves its jobs to be rescued; start the worker again if it is still wanted",
            readable(self._timer.seconds),
            self._culprit(seen),
            why,
            extra=_about(seen.job),
        )
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()

    def _culprit(self, seen: Snapshot) -> str:
        blocked_for = self._timer.seconds if self._block is None else self._block.seconds
        last = f", which does so for the last {readable(blocked_for)}" if blocked_for < self._timer.seconds else ""
        if seen.job is not None:
            return f"the job {seen.job.task} {seen.job.id}{last}"
        return (self._hook() or f"code of no job, {seen.innermost}") + last

    def _tell(self, say: Callable[[], object]) -> None:
        speaker = threading.Thread(target=say, name="deeper-loop-watch-speaker", daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _about(job: ClaimedJob | None) -> dict[str, Any]:
    if job is None:
        return {}
    return {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}
