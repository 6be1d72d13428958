"""A watched call: a call that also reports which exception its handler raised, for a test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.call import Call, CallSettings
from deeper_tasks.worker.execution.executors import Executor

OnRaised = Callable[[JobId, BaseException], None]


class WatchedCall(Call):
    """A call that reports its handler's exception before the settlement is made, which keeps only the text of it."""

    __slots__ = ("_on_raised",)

    def __init__(self, call: Call, settings: Callable[[], CallSettings], on_raised: OnRaised) -> None:
        super().__init__(call.job, call.task, settings)
        self._on_raised = on_raised
        self._arguments = call._arguments  # noqa: SLF001 - read already

    def raised(self, error: BaseException, ran_for: timedelta) -> Settlement:
        """Report the exception, and return the settlement of a call that raised."""
        self._on_raised(self.job.id, error)
        return super().raised(error, ran_for)


class WatchingExecutor:
    """Runs watched calls with another executor."""

    def __init__(self, inner: Executor, *, settings: Callable[[], CallSettings], on_raised: OnRaised) -> None:
        self._inner = inner
        self._settings = settings
        self._on_raised = on_raised

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call to its end."""
        return await self._inner.run(attempt, WatchedCall(call, self._settings, self._on_raised))

    async def close(self) -> None:
        """Close the other executor."""
        await self._inner.close()
