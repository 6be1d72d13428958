"""The joining of a worker: registers it in the store, and again after it was taken for dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deeper_tasks.backends.availability import Availability
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.failure_log import FailureLog
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.role import backoff

_NAME = "membership"


class Joining:
    """
    Has a worker join at its start, and join anew whenever the store has lost its node.

    While the store is away, joining waits. Any other error ends the first joining. Joining anew is tried again after
    every error until it succeeds, or until `stop`. Until then the membership is in doubt, and the worker neither
    claims nor is ready. `on_lost` is called before the first try to join anew, and `on_joined` after the last.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        availability: Availability,
        clock: Clock,
        on_lost: Callable[[], None],
        on_joined: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._availability = availability
        self._clock = clock
        self._on_lost = on_lost
        self._on_joined = on_joined
        self._log = FailureLog(
            "registration of this worker",
            words="met an unexpected error and is tried again; the worker claims nothing until it succeeds",
        )
        self._awake = asyncio.Event()
        self._is_stopping = False
        self._rejoining: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End all tries."""
        self._is_stopping = True
        self._awake.set()

    async def join(self) -> None:
        """Return when the store knows this worker, or after `stop`."""
        while not self._is_stopping:
            # Cleared before the try, so that a `stop` during the try ends the pause that follows.
            self._awake.clear()
            try:
                await self._membership.join()
            except BackendUnavailableError as error:
                await self._until_worth_a_try(error)
            else:
                self._availability.mark_working(by=_NAME)
                return

    def note_lost(self, node: NodeId) -> None:
        """Join anew, if this is the node that the worker is now, and if joining is not under way."""
        if node == self._membership.node_id and self._rejoining is None:
            self._rejoining = asyncio.get_running_loop().create_task(self._rejoin())
            # After an error, the next sign that the node is lost begins anew.
            self._rejoining.add_done_callback(self._note_end)

    async def rejoin(self) -> None:
        """Return when this worker has joined anew, or after `stop`. Errors of the tries are not raised here."""
        self.note_lost(self._membership.node_id)
        if self._rejoining is not None:
            # Several roles wait for this task. To await it would raise its error in each of them.
            await asyncio.wait([self._rejoining])

    def _note_end(self, ended: asyncio.Task[None]) -> None:
        self._rejoining = None
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self._log.tell(error)

    async def _rejoin(self) -> None:
        self._membership.lose()
        try:
            self._on_lost()
        except Exception as error:  # noqa: BLE001 - it is logged; the worker must join nevertheless
            self._log.tell(error)
        failures = 0
        while not self._is_stopping:
            self._awake.clear()
            try:
                await self._membership.join_anew()
            except BackendUnavailableError as error:
                await self._until_worth_a_try(error)
            except Exception as error:  # noqa: BLE001 - it is logged
                failures += 1
                self._availability.mark_idle(by=_NAME)
                self._log.tell(error)
                await self._clock.sleep(backoff(failures) * (1 - self._clock.random() / 2), until=self._awake)
            else:
                self._availability.mark_working(by=_NAME)
                self._log.tell_of_recovery()
                self._on_joined()
                return

    async def _until_worth_a_try(self, error: BackendUnavailableError) -> None:
        self._availability.mark_failing(error, by=_NAME)
        await self._availability.pause(self._clock.sleep, until=self._awake)
