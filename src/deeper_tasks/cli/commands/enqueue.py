"""The command `deeper enqueue`."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import click

from deeper_tasks import BackgroundTaskManager, Task
from deeper_tasks import task as make_task
from deeper_tasks.cli.commands.enqueue_lines import Defaults, LineEnqueuer, LineReader, describe, opened_lines
from deeper_tasks.cli.completion.names import complete_queue, complete_task
from deeper_tasks.cli.parameters import duration, json_of, loose_json, moment
from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.errors import TaskNotFoundError


@click.command(
    epilog="""\b
Examples:
  deeper enqueue myapp.tasks.send_welcome 42 --app myapp.tasks:manager
  deeper enqueue send_welcome --kwargs '{"user_id": 42}' --delay 10m --app myapp.tasks:manager
  deeper enqueue myapp.tasks.report --at 2026-01-31T09:00 --unique-for 1d
  deeper enqueue myapp.tasks.add --app myapp.tasks:manager -- 1 -2
  deeper enqueue shop.tasks.sync 7 --url sqlite:///tasks.db --unchecked
  deeper enqueue myapp.tasks.send_welcome --from users.jsonl --queue bulk --app myapp.tasks:manager
  psql -AtXc "SELECT json_build_object('args', json_build_array(id)) FROM users" |
    deeper enqueue myapp.tasks.send_welcome --from - --app myapp.tasks:manager"""
)
@click.argument("task", required=False, shell_complete=complete_task)
@click.argument("words", nargs=-1, metavar="[ARGS]...")
@click.option("--args", "args", type=json_of(list, example='[42, "x"]'), metavar="JSON", help="ARGS as one JSON list.")
@click.option("--kwargs", type=json_of(dict, example='{"user_id": 42}'), metavar="JSON", help="Arguments by name.")
@click.option("--queue", metavar="NAME", shell_complete=complete_queue)
@click.option("--priority", type=int, metavar="NUMBER", help="-100 to 100; lower runs first, 0 is normal.")
@click.option("--delay", type=duration, metavar="TIME", help="Due after this time: 90, 10m, 2h, 7d.")
@click.option("--at", "due", type=moment, metavar="TIME", help="Due at this time (ISO; local without a zone).")
@click.option("--max-attempts", type=int, metavar="NUMBER")
@click.option(
    "--retry-delay",
    "retry_delay_seconds",
    type=duration,
    metavar="TIME",
    help="Delay after the first failure; it doubles after each further one.",
)
@click.option(
    "--max-retry-delay", "max_retry_delay_seconds", type=duration, metavar="TIME", help="The longest retry delay."
)
@click.option("--timeout", "timeout_seconds", type=duration, metavar="TIME", help="How long an attempt may take.")
@click.option(
    "--expires-in",
    "expires_in_seconds",
    type=duration,
    metavar="TIME",
    help="Fail the job if it has not started after this time.",
)
@click.option(
    "--unique-for",
    "unique_for_seconds",
    type=duration,
    metavar="TIME",
    help="Enqueue no job with the same key for this time.",
)
@click.option("--until-done", is_flag=True, help="Enqueue no job with the same key until this job ends.")
@click.option("--unique-key", metavar="TEXT", help="The key of a unique job; by default its task and arguments.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated.")
@click.option("--meta", type=json_of(dict, example='{"by": "me"}'), metavar="JSON")
@click.option("--task-id", metavar="UUID", help="The id of the job; with it the command is safe to repeat.")
@click.option(
    "--from",
    "source",
    type=click.Path(readable=False, allow_dash=True),
    metavar="FILE",
    help="Enqueue a job for each line of a file; '-' is stdin.",
)
@click.option(
    "--start-line",
    type=click.IntRange(min=1),
    default=1,
    metavar="NUMBER",
    help="With --from: skip the lines before this one.",
)
@click.option("--unchecked", is_flag=True, help="Enqueue without the task's code; the arguments are not checked.")
@takes_target
def enqueue(
    target: Target,
    *,
    task: str | None,
    words: tuple[str, ...],
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    due: datetime | None,
    until_done: bool,
    unchecked: bool,
    source: str | None,
    start_line: int,
    **options: Any,
) -> None:
    """
    Enqueue a job of TASK and print its id.

    TASK is the name of a task, such as myapp.tasks.send_welcome, or its last part
    if only one task ends so. Each of ARGS is read as JSON, or as plain text if it
    is not JSON: 42 is a number, '"42"' and hello are texts.

    The arguments are checked against the task's signature, so the task's code must
    be known: name the application by --app, or by the setting 'include'. With a
    store alone, add --unchecked: the job is enqueued as it is written, and a
    mistake shows only when the job runs.

    With --from each line of a file becomes a job. A line is a JSON object with
    "args" and "kwargs". It may also have "task", "scheduled_at" (ISO, as --at) and
    any option of an enqueue, such as "queue", "priority", "delay_seconds", "tags"
    or "task_id"; these override the command line. All lines are checked before
    the first is enqueued. Then they are enqueued in transactions of a thousand. An
    error names the file and the line; if many lines are wrong, the first 20 are
    listed.
    """
    has_arguments = bool(words) or args is not None or kwargs is not None
    for is_wrong, message in (
        (words and args is not None, "the command line has arguments twice; give them as words or by --args"),
        (due is not None and options["delay"] is not None, "--at and --delay exclude each other; give one of them"),
        (source is not None and (has_arguments or options["task_id"]), _IN_THE_LINES),
        (source is None and task is None, "no task is named; name the TASK, or give --from FILE"),
        (source is None and start_line != 1, "--start-line has no effect without --from; leave it out, or add --from"),
        (not unchecked and not target.knows_tasks, _unknown(task)),
    ):
        if is_wrong:
            raise click.UsageError(message)
    given = _given(options, until_done=until_done)
    if task is None or source is not None:
        defaults = Defaults(task=task, options=given, scheduled_at=due)
        _enqueue_lines(target, source or "-", defaults, first=start_line, unchecked=unchecked)
        return
    arguments = list(map(loose_json, words)) if args is None else args
    with target.opened(with_tasks=not unchecked, create=True) as manager:
        found = _unchecked(task) if unchecked else _find(manager, task)
        if due is None:
            job = manager.sync.enqueue_task(found, args=arguments, kwargs=kwargs, **given)
        else:
            job = manager.sync.schedule_task(found, args=arguments, scheduled_at=due, kwargs=kwargs, **given)
    if target.as_json:
        write_json({"id": str(job), "is_new": job.is_new, "task": found.name})
        return
    click.echo(job)
    if not job.is_new:
        click.echo("deeper: no job was enqueued; the id is that of the existing job", err=True)


_IN_THE_LINES = "with --from each line has its own arguments and id; leave out ARGS, --args, --kwargs and --task-id"


def _unknown(task: str | None) -> str:
    what = "the tasks exist and take" if task is None else f"{task!r} exists and takes"
    return (
        f"without the application it is unknown whether {what} these arguments; "
        "add --app module:manager, or --unchecked to enqueue without a check"
    )


def _enqueue_lines(target: Target, source: str, defaults: Defaults, *, first: int, unchecked: bool) -> None:
    with opened_lines(source) as (file, name), target.opened(with_tasks=not unchecked, create=True) as manager:
        find = _unchecked if unchecked else partial(_find, manager)
        reader = LineReader(file, name, defaults=defaults, find=find)
        answer = LineEnqueuer(target, manager, reader, first=first).run()
    if target.as_json:
        write_json(answer)
    else:
        click.echo(describe(answer))


def _given(options: dict[str, Any], *, until_done: bool) -> dict[str, Any]:
    options["delay_seconds"] = options.pop("delay")
    options["unique"] = "until_done" if until_done else None
    return {name: value for name, value in options.items() if value is not None and value != ()}


def _find(manager: BackgroundTaskManager, name: str) -> Task[..., Any]:
    task = manager.registry.get(name)
    if task is not None:
        return task
    known = sorted(each.name for each in manager.registry)
    matches = [each for each in known if each.endswith(f".{name}")]
    if len(matches) > 1:
        raise TaskNotFoundError(f"several tasks end in {name!r}: {', '.join(matches)}; write the full name")
    if matches:
        return _find(manager, matches[0])
    worker, dot, function = name.rpartition(".")
    if not dot:
        raise TaskNotFoundError(f"no task is named {name!r}; there are: {', '.join(known) or 'none'}")
    return manager.registry.find(worker, function)


def _unchecked(name: str) -> Task[..., Any]:
    """Return a task of this name that takes any arguments, for a task whose code is not here."""

    @make_task(name=name)
    def anything(*args: Any, **kwargs: Any) -> None:
        """Never run here."""

    return anything
