"""Confirmation: the question that a command asks before it changes all jobs that meet its conditions."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.process.wakeup import woken_by_signals
from deeper_tasks.cli.rendering.formats import jobs
from deeper_tasks.cli.target import Target
from deeper_tasks.cli.unknown_names import warn_of_unknown_names
from deeper_tasks.manager.conditions import Conditions


def check_choice(ids: Sequence[str], conditions: Conditions, *, alternative: str = "") -> None:
    """
    Check that the command line selects jobs either by ids or by conditions.

    Raises:
        click.UsageError: it has both, or neither.
    """
    if ids and conditions:
        raise click.UsageError("the command line has both ids and conditions; give one or the other")
    if not ids and not conditions:
        raise click.UsageError(f"no jobs are selected; give their ids, or conditions such as --queue{alternative}")


def is_confirmed(target: Target, manager: BackgroundTaskManager, conditions: Conditions, *, what: str) -> bool:
    """
    Ask on the terminal whether to `what` (a verb, such as "cancel") all jobs that meet the conditions.

    The question says how many jobs there are.

    Raises:
        click.UsageError: there is no terminal, or the output is JSON.
    """
    if target.as_json or not _is_terminal():
        raise click.UsageError(
            f"cannot ask for confirmation without a terminal, or with --json; add --yes to {what} all jobs that match"
        )
    page = manager.sync.list_tasks(per_page=1, **conditions)
    if not page.total_entries:
        warn_of_unknown_names(manager, conditions)
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
    """
    Wait until the user has typed a line, so that `input` does not wait.

    A Ctrl-C that came just before a wait in `input` would take effect only after the user's next line.
    """
    if sys.stdin.isatty():
        with woken_by_signals() as woken:
            select.select([sys.stdin, woken], [], [])


def _is_terminal() -> bool:
    return sys.stdin.isatty()
