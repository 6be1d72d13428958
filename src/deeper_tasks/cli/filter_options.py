"""The filter options: options such as --queue and --status, which select jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import click

from deeper_tasks.cli.completion.names import complete_module, complete_queue, complete_task
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.manager.conditions import Conditions

R = TypeVar("R")


def takes_filters(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the filter options; the command gets those on its command line as one dict, `conditions`."""

    @click.option(
        "--status",
        multiple=True,
        metavar="STATE",
        type=click.Choice(list(map(str, State))),
        help=f"May be repeated: {', '.join(State)}.",
    )
    @click.option("--queue", metavar="NAME", help="Only jobs of this queue.", shell_complete=complete_queue)
    @click.option(
        "--worker-module",
        metavar="MODULE",
        help="Only tasks of this module, and of those below it.",
        shell_complete=complete_module,
    )
    @click.option("--task", metavar="NAME", help="Only jobs of this task.", shell_complete=complete_task)
    @click.option("--tag", metavar="TAG", help="Only jobs with this tag.")
    @wraps(command)
    def call(
        *positional: object,
        status: tuple[str, ...],
        queue: str | None,
        worker_module: str | None,
        task: str | None,
        tag: str | None,
        **rest: object,
    ) -> R:
        conditions: Conditions = {}
        if status:
            conditions["status"] = status
        if queue is not None:
            conditions["queue"] = queue
        if worker_module is not None:
            conditions["worker_module"] = worker_module
        if task is not None:
            conditions["task"] = task
        if tag is not None:
            conditions["tag"] = tag
        return command(*positional, conditions=conditions, **rest)

    return call


def add_dead_letters(conditions: Conditions, *, dead: bool) -> None:
    """Add the states of dead letters to the conditions if the command line has --dead."""
    if dead and "status" in conditions:
        raise click.UsageError("--dead selects the states failed and discarded; leave out --status")
    if dead:
        conditions["status"] = sorted(DEAD_LETTER)
