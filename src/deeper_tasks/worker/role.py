"""A role: work that a worker does again and again, and the one loop that gives it its turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from deeper_tasks.errors import BackendUnavailableError, NodeLostError
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.failure_log import FailureLog
from deeper_tasks.worker.store_access import StoreAccess

_SHORTEST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0
_LONGEST_TURN = 10.0
"""Seconds after which a turn without an answer of the store counts as failing."""
_MOST_ENDS, _WELL = 12, 60.0
"""The number of ends in a row after which a part cannot go on, which takes about a minute, and the seconds after
which it counts as working."""


class Role(Protocol):
    """One kind of work. A turn does it once."""

    async def turn(self) -> timedelta:
        """Do it once, and return how long to sleep before the next turn."""


class RoleLoop:
    """
    Gives a role its turns until stopped.

    While the store is away the role waits until it may ask, or until the store answers
    any part of the process. Other errors are logged, make the pauses longer, and
    do not end the loop. A role that does not ask the store in every turn
    reports its answers itself.

    The first pause, and the pause after a wake-up, is shortened by a random part. Otherwise all roles
    that were woken together, in all workers, would ask the store together from
    then on, and an enqueue at such a moment would wait for all of them.
    """

    def __init__(
        self,
        name: str,
        role: Role,
        store: StoreAccess,
        *,
        on_lost: Callable[[], Awaitable[None]],
        always_asks: bool = True,
    ) -> None:
        self.name = name
        self._role = role
        self._clock = store.clock
        self._availability = store.availability
        self._on_lost = on_lost
        self._always_asks = always_asks
        self._awake = asyncio.Event()
        self._is_succeeding = False
        self._turn_began: float | None = None
        self._failures = 0
        self._log = FailureLog(name)
        self._was_lost = False
        self._is_in_step = True

    @property
    def is_working(self) -> bool:
        """Whether the last turn succeeded, and no turn has been under way for too long."""
        began = self._turn_began
        return self._is_succeeding and (began is None or self._clock.monotonic() - began < _LONGEST_TURN)

    def wake(self) -> None:
        """Have the next turn now. To be called in the loop's own event loop."""
        self._awake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            await self._give_turns()
        finally:
            # If the loop is begun again, it has had no turn that succeeded.
            self._is_succeeding = False

    async def _give_turns(self) -> None:
        while True:
            self._awake.clear()
            self._turn_began, has_succeeded = self._clock.monotonic(), False
            try:
                pause = self._out_of_step((await self._role.turn()).total_seconds())
                self._failures, self._was_lost, has_succeeded = 0, False, True
                self._log.tell_of_recovery()
                if self._always_asks:
                    self._availability.mark_working(by=self.name)
                else:
                    self._availability.mark_idle(by=self.name)
            except NodeLostError:
                await self._on_lost()
                # A node that is lost again right after it has joined needs a pause before it asks the store again.
                pause, self._was_lost = self._next_backoff() if self._was_lost else 0.0, True
            except BackendUnavailableError as error:
                self._availability.mark_failing(error, by=self.name)
                pause = None
            except Exception as error:  # noqa: BLE001 - it is logged
                self._log.tell(error)
                pause = self._next_backoff()
            self._turn_began, self._is_succeeding = None, has_succeeded
            await self._rest(pause)
            self._is_in_step |= self._awake.is_set()

    async def _rest(self, pause: float | None) -> None:
        """Sleep until the next turn; with None, until the store may be asked again."""
        if pause is None:
            await self._availability.pause(self._clock.sleep, until=self._awake)
        else:
            await self._clock.sleep(pause, until=self._awake)

    def _out_of_step(self, pause: float) -> float:
        if not (self._is_in_step and pause):
            return pause
        self._is_in_step = False
        return pause * (1 - self._clock.random())

    def _next_backoff(self) -> float:
        self._failures += 1
        return backoff(self._failures) * (1 - self._clock.random() / 2)


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    clock: Clock,
    on_hopeless: Callable[[str], None] = lambda _: None,
) -> None:
    """
    Run a part of the worker until cancelled, and begin it again if anything else ends it.

    `on_hopeless` is called with the reason when the part has ended so often in a row that it cannot go on.
    """
    log, ends = FailureLog(name, words="was ended by an unexpected error and begins again"), 0
    while True:
        began, reason = clock.monotonic(), "without an error"
        try:
            await run()
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            this = asyncio.current_task()
            # Otherwise a future on which the part waited was cancelled.
            if isinstance(error, asyncio.CancelledError) and (this is None or this.cancelling()):
                raise
            log.tell(error)
            reason = f"by {type(error).__name__}"
        ends = 1 if clock.monotonic() - began >= _WELL else ends + 1
        if ends == _MOST_ENDS:
            on_hopeless(f"the {name} has ended {ends} times in a row, {reason}")
        await clock.sleep(_LONGEST_BACKOFF, until=asyncio.Event())


def backoff(failures: int) -> float:
    """Return the longest pause in seconds after so many failures in a row."""
    return min(_SHORTEST_BACKOFF * 2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF)
