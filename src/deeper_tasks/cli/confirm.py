"""Confirmation: which jobs a command would change, and whether the user wants that."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.process.wakeup import woken_by_signals
from deeper_tasks.cli.rendering.output import jobs
from deeper_tasks.cli.target import Target
from deeper_tasks.cli.unmatched import warn_of_unmatched
from deeper_tasks.manager.conditions import Conditions


def check_choice(ids: Sequence[str], conditions: Conditions, *, alternative: str = "") -> None:
    """Refuse both ids and conditions, and neither."""
    if ids and conditions:
        raise click.UsageError("ids and conditions exclude each other; give one of them")
    if not ids and not conditions:
        raise click.UsageError(f"which jobs? Give their ids, conditions such as --queue{alternative}")


def is_wanted(target: Target, manager: BackgroundTaskManager, conditions: Conditions, *, what: str) -> bool:
    """
    Ask on the terminal whether to `what` all jobs that meet the conditions, saying how many there are.

    Raises:
        click.UsageError: there is no terminal, or the output is JSON.
    """
    if target.as_json or not _is_terminal():
        raise click.UsageError(f"cannot ask without a terminal or with --json; add --yes to {what} all that match")
    page = manager.sync.list_tasks(per_page=1, **conditions)
    if not page.total_entries:
        warn_of_unmatched(manager, conditions)
    count = jobs(page.total_entries) if page.total_is_exact else f"more than {jobs(page.total_entries)}"
    return _is_confirmed(f"{what.capitalize()} {count}?")


def _is_confirmed(question: str) -> bool:
    while True:
        click.echo(f"{question} [y/N]: ", nl=False, err=True)
        _await_line()
        try:
            answer = input().strip().lower()
        except EOFError:
            raise click.Abort from None
        if answer in {"y", "yes"}:
            return True
        if answer in {"", "n", "no"}:
            return False


def _await_line() -> None:
    """Wait until a line is typed, so that its reading waits for nothing: Ctrl-C just before it would not be heard."""
    if sys.stdin.isatty():
        with woken_by_signals() as woken:
            select.select([sys.stdin, woken], [], [])


def _is_terminal() -> bool:
    return sys.stdin.isatty()
