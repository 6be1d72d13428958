"""The output: answers on stdout, as JSON for programs or drawn for people."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from deeper_tasks.cli.process.streams import as_encodable
from deeper_tasks.domain.view import to_json

if TYPE_CHECKING:
    from rich.console import Console

_UNCUT = _PIPED_WIDTH = 240
"""Columns where the output is no terminal: nothing is cut off that a program may want to find."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def write_json(answer: Any) -> None:
    """Write an answer as one line of JSON; the keys are the fields of the views, as in their `to_dict`."""
    click.echo(as_encodable(to_json(answer), sys.stdout))


def console() -> Console:
    """Return what draws for people: in colours on a terminal, wide and plain elsewhere."""
    from rich.console import Console

    class Screen(Console):
        """A console that leaves a broken pipe to the program."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Screen(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def terminal_width(screen: Console) -> int | None:
    """Return the columns of a terminal; None where the output is no terminal, and nothing is to be cut off."""
    return screen.width if screen.is_terminal or screen.width < _UNCUT else None


def jobs(count: int) -> str:
    """Return how many jobs: `1 job`, `2,000 jobs`."""
    return f"{count:,} {'job' if count == 1 else 'jobs'}"


def share(fraction: float | None) -> str:
    """Return a share in per cent: `2.5 %`; a hyphen where there is nothing to share."""
    return "-" if fraction is None else f"{100 * fraction:.3g} %"


def size(count: float) -> str:
    """Return a number of bytes in its fitting unit: `1.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 - units of bytes
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def safe(text: object) -> str:
    """Return a text of a job's without control characters, with which it could rewrite the terminal."""
    whole = str(text)
    return (
        whole
        if whole.isprintable()
        else "".join(each if each.isprintable() or each in "\n\t" else "�" for each in whole)
    )


def first_line(text: object) -> str:
    """Return a text's first line, with a sign that there are more."""
    first, *more = safe(text).strip().splitlines() or [""]
    return f"{first} …" if more else first


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def is_past(moment: datetime) -> bool:
    """Return whether a time has passed by this machine's clock."""
    return moment < now()


def local_time(moment: datetime) -> str:
    """Return a time in the local zone, and how far away it is."""
    return f"{_localized(moment):%Y-%m-%d %H:%M:%S %Z} ({ago(moment)})"


def local_clock(moment: datetime) -> str:
    """Return a time of today in the local zone."""
    return f"{_localized(moment):%H:%M:%S}"


def _localized(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except (OverflowError, ValueError):
        # Within hours of the calendar's ends.
        return moment


def ago(moment: datetime) -> str:
    """Return how far away a time is by this machine's clock: `5 s ago`, `in 3 h`."""
    away = moment - now()
    if abs(away) < timedelta(seconds=1):
        return "now"
    size = abs(away.total_seconds())
    seconds, unit = next((each for each in _UNITS if size >= 1.5 * each[0]), (1, "s"))
    text = f"{round(size / seconds)} {unit}"
    return f"in {text}" if away > timedelta(0) else f"{text} ago"
