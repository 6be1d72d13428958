"""The verdict: decides how an attempt ends whose handler was stopped, or ran longer than its timeout."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.outcome import Done
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.stop import Stop, foremost
from deeper_tasks.domain.text import class_name
from deeper_tasks.tasks import StopSignals
from deeper_tasks.worker.execution.call import Call, error_in

SHUTTING_DOWN = "worker shutting down"

_TIMEOUT = frozenset({Stop.TIMEOUT})
_WORTH_TELLING = timedelta(milliseconds=10)


def returned(call: Call, value: object, ran_for: timedelta, stops: StopSignals) -> Settlement:
    """
    Return the settlement of a handler that returned `value` after it ran for `ran_for`.

    A handler that has seen a stop, or ran longer than its timeout, has not completed; nor has a handler
    that started a task which tried to end the program. Never raises.
    """
    try:
        return _returned(call, value, ran_for, stops)
    except BaseException as fault:  # noqa: BLE001 - the code of the value's class
        return call.plain(fault, ran_for)


def _returned(call: Call, value: object, ran_for: timedelta, stops: StopSignals) -> Settlement:
    if stops.is_undisturbed(ran_for):
        return call.returned(value, ran_for)
    is_late = stops.is_late(ran_for)
    if not (is_late or stops.announced or stops.seen or stops.exit):
        return call.returned(value, ran_for)
    error = error_in(value)
    if error is not None and not isinstance(error, Done):
        return raised(call, error, ran_for, stops)
    if stops.exit is not None:
        return raised(call, stops.exit, ran_for, stops)
    seen = stops.seen | _TIMEOUT if is_late else stops.seen
    if error is not None:
        # The handler raised knowing the stops that it saw. It cannot have known of a timeout that it did not see.
        seen -= stops.seen
    announced = stops.announced
    if call.task.accepts_late_result:
        seen, announced = seen - _TIMEOUT, announced - _TIMEOUT
    return _stopped_by(foremost(seen | announced), call, ran_for, stops) if seen else call.returned(value, ran_for)


def raised(call: Call, error: BaseException, ran_for: timedelta, stops: StopSignals) -> Settlement:
    """
    Return the settlement of a handler that raised `error`, or returned it.

    After a stop that the handler has seen, or that interrupted it, an error counts as an effect of the stop.
    An outcome that the handler raises counts itself, unless its job was cancelled. Never raises.
    """
    try:
        return _raised(call, error, ran_for, stops)
    except BaseException as fault:  # noqa: BLE001 - the code of the exception's class
        return call.plain(fault, ran_for)


def _raised(call: Call, error: BaseException, ran_for: timedelta, stops: StopSignals) -> Settlement:
    if stops.exit is not None and not isinstance(error, Exception):
        # The error that the part raised counts, not the error that it became on its way here.
        error = stops.exit
    is_late = stops.is_late(ran_for)
    if not (is_late or stops.announced or stops.seen):
        return call.raised(error, ran_for)
    if isinstance(error, Done):
        return returned(call, error, ran_for, stops)
    if call.outcome_in(error) is not None:
        if Stop.CANCEL in stops.announced:
            return call.cancelled(stops.reason, ran_for)
        return call.raised(error, ran_for)
    blamed = stops.seen | stops.forced
    stopped = _blaming(blamed | _TIMEOUT if is_late else blamed, call, ran_for, stops, error)
    return stopped or call.raised(error, ran_for)


def broken_off(call: Call, error: BaseException | None, ran_for: timedelta, stops: StopSignals) -> Settlement | None:
    """Return the settlement of code that did not end by itself; None if no stop is to blame for that."""
    return _blaming(stops.seen | stops.forced, call, ran_for, stops, error)


def unbegun(
    call: Call, stops: StopSignals, error: BaseException | None = None, *, place: str | None = None
) -> Settlement:
    """Return the settlement of an attempt that was stopped before its handler began, while it was at `place`."""
    return _blaming(stops.forced, call, None, stops, error, place=place) or call.released("not started")


def _blaming(  # noqa: PLR0913 - all that decides an end, passed on by the functions of this module
    blamed: frozenset[Stop],
    call: Call,
    ran_for: timedelta | None,
    stops: StopSignals,
    error: BaseException | None,
    *,
    place: str | None = None,
) -> Settlement | None:
    if Stop.CANCEL in stops.announced:
        return call.cancelled(stops.reason, ran_for)
    return _stopped_by(foremost(blamed | stops.announced), call, ran_for, stops, error, place=place) if blamed else None


def _stopped_by(  # noqa: PLR0913 - the same
    stop: Stop | None,
    call: Call,
    ran_for: timedelta | None,
    stops: StopSignals,
    error: BaseException | None = None,
    *,
    place: str | None = None,
) -> Settlement:
    match stop:
        case Stop.CANCEL:
            return call.cancelled(stops.reason, ran_for)
        case Stop.TIMEOUT:
            ran_for = ran_for or timedelta(0)
            late = TimeoutError(_how_late(place or place_of(call), ran_for, stops))
            # With the traceback of the place where the code was interrupted.
            return call.broken_off(late if error is None else late.with_traceback(error.__traceback__), ran_for)
    return call.released(SHUTTING_DOWN, ran_for=ran_for)


def _how_late(place: str, ran_for: timedelta, stops: StopSignals) -> str:
    timeout = stops.timeout or timedelta(0)
    longer = ran_for - stops.held - timeout
    held = f" ({readable(stops.held)} of it held up by other code on the loop)" if stops.held else ""
    by = f"ran {readable(ran_for)}{held}, {readable(longer)} longer" if longer >= _WORTH_TELLING else "ran longer"
    return f"{by} than its timeout of {readable(timeout)}, in {place}"


def place_of(call: Call) -> str:
    """Return the file and line of a call's handler."""
    return place_of_function(call.task.function)


def place_of_function(function: object) -> str:
    """Return the file and line of a function, or the class of an object without them. Never raises."""
    try:
        code = getattr(inspect.unwrap(function), "__code__", None) or function.__code__  # type: ignore[arg-type, attr-defined]
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}"
    except BaseException:  # noqa: BLE001 - a wrapper's attributes may run any code
        return class_name(function)
