"""The command `deeper worker`: starts the processes that run jobs."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from deeper_tasks.cli.application import written_place
from deeper_tasks.cli.completion.candidates import complete_place
from deeper_tasks.cli.completion.names import complete_queues
from deeper_tasks.cli.process.exit_messages import name_crashes
from deeper_tasks.cli.process.init import leave_init_behind
from deeper_tasks.cli.process.shutdown import run_to_the_end
from deeper_tasks.cli.process.streams import allow_closed_output
from deeper_tasks.cli.process.supervise import supervise
from deeper_tasks.cli.process.worker_logs import JSON, LEVELS, NONE, TEXT
from deeper_tasks.cli.process.worker_options import WorkerOptions
from deeper_tasks.cli.process.worker_process import Environment, run_alone, run_supervised
from deeper_tasks.config import load_settings
from deeper_tasks.config.working_folder import absolute
from deeper_tasks.supervisor.changes import check_watching


def _refuse_app(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(f"--app is not an option of a worker; write deeper worker {written_place(value)}")


@click.command(
    epilog="""\b
Examples:
  deeper worker myapp.tasks:manager
  deeper worker myapp.tasks:manager --queues default:20,emails:5
  deeper worker myapp.tasks:manager --processes 4 --health-port 8080
  deeper worker myapp.tasks:manager --reload
  deeper worker myapp.tasks:manager --url sqlite:////var/lib/myapp/tasks.db
  deeper worker myapp.tasks:manager --log-format json --log-level warning

\b
With --processes or --reload, a supervisor runs the worker processes. It
replaces a process that ends, a process whose slots are kept by jobs that ignore
their timeouts (settings stuck_slots_limit, stuck_seconds), and a process that
gives no sign of life for 30 s (setting silence_limit_seconds). SIGHUP to the
supervisor restarts the processes one after the other. A single process is
supervised only with --processes 1.

\b
Health: /live, /ready and /health answer 200 or 503. Live: the process gives
signs of life. Ready: at least one of the processes claims jobs, and the worker
is not stopping. In a container, use --health-host 0.0.0.0; or use --health-file
with this health check: deeper health --file PATH --max-age 30

\b
The settings of processes and health are needed before the application is
imported. They come from these options, from the environment
(DEEPER_TASKS_PROCESSES, DEEPER_TASKS_HEALTH_PORT, …) or from deeper_tasks.toml,
not from the application's code.

\b
Exit codes: 0 stopped in order; 1 a supervised process had to be killed or did
not stop in order, code that blocks the event loop kept the worker from
stopping, a start hook failed, or the worker ended without a request to stop
(a supervisor keeps trying); 2 wrong usage, or the application cannot be
imported; 4 the store cannot be used (a supervisor keeps trying); 75 jobs
ignored their timeouts, so that only a new process frees their slots, or a job
blocked the event loop longer than the settings loop_stall_limit_seconds and
stuck_seconds allow, or a part of the worker failed repeatedly (a supervisor
starts another process)."""
)
@click.argument("application", metavar="MODULE:MANAGER", shell_complete=complete_place)
@click.option("--app", "-A", hidden=True, expose_value=False, is_eager=True, callback=_refuse_app)
@click.option(
    "--queues",
    shell_complete=complete_queues,
    metavar="NAME:SLOTS,…",
    help="The queues to serve, and how many jobs of each run at once in a process. 'tenant-*:2' serves all queues "
    "whose names begin with 'tenant-'; they share the slots in turn. '*:10' serves every queue. Default: the default "
    "queue, with 10 slots.",
)
@click.option("--url", metavar="URL", help="The store, in place of the manager's own.")
@click.option(
    "--listen-url",
    metavar="URL",
    help="If --url leads to a PgBouncer: a URL that leads to PostgreSQL itself, for notifications.",
)
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="How long a stop waits for running jobs."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Supervise N worker processes; each has all the slots of --queues. Default: the setting, else one process "
    "without a supervisor.",
)
@click.option("--reload", is_flag=True, help="Restart when *.py or *.toml files of the working folder change.")
@click.option(
    "--reload-dir",
    "reload_folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PATH",
    help="With --reload: a folder to watch besides the working folder. May be repeated.",
)
@click.option("--health-port", type=click.IntRange(0, 65_535), metavar="PORT", help="Serve /live, /ready and /health.")
@click.option(
    "--health-host", metavar="ADDRESS", help="The address to serve them on. Default: 127.0.0.1; in a container 0.0.0.0."
)
@click.option(
    "--health-file",
    type=click.Path(readable=False),
    metavar="PATH",
    help="A file to write every few seconds while the worker is ready.",
)
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), help="Default: the setting, else info.")
@click.option(
    "--log-format",
    type=click.Choice([TEXT, JSON, NONE]),
    default=TEXT,
    show_default=True,
    help="With none, your application sets up logging.",
)
@click.option("--json", "log_format", flag_value=JSON, help="The same as --log-format json.")
@click.option("--child", type=(int, int, int), hidden=True, help="Index, count and pipe of a supervised process.")
def worker(
    *,
    reload: bool,
    reload_folders: tuple[Path, ...],
    processes: int | None,
    health_port: int | None,
    health_host: str | None,
    health_file: str | None,
    child: tuple[int, int, int] | None,
    **given: str,
) -> int:
    """
    Run jobs until SIGTERM, SIGHUP or Ctrl-C.

    MODULE:MANAGER names your application's manager, such as myapp.tasks:manager;
    the module is searched for from the working folder on. The first signal stops
    the worker in order: it claims no new jobs, and running jobs may finish within
    the grace period. A second signal releases them at once, without using up an
    attempt.
    """
    leave_init_behind()
    name_crashes()
    allow_closed_output()
    options = msgspec.convert(given, WorkerOptions)
    settings = load_settings(
        processes=processes, health_port=health_port, health_host=health_host, health_file=health_file
    )
    as_json = options.log_format == JSON
    if child is not None:
        place = Environment(*child)
        return run_to_the_end(lambda: run_supervised(options, settings, place), as_json=as_json)
    if reload_folders and not reload:
        raise click.UsageError("--reload-dir has no effect without --reload; add --reload, or leave out --reload-dir")
    if reload:
        folders = sorted({absolute(folder).resolve() for folder in (Path(), *reload_folders)})
        check_watching(folders)
        return supervise(options, settings, reload_folders=tuple(folders))
    if processes is not None or settings.processes > 1:
        return supervise(options, settings)
    return run_to_the_end(lambda: run_alone(options, settings), as_json=as_json)
