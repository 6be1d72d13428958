"""The worker: starts its parts, and ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from deeper_tasks.domain.ids import NodeId
from deeper_tasks.errors import BackendError
from deeper_tasks.integrations.events import WorkerStarted, WorkerStopped
from deeper_tasks.tasks import WorkerState
from deeper_tasks.worker.assembly import WorkerParts
from deeper_tasks.worker.claiming.unserved_queues import UnservedQueues
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.liveness.loop_lag import TellLag
from deeper_tasks.worker.role import keep_running
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.shutdown import Shutdown


class Worker:
    """
    Runs the jobs of its queues, and takes its part in maintaining the store.

    Make it inside a running event loop; `run` returns after `stop`. The store must be open.
    """

    def __init__(self, collaborators: Collaborators, settings: WorkerSettings) -> None:
        self.parts = WorkerParts(collaborators, settings)
        self._shutdown = Shutdown(self.parts)

    @property
    def node_id(self) -> NodeId:
        """The id under which the store knows this worker now."""
        return self.parts.membership.node_id

    @property
    def stuck_because(self) -> str | None:
        """Why this worker stops by itself: lost slots, or a part of it that has ended again and again."""
        return self.parts.stop_request.stuck_because

    @property
    def is_stuck(self) -> bool:
        """Whether this worker stops, or has stopped, by itself because it cannot go on: start another process."""
        return self.stuck_because is not None

    @property
    def is_ready(self) -> bool:
        """Whether this worker claims jobs: the store knows it, and answered the last claim of each queue."""
        is_at_work = not (self.is_stopping or self.parts.membership.is_in_doubt)
        return is_at_work and all(loop.is_working for loop in self.parts.vital)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop of this worker was requested, or it stops because it is stuck."""
        return self.parts.stop_request.is_set

    @property
    def busy(self) -> int:
        """How many jobs run."""
        return len(self.parts.running)

    @property
    def state(self) -> WorkerState:
        """The state that the start hooks made in this process: `current_job().state` in its coroutines and threads."""
        return self.parts.hooks.state

    def on_pulse(self, tell: TellLag) -> None:
        """
        Have `tell` called every second from the heartbeat's thread, with how many seconds the loop has been blocked.

        It begins when the store knows this worker, before the start hooks, and ends after the stop hooks.
        """
        self.parts.heartbeat.tell_pulse = tell

    def stop(self) -> None:
        """Stop in order: claim no more, let jobs end for the grace period. Called again: give back at once."""
        self.parts.stop_request.stop()

    def note_signal(self) -> None:
        """
        Note a signal that requests a stop, from another thread: the loop, which calls `stop`, may be blocked.

        If the worker has its process to itself, a loop that stays blocked does not keep that from ending.
        """
        self.parts.stop_request.note_signal()

    async def run(self) -> None:
        """
        Work until `stop`, then return when all jobs are settled or given back.

        The start hooks run before the first claim, the stop hooks after the last job.
        Cancelled, it gives back at once what runs, and its code has stopped before the cancellation goes on.

        Raises:
            HookError: a start hook failed; nothing was claimed.
        """
        with self.parts.records:
            await self._run()

    async def _run(self) -> None:
        parts = self.parts
        await parts.joining.join()
        parts.heartbeat.start()
        parts.loop_watch.start()
        try:
            if not self.is_stopping:
                await parts.hooks.start(stopping=parts.stop_request.requested, context=parts.base.context)
                parts.base.freeze()
            if not self.is_stopping:
                await self._serve()
        finally:
            await self._end_parts()
            await self._shutdown.release_unstoppable()
            with suppress(BackendError):
                await parts.membership.leave()
            parts.announcer.announce(WorkerStopped)

    async def _end_parts(self) -> None:
        parts = self.parts
        # Beside each other: the processes for jobs have stop hooks of their own, and all share one time limit.
        closing = asyncio.create_task(parts.close_executors())
        parts.last_resort.note_hooks()
        try:
            await parts.hooks.stop()
        finally:
            await closing
        await parts.heartbeat.stop()
        await parts.loop_watch.stop()

    async def _serve(self) -> None:
        """Claim and run jobs until `stop`, and until all that ran is settled or given back."""
        parts = self.parts
        parts.announcer.announce(WorkerStarted, runs_jobs=parts.store.backend.capabilities.runs_jobs)
        tasks = [*self._start_loops(), asyncio.create_task(self._warm_up()), asyncio.create_task(self._name_unserved())]
        winding_down = asyncio.create_task(self._shutdown.wind_down())
        try:
            await asyncio.shield(winding_down)
        except asyncio.CancelledError:
            parts.stop_request.requested.set()
            parts.stop_request.is_urgent.set()
            await winding_down
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_loops(self) -> list[asyncio.Task[None]]:
        parts = self.parts
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "settler": parts.settler.run,
            "reporter": parts.execution.reporter.run,
            "deadlines": parts.execution.deadlines.run,
            "heart watch": parts.heartbeat_watch.run,
            "listener": parts.listener.run,
            **{loop.name: loop.run for loop in parts.loops},
        }
        vital = {"settler", "deadlines", *(loop.name for loop in parts.vital)}
        return [
            asyncio.create_task(
                keep_running(
                    name,
                    run,
                    clock=parts.store.clock,
                    on_hopeless=parts.stop_request.stop_stuck if name in vital else lambda _: None,
                ),
                name=name,
            )
            for name, run in loops.items()
        ]

    async def _warm_up(self) -> None:
        """Have the application imported where its jobs will be forked, before the first job's timeout runs."""
        if self.parts.has_process_tasks:
            await self.parts.processes.warm_up()

    async def _name_unserved(self) -> None:
        parts = self.parts
        registry = parts.collaborators.registry
        await UnservedQueues(parts.store, parts.settings, registry=registry, announcer=parts.announcer).announce()
