"""The blocking kit: each method of the kit for tests that are not async."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from deeper_tasks.sync import LoopThread, blocking
from deeper_tasks.tasks import WorkerState
from deeper_tasks.testing.kit_session import KitSession


class BlockingKit:
    """`kit.sync`: each method as in the kit, blocking until it is done."""

    def __init__(self, session: KitSession) -> None:
        self._behind = session
        self._loop = LoopThread("deeper-testing")

    advance = blocking(KitSession.advance)
    drain = blocking(KitSession.drain)
    sleep = blocking(KitSession.sleep)
    assert_enqueued = blocking(KitSession.assert_enqueued)
    refute_enqueued = blocking(KitSession.refute_enqueued)
    all_enqueued = blocking(KitSession.all_enqueued)

    @contextmanager
    def hooks(self) -> Iterator[WorkerState]:
        """Run the manager's start hooks, and its stop hooks at the end of the `with`; gives the jobs' state."""
        context = self._behind.hooks()
        state = self._loop.run(context.__aenter__())
        try:
            yield state
        finally:
            self._loop.run(_leave(context))

    def _prepare(self) -> None:
        """Do nothing: no call of the kit uses a connection of the caller."""

    def end(self) -> None:
        """End the thread that these calls run in."""
        self._loop.stop()


async def _leave(context: AbstractAsyncContextManager[WorkerState]) -> None:
    await context.__aexit__(None, None, None)
