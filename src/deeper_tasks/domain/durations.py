"""Durations as people read them."""

from __future__ import annotations

from datetime import timedelta

_MINUTE = 60.0
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
_SMALL = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))


def readable(duration: timedelta | float) -> str:
    """
    Return a duration, a `timedelta` or seconds, in units that people read: `5.2 ms`, `1.5 s`, `1 h 0 min`.

    A duration below a minute has three digits; a longer one has its largest unit and the next smaller one. A negative
    duration has its sign in front.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if seconds < 0:
        return f"-{readable(-seconds)}"
    if round(seconds, 1) >= _MINUTE:
        return _in_two_units(round(seconds))
    if not seconds:
        return "0 s"
    # Rounded first: 0.9999 s are 1 s, and not 1e+03 ms.
    rounded = float(f"{seconds:.3g}")
    _, factor, unit = next(each for each in _SMALL if rounded >= each[0])
    return f"{rounded * factor:.3g} {unit}"


def _in_two_units(seconds: int) -> str:
    size, unit, part, finer = next(each for each in _UNITS if seconds >= each[0])
    units, rest = divmod(seconds // part, size // part)
    return f"{units} {unit} {rest} {finer}"
