"""The calls that were never awaited: each is an ERROR in the log, because its job would be lost in silence."""

from __future__ import annotations

import atexit
import dis
import gc
import inspect
import linecache
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from types import CodeType, CoroutineType, FrameType
from typing import TYPE_CHECKING, Any

from deeper_tasks.manager.call_sites import unawaited_sites
from deeper_tasks.tasks import BoundTask, Task

_logger = logging.getLogger("deeper_tasks")

if TYPE_CHECKING:
    _Call = CoroutineType[Any, Any, Any]
else:
    _Call = CoroutineType
_DROPS_AT_ONCE = dis.opmap["POP_TOP"]

Report = Callable[[_Call, str], None]
"""Logs a call that was never awaited; the text says where the call stands."""

_watched: dict[CodeType, Report] = {}
"""How a call of each watched method is reported; by code, which is all that a coroutine knows of its method."""


def watch_calls(kind: type, *, prefix: str = "") -> None:
    """
    Report each call of a task's `enqueue`, or of an async method of a class, that is never awaited.

    `prefix` stands between `manager.` and the name of the method, such as `queues.` for a namespace.
    """
    for task in (Task, BoundTask):
        _watched[task.enqueue.__code__] = _report_enqueue
    for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            _watched[method.__code__] = partial(_report_method, prefix)
    _listen()


@cache
def _listen() -> None:
    """
    Be asked by Python at the end of each coroutine that was never awaited, and of no other: awaited ones cost nothing.

    The hook that warned of them before is called too, so the RuntimeWarning stays as it is.
    """
    warn = getattr(warnings, "_warn_unawaited_coroutine", None)
    if warn is None:
        return

    def report_and_warn(coroutine: _Call) -> None:
        # An object is being destroyed: nothing may be raised here.
        with suppress(Exception):
            _report(coroutine, inspect.currentframe())
        warn(coroutine)

    # The warning names the frame above, unless that belongs to the import system: by this name it passes over this one.
    report_and_warn.__code__ = report_and_warn.__code__.replace(co_filename="<importlib._bootstrap: unawaited calls>")
    warnings._warn_unawaited_coroutine = report_and_warn  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    atexit.register(_report_all)


def _report_all() -> None:
    """Report what is kept until the end of the interpreter, which is too late for the log."""
    for each in gc.get_objects():
        if type(each) is CoroutineType and inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
            _report(each, None)


def _report(coroutine: _Call, frame: FrameType | None) -> None:
    report = _watched.get(coroutine.cr_code)
    if report is not None:
        report(coroutine, _place(coroutine, None if frame is None else frame.f_back))


def _place(coroutine: _Call, dropped_in: FrameType | None) -> str:
    """
    Return where the call stands.

    Python remembers that in its debug mode only. Else it is the line that drops the coroutine, which is the call's own
    line where nothing keeps it. Where something did, the source is searched for calls that nothing awaits.
    """
    if coroutine.cr_origin:
        file, line, _ = coroutine.cr_origin[0]
        return f"in {file}:{line}"
    if dropped_in is not None:
        place = f"{dropped_in.f_code.co_filename}:{dropped_in.f_lineno}"
        if _is_own_line(coroutine, dropped_in):
            return f"in {place}"
    task = _task_of(coroutine)
    sites = [] if task is None else unawaited_sites(task)
    likely = f"probably in {' or '.join(sites)}, " if sites else ""
    kept = "kept to the end" if dropped_in is None else f"kept and then dropped in {place}"
    return f"({likely}{kept}; PYTHONASYNCIODEBUG=1 shows its line)"


def _is_own_line(coroutine: _Call, dropped_in: FrameType) -> bool:
    """Whether a frame is at a statement that drops what it has made, and that names the function, if it can be read."""
    code, at = dropped_in.f_code, dropped_in.f_lasti
    if code.co_code[at] != _DROPS_AT_ONCE:
        return False
    first, last, *_ = next(islice(code.co_positions(), at // 2, None))
    if first is None or last is None:
        return True
    text = "".join(linecache.getline(code.co_filename, line) for line in range(first, last + 1))
    return not text or coroutine.__name__ in text


def _task_of(coroutine: _Call) -> Task[..., Any] | None:
    holder = None if coroutine.cr_frame is None else coroutine.cr_frame.f_locals.get("self")
    if isinstance(holder, BoundTask):
        return holder.task
    return holder if isinstance(holder, Task) else None


def _report_enqueue(coroutine: _Call, place: str) -> None:
    task = _task_of(coroutine)
    name = "task" if task is None else task.__name__
    _logger.error(
        "enqueue() of %s was never awaited %s, and no job was enqueued; "
        "write 'await %s.enqueue(…)', or '%s.sync.enqueue(…)' in code that is not async",
        name if task is None else task.name,
        place,
        name,
        name,
    )


def _report_method(prefix: str, coroutine: _Call, place: str) -> None:
    name = f"{prefix}{coroutine.__name__}"
    way_out = "" if name == "run_worker" else f", or 'manager.sync.{name}(…)' in code that is not async"
    _logger.error(
        "manager.%s() was never awaited %s, and nothing was done; write 'await manager.%s(…)'%s",
        name,
        place,
        name,
        way_out,
    )
