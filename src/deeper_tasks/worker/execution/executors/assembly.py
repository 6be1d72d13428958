"""The executors of one process, by the kind of task that each runs."""

from __future__ import annotations

from deeper_tasks.tasks import ExecutorKind
from deeper_tasks.worker.attempts.stalls import Stalls
from deeper_tasks.worker.execution.executors import Executor
from deeper_tasks.worker.execution.executors.coroutine import CoroutineExecutor
from deeper_tasks.worker.execution.executors.thread import ThreadExecutor
from deeper_tasks.worker.execution.parts import ExecutionParts


def assemble_executors(
    parts: ExecutionParts, *, threads: int, process: Executor | None = None, stalls: Stalls | None = None
) -> dict[ExecutorKind, Executor]:
    """Return an executor for each kind; without `process`, tasks with `executor="process"` run in the threads."""
    now = parts.collaborators.clock.monotonic
    in_threads = ThreadExecutor(threads=threads, now=now, stalls=stalls)
    return {
        ExecutorKind.COROUTINE: CoroutineExecutor(now=now, stalls=stalls),
        ExecutorKind.THREAD: in_threads,
        ExecutorKind.PROCESS: in_threads if process is None else process,
    }
