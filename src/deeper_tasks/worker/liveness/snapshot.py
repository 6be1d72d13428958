"""A snapshot: the code that the thread of an event loop runs at this moment, seen from another thread."""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import sysconfig
from asyncio.events import Handle
from collections.abc import Iterable, Iterator
from contextvars import Context
from pathlib import Path
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any

from msgspec import Struct

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.tasks.context import handlers_job_in
from deeper_tasks.worker.attempts.attempt import Attempt

_WORKER = Path(__file__).parents[1]
_PLUMBING = tuple(f"{folder}{os.sep}" for folder in (Path(asyncio.__file__).parent, _WORKER))
"""The folders of the frames between the loop and the user's code."""

_LIBRARY, _INSTALLED = (f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib"))
"""The folders of the frames that start a thread, and of installed packages, which may be the application's."""

_MOST_FRAMES = 30


class Snapshot(Struct, frozen=True, kw_only=True):
    """
    The code that a loop runs. `job` is None if it is the code of no job; `places` is its part of the stack, innermost
    last.

    `is_waiting` says that the loop runs nothing and waits in its selector. `turn` stands for the one callback, or step
    of a task, that the loop has called: two snapshots have the same object only if the loop called nothing else between
    them. It is None if the callback, or its job, cannot be seen.
    """

    is_waiting: bool
    turn: object
    job: ClaimedJob | None
    places: list[FrameSummary]

    @property
    def stack(self) -> str:
        """The places as a traceback shows them. This reads the source files."""
        return "".join(StackSummary.from_list(self.places).format()).rstrip()

    @property
    def innermost(self) -> str:
        """The innermost file and line; empty if nothing was seen."""
        return f"{Path(self.places[-1].filename).name}:{self.places[-1].lineno}" if self.places else ""


def take_snapshot(loop: asyncio.AbstractEventLoop, thread: int, running: Iterable[Attempt]) -> Snapshot:
    """
    Return the code that `loop` runs now in the thread of this id; `running` are the attempts that it may belong to.

    It never waits, not even for a file, so the interpreter does not switch to that thread meanwhile.
    """
    innermost = sys._current_frames().get(thread)  # noqa: SLF001 - nothing else shows a thread's stack
    frames = [*_outwards(innermost)]
    turn, job = _turn(frames) or _step(asyncio.current_task(loop), running)
    return Snapshot(
        is_waiting=_is_waiting(innermost),
        turn=turn,
        job=job,
        places=_places(frames),
    )


def has_nothing_to_do(thread: int) -> bool:
    """Return whether the loop in the thread of this id waits in its selector; False if that cannot be seen."""
    return _is_waiting(sys._current_frames().get(thread))  # noqa: SLF001 - as above


def place_in_handler(attempt: Attempt) -> str:
    """
    Return the file and line at which the handler of an attempt is; empty if that cannot be seen, as in a process.

    To be called in the loop, where no coroutine but the caller's runs.
    """
    if attempt.thread is not None:
        frames = reversed([*_outwards(sys._current_frames().get(attempt.thread))])  # noqa: SLF001 - as above
    else:
        frames = iter(_waiting_frames(attempt.task))
    handlers = (frame for frame in frames if not _is_plumbing(frame.f_code.co_filename))
    frame = next(handlers, None)
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_waiting(innermost: FrameType | None) -> bool:
    return innermost is not None and innermost.f_code.co_filename == selectors.__file__


def _waiting_frames(task: asyncio.Task[object] | None) -> Iterator[FrameType]:
    """Yield the frames of a task that waits, outermost first."""
    waiting: Any = None if task is None else task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        yield frame
        waiting = waiting.cr_await


def _is_plumbing(file: str) -> bool:
    # Installed packages lie below the standard library.
    return file.startswith(_PLUMBING) or (file.startswith(_LIBRARY) and not file.startswith(_INSTALLED))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _turn(frames: Iterable[FrameType]) -> tuple[FrameType | None, ClaimedJob | None] | None:
    """Return the loop's current call, another frame each time, and its job; None if the loop shows no calls."""
    call = next((frame for frame in frames if frame.f_code is Handle._run.__code__), None)  # noqa: SLF001 - where the loop calls out
    if call is None:
        return None
    # A task or a callback that a handler started has the job in its context; 3.11 shows no task's context.
    context: Context | None = getattr(call.f_locals.get("self"), "_context", None)
    return (None, None) if context is None else (call, handlers_job_in(context))


def _step(
    task: asyncio.Task[object] | None, running: Iterable[Attempt]
) -> tuple[asyncio.Task[object] | None, ClaimedJob | None]:
    # A task has no second step before the loop has answered.
    job = next((attempt.job for attempt in running if task is not None and attempt.task is task), None)
    return (None, None) if job is None else (task, job)


def _places(frames: list[FrameType]) -> list[FrameSummary]:
    own = _without_plumbing(frames) or frames
    return [
        FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, lookup_line=False)
        for frame in reversed(own[:_MOST_FRAMES])
    ]


def _without_plumbing(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames without those that lead from the program's start to the user's code."""
    of_the_loop = (place for place, frame in enumerate(frames) if frame.f_code is Handle._run.__code__)  # noqa: SLF001 - where the loop calls out
    own = frames[: next(of_the_loop, len(frames))]
    while own and own[-1].f_code.co_filename.startswith(_PLUMBING):
        own.pop()
    return own
