"""The parts that run attempts, put together once for a worker, for a child in quarantine and for the testing kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeper_tasks.worker.attempts.running_attempts import RunningAttempts
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.execution.call import CallSettings
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.redaction import Redaction
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.store_access import StoreAccess


@dataclass(frozen=True, kw_only=True)
class ExecutionParts:
    """The parts that the runner and the executors of one process share. `call_settings` is asked anew for each call."""

    collaborators: Collaborators
    settings: WorkerSettings
    store: StoreAccess
    running: RunningAttempts
    redaction: Redaction
    reporter: Reporter
    deadlines: Deadlines
    call_settings: Callable[[], CallSettings]


def assemble_execution(
    collaborators: Collaborators,
    settings: WorkerSettings,
    *,
    store: StoreAccess | None = None,
    running: RunningAttempts | None = None,
    deadlines: Deadlines | None = None,
) -> ExecutionParts:
    """Return the parts of an execution. `deadlines` is the caller's own where an ignored timeout has consequences."""
    clock = collaborators.clock
    store = store or StoreAccess.of(collaborators)
    running = RunningAttempts() if running is None else running
    redaction = Redaction(collaborators.redactor)
    return ExecutionParts(
        collaborators=collaborators,
        settings=settings,
        store=store,
        running=running,
        redaction=redaction,
        reporter=Reporter(store, token_of=running.token_of, redaction=redaction),
        deadlines=deadlines or Deadlines(running=running.all, clock=clock, on_ignored=lambda _: None),
        call_settings=lambda: CallSettings(
            max_result_bytes=settings.max_result_bytes,
            default_retry_delay=settings.default_retry_delay,
            default_max_retry_delay=settings.default_max_retry_delay,
            random=clock.random(),
        ),
    )
