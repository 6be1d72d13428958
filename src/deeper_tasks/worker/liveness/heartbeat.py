"""The heartbeat: signs of life from a thread of its own, so that a worker whose loop is blocked does not look dead."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from deeper_tasks.backends.protocol import Beat
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.errors import BackendUnavailableError, NodeLostError
from deeper_tasks.lasting import lasting
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.worker.clock import Clock, SystemClock
from deeper_tasks.worker.failure_log import FailureLog
from deeper_tasks.worker.liveness.loop_lag import LoopLag, TellLag
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.store_access import StoreAccess

_NAME, _THREAD = "heartbeat", "deeper-heartbeat"
_AFTER_A_FAULT = 1.0


class BeatAnswers(Protocol):
    """Takes what the store answers to a beat."""

    def busy(self) -> int:
        """Return how many jobs run here. Safe to call from any thread."""

    def take(self, node: NodeId, beat: Beat) -> None:
        """Take the store's answer to the beat of this node."""

    def note_lost(self, node: NodeId) -> None:
        """Note that the store does not know this node any more."""


class Heartbeat:
    """
    Beats every `heartbeat`, and at once when asked to or when the store is back, in an event loop of its own.

    After any exception in its thread it begins anew, with a beat at once.

    The store's answers are handed to `answers` on the worker's loop.
    """

    def __init__(
        self, store: StoreAccess, *, membership: Membership, settings: WorkerSettings, answers: BeatAnswers
    ) -> None:
        self._backend = store.backend
        self._availability = store.availability
        self._membership = membership
        self._interval = settings.heartbeat.total_seconds()
        self._answers = answers
        self._worker_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake: asyncio.Event | None = None
        self._pulsing: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._log = FailureLog(_NAME)
        self.tell_pulse: TellLag = lambda _: None
        """Called every second from this thread with the seconds for which the worker's loop is blocked."""
        self.signs = 0
        """Goes up every second while the thread works, whatever the store does."""
        self._clock: Clock = SystemClock()
        self._thread = threading.Thread(target=lasting(self._run, name=_THREAD), name=_THREAD, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def beat_now(self) -> None:
        """Beat at once, to learn what the store asks of this worker. Safe to call from any thread."""
        loop, awake = self._loop, self._awake
        if loop is not None and awake is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(awake.set)

    async def stop(self) -> None:
        """End the thread, after a beat that is under way."""
        self._is_stopping = True
        self.beat_now()
        await run_in_thread(self._thread.join)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            loop, beating = runner.get_loop(), None
            while not (self._is_stopping and (beating is None or beating.done())):
                try:
                    # A task that is still under way after an exception, such as one of the selector, goes on.
                    if beating is None or beating.done():
                        beating = loop.create_task(self._beat_until_stopped())
                    loop.run_until_complete(beating)
                except BaseException as error:  # noqa: BLE001 - it is logged; no other code restarts the beats
                    self._log.tell(error)
                    time.sleep(_AFTER_A_FAULT)

    async def _beat_until_stopped(self) -> None:
        self._loop, self._awake = asyncio.get_running_loop(), asyncio.Event()
        while not self._is_stopping:
            self._awake.clear()
            self._keep_pulse()
            is_away = await self._beat()
            if self._is_stopping:
                continue
            if is_away:
                await self._availability.pause(self._clock.sleep, until=self._awake)
            else:
                await self._clock.sleep(self._interval, until=self._awake)

    def _keep_pulse(self) -> None:
        # An exception may have ended it. The task is kept here: one without a reference may be collected.
        if self._pulsing is None or self._pulsing.done():
            loop_lag = LoopLag(worker_loop=self._worker_loop, tell=self._give_sign)
            self._pulsing = asyncio.create_task(loop_lag.run())

    def _give_sign(self, lag: float) -> None:
        self.signs += 1
        self.tell_pulse(lag)

    async def _beat(self) -> bool:
        """Give a sign of life; returns whether the store is away."""
        node = self._membership.node_id
        # Before it is sent: a process that is suspended meanwhile cannot know how old the answer is.
        at = self._membership.now()
        try:
            beat = await self._backend.beat(node, busy=self._answers.busy())
        except NodeLostError:
            self._tell(self._answers.note_lost, node)
        except BackendUnavailableError as error:
            self._availability.mark_failing(error, by=_NAME)
            return True
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is logged
            # Without a beat this worker would be taken for dead while it runs jobs. Nothing cancels this thread's
            # task, so a cancellation is that of a future on which the store waited.
            self._log.tell(error)
        else:
            self._membership.confirm(at)
            self._availability.mark_working(by=_NAME)
            self._log.tell_of_recovery()
            self._tell(self._answers.take, node, beat)
        return False

    def _tell(self, callback: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):
            self._worker_loop.call_soon_threadsafe(callback, *values)
