"""The verdict: the last lines of a report, and the screen that it is printed on."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console

SHOWN_IN_PART = 77
"""The exit code of a proof that found nothing wrong, but could not show all that it is for on this machine."""

_MOST_SHOWN = 20
_WIDTH = 120


def screen(width: int = _WIDTH) -> Console:
    """Return the terminal, or where there is none a page of this width: a table in a file is not cut off."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def print_verdict(faults: Sequence[str]) -> None:
    """Print what was wrong with the jobs, the first of it, or that nothing was."""
    for fault in faults[:_MOST_SHOWN]:
        click.echo(fault)
    if len(faults) > _MOST_SHOWN:
        click.echo(f"… and {len(faults) - _MOST_SHOWN} more faults")
    if faults:
        click.echo("Something is wrong: see above.")
    else:
        click.echo("Every job ended as its task intends, nothing ran twice at a time, and nothing was left behind.")
