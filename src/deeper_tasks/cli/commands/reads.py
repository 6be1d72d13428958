"""The commands that read: `deeper status`, `deeper list` and `deeper stats`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.filter_options import add_dead_letters, takes_filters
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.formats import jobs, share
from deeper_tasks.cli.rendering.output import console, terminal_width, write_json
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.cli.unknown_names import warn_of_unknown_names
from deeper_tasks.manager import Page, Statistics
from deeper_tasks.manager.conditions import Conditions


@click.command(
    epilog="""\b
Examples:
  deeper status 0197c2f0-1a2b-7 --url sqlite:///tasks.db
  deeper status 0197c2f0-1a2b-7 --full
  deeper status 0197c2f0-1a2b-7 --json | jq .last_error"""
)
@click.argument("task_id", metavar="ID")
@click.option("--full", "is_full", is_flag=True, help="Show all frames of tracebacks, those of deeper_tasks too.")
@takes_target
def status(target: Target, *, task_id: str, is_full: bool) -> None:
    """
    Show a job: its state, times, errors with their tracebacks, log and result.

    ID is the id of a job, or its first 13 digits, or more if those fit several jobs.
    """
    with target.opened() as manager:
        job = manager.sync.get_task_status(manager.sync.expand_task_id(task_id))
    if target.as_json:
        write_json(job)
        return
    from deeper_tasks.cli.rendering.jobs import render_facts, render_texts

    screen = console()
    for text in (*render_facts(job), *render_texts(job, is_full=is_full)):
        screen.print(text, soft_wrap=True)


@click.command(
    name="list",
    epilog="""\b
Examples:
  deeper list
  deeper list --dead
  deeper list --status failed --status discarded --queue emails
  deeper list --worker-module myapp.reports --sort-by finished_at --per-page 20
  deeper list --json --per-page 1000 | jq -r '.entries[].id'""",
)
@takes_filters
@click.option("--dead", is_flag=True, help="Only dead letters, the latest first, with their errors.")
@click.option("--page", type=int, default=1, show_default=True)
@click.option("--per-page", type=int, default=50, show_default=True, help="At most 1000.")
@click.option(
    "--sort-by",
    type=click.Choice(["inserted_at", "scheduled_at", "finished_at"]),
    help="By default inserted_at; with --dead finished_at.",
)
@click.option("--ascending", is_flag=True, help="List the oldest first.")
@click.option(
    "--cursor",
    metavar="TEXT",
    help="Continue after a page: its next_cursor. In a long list it is faster than --page.",
)
@takes_target
def list_jobs(
    target: Target,
    *,
    conditions: Conditions,
    dead: bool,
    page: int,
    per_page: int,
    sort_by: str | None,
    ascending: bool,
    cursor: str | None,
) -> None:
    """
    List jobs, the newest first.

    A narrow terminal shows short ids: as many digits as identify one job. All
    commands accept them. A pipe gets full ids and full texts.

    Dead letters are jobs that failed or were discarded: --dead lists them,
    'deeper status ID' shows each error of one, and 'deeper retry' runs them again.
    """
    add_dead_letters(conditions, dead=dead)
    sort_by = sort_by or ("finished_at" if dead else "inserted_at")
    with target.opened() as manager:
        listed = manager.sync.list_tasks(
            page=page, per_page=per_page, sort_by=sort_by, descending=not ascending, cursor=cursor, **conditions
        )
        if not listed.total_entries:
            warn_of_unknown_names(manager, conditions)
        if target.as_json:
            write_json(listed)
            return
        _show(manager, listed, is_dead=dead)
    click.echo(_footer(listed, by_cursor=cursor is not None))


@click.command(
    epilog="""\b
Examples:
  deeper stats --app myapp.tasks:manager
  deeper stats --json | jq .queues.default.pending
  deeper stats --watch
  deeper stats --watch --interval 10 --json >> stats.jsonl"""
)
@click.option("--watch", "is_watching", is_flag=True, help="Show the figures again and again, until Ctrl-C or q.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=86_400),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds from one look of --watch to the next.",
)
@takes_target
def stats(target: Target, *, is_watching: bool, interval: float) -> ExitCode:
    """
    Show the jobs and error rates of each queue, and how busy the workers are. 'Today' is the day in UTC.

    An error rate is the share of failed and discarded jobs in all jobs that
    ended. The last hour is the current ten minutes and the six before.

    With --watch a live screen shows the queues with their rates, the workers
    and the latest dead letters. Without a terminal, it prints a line for each
    look; with --json, a line of JSON. It continues if the store does not answer.
    """
    if is_watching:
        from deeper_tasks.cli.commands.watch import watch
        from deeper_tasks.cli.rendering.live_screen import LiveScreen

        return watch(target, interval=interval, screen=None if target.as_json else LiveScreen.on_terminal(interval))
    with target.opened() as manager:
        statistics = manager.sync.get_statistics()
    if target.as_json:
        write_json(statistics)
        return ExitCode.DONE
    from deeper_tasks.cli.rendering.jobs import render_statistics

    if statistics.queues:
        screen = console()
        for line in render_statistics(statistics, width=terminal_width(screen)):
            screen.print(line, soft_wrap=True)
    else:
        click.echo("no queue has had a job yet")
    click.echo(_errors(statistics))
    workers = statistics.workers_summary
    click.echo(f"workers: {workers.workers}, with {workers.total_busy} slots busy and {workers.total_idle} idle")
    return ExitCode.DONE


def _show(manager: BackgroundTaskManager, listed: Page, *, is_dead: bool) -> None:
    from deeper_tasks.cli.rendering.job_list import has_room_for_ids, render_page

    screen = console()
    width = terminal_width(screen)
    ids: Sequence[str] = [job.id for job in listed.entries]
    if not has_room_for_ids(width):
        ids = manager.sync.shorten_task_ids(ids)
    for line in render_page(listed, ids, width=width, is_dead=is_dead) if ids else ():
        screen.print(line, soft_wrap=True)


def _errors(statistics: Statistics) -> str:
    queues = statistics.queues.values()
    today, last_hour = sum(queue.ended_today for queue in queues), sum(queue.ended_last_hour for queue in queues)
    if not today and not last_hour:
        return "error rate: nothing has ended today"
    return (
        f"error rate: {share(statistics.error_rate_today)} of {jobs(today)} that ended today, "
        f"{share(statistics.error_rate_last_hour)} of {last_hour:,} in the last hour"
    )


def _footer(page: Page, *, by_cursor: bool) -> str:
    total = jobs(page.total_entries)
    if not page.total_is_exact:
        total = f"more than {total}"
    if by_cursor:
        further = f"; next: --cursor {page.next_cursor}" if page.next_cursor else ""
        return f"{total}{further}"
    return f"{total}, page {page.page_number} of {max(page.total_pages, 1):,}"
