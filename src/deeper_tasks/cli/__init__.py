"""The command `deeper`: runs workers, and enqueues, shows and controls jobs."""

from __future__ import annotations

import click

from deeper_tasks import __version__
from deeper_tasks.cli.commands import (
    cleanup,
    completion,
    control,
    demo,
    doctor,
    enqueue,
    health,
    migrate,
    queues,
    reads,
    schedules,
    worker,
)
from deeper_tasks.cli.program import EXIT_CODES, Program
from deeper_tasks_command import release_hang_up

_HELP = f"""
Run background tasks, and see and control their jobs.

A task is a function of your application, a job is one enqueued run of it.

\b
Examples:
  deeper worker myapp.tasks:manager --queues default:20,emails:5
  deeper enqueue myapp.tasks.send_welcome 42 --app myapp.tasks:manager
  deeper list --dead --url sqlite:///tasks.db
  deeper stats --watch
  deeper doctor

'deeper demo' runs jobs of every kind and shows them, in about ten seconds.

A command works on the store that --url names, or on the store of the manager
that --app names, or on the store of the settings: DEEPER_TASKS_URL,
deeper_tasks.toml, or [tool.deeper_tasks] in pyproject.toml. With --json a
command answers in JSON, errors included.

{EXIT_CODES}
"""


@click.group(cls=Program, name="deeper", help=_HELP, invoke_without_command=True)
@click.version_option(__version__, prog_name="deeper", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Show the help if the command line names no command."""
    if context.invoked_subcommand != worker.worker.name:
        # A worker releases SIGHUP itself, as soon as it handles the signal.
        release_hang_up()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    worker.worker,
    enqueue.enqueue,
    reads.status,
    reads.list_jobs,
    reads.stats,
    control.cancel,
    control.retry,
    control.reschedule,
    control.run_now,
    control.delete,
    queues.queues,
    schedules.schedules,
    cleanup.cleanup,
    doctor.doctor,
    migrate.migrate,
    health.health,
    completion.completion,
    demo.demo,
):
    main.add_command(_command)
