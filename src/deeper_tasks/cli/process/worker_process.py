"""The worker process: imports the application and runs one worker, alone or under a supervisor."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.application import load_manager
from deeper_tasks.cli.process.health_outlets import HealthOutlets
from deeper_tasks.cli.process.monitor import Monitor
from deeper_tasks.cli.process.shutdown import end_loop
from deeper_tasks.cli.process.signals import StopsOutsideTheLoop, stops_outside_the_loop
from deeper_tasks.cli.process.worker_logs import make_way, set_level, start_logging
from deeper_tasks.cli.process.worker_options import WorkerOptions
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.banner import greet, store_of
from deeper_tasks.config import Settings, parse_queues, redacted
from deeper_tasks.errors import ConfigError, UnsupportedError
from deeper_tasks.supervisor import Lifeline, Loaded, Refused
from deeper_tasks.worker.process.worker_loop import run_on_loop
from deeper_tasks.worker.worker import Worker

_logger = logging.getLogger("deeper_tasks")

_OF_THE_COMMAND = ("processes", "silence_limit_seconds", "health_host", "health_port", "health_file")


class Environment(Struct, frozen=True):
    """A supervised process: its index, the count of processes, and its descriptor of the pipe to the supervisor."""

    index: int
    count: int
    descriptor: int


def run_alone(options: WorkerOptions, settings: Settings) -> ExitCode:
    """Run a worker without a supervisor, and return the exit code."""
    handler = start_logging(options.log_format)
    with stops_outside_the_loop() as stops:
        return _run_alone(options, settings, handler, stops)


def _run_alone(
    options: WorkerOptions, settings: Settings, handler: logging.Handler, stops: StopsOutsideTheLoop
) -> ExitCode:
    manager, loaded = _load(options, logging_to=handler)
    _warn_of_ignored(manager.settings, settings)
    monitor = Monitor(silence_limit=settings.silence_limit_seconds)
    with HealthOutlets(settings, health=monitor.health) as outlets:
        monitor.on_beat = outlets.refresh

        def on_start(worker: Worker) -> None:
            monitor.watch(worker)
            # The banner comes after the signal handlers: a program that reads it may now stop the worker in order.
            greet(options.application, loaded, log_format=options.log_format, health=outlets.url)

        return run_on_loop(_work(manager, loaded, stops, on_start=on_start))


def run_supervised(options: WorkerOptions, settings: Settings, place: Environment) -> ExitCode:
    """Run a worker under a supervisor, and return the exit code."""
    handler = start_logging(options.log_format, index=place.index)
    with stops_outside_the_loop() as stops:
        return _run_supervised(options, settings, place, handler, stops)


def _run_supervised(
    options: WorkerOptions, settings: Settings, place: Environment, handler: logging.Handler, stops: StopsOutsideTheLoop
) -> ExitCode:
    lifeline = Lifeline(place.descriptor)
    try:
        manager, loaded = _load(options, logging_to=handler)
        abilities = manager.backend.capabilities
    except UnsupportedError:
        lifeline.send(Refused())
        raise
    if place.count > 1 and abilities.runs_jobs and not abilities.is_shared:
        raise ConfigError(
            f"the store {redacted(manager.settings.url)} exists in one process only, but {place.count} processes are "
            "configured; use --processes 1, or a store that processes share"
        )
    if place.index == 1:
        _warn_of_ignored(manager.settings, settings)
    lifeline.grace = loaded.grace
    lifeline.send(loaded)
    monitor = Monitor(silence_limit=settings.silence_limit_seconds)
    monitor.on_beat = lambda: lifeline.send(monitor.report())
    return run_on_loop(_work(manager, loaded, stops, on_start=monitor.watch, name=f"worker-{place.index}"))


def _load(options: WorkerOptions, *, logging_to: logging.Handler) -> tuple[BackgroundTaskManager, Loaded]:
    manager = load_manager(options.application)
    if options.url is not None:
        manager.use_store(options.url, listen_url=options.listen_url)
    elif options.listen_url is not None:
        raise ConfigError("--listen-url has no effect without --url; add --url, or set listen_url of the manager")
    set_level(logging_to, asked=options.log_level, setting=manager.settings.log_level)
    make_way(logging_to)
    loaded = Loaded(
        store=store_of(manager),
        queues=dict(manager.settings.queues if options.queues is None else parse_queues(options.queues)),
        tasks=len(list(manager.registry)),
        grace=manager.settings.shutdown_grace_seconds if options.grace is None else options.grace,
    )
    return manager, loaded


def _warn_of_ignored(own: Settings, settings: Settings) -> None:
    """Warn of settings in the application's code that have no effect: they are needed before its import."""
    defaults, given = msgspec.structs.asdict(Settings()), msgspec.structs.asdict(settings)
    for name, value in msgspec.structs.asdict(own).items():
        if name in _OF_THE_COMMAND and value not in (defaults[name], given[name]):
            _logger.warning(
                "setting %r of the manager has no effect on this command; set it in deeper_tasks.toml, in the "
                "environment or on the command line",
                name,
            )


async def _work(
    manager: BackgroundTaskManager,
    loaded: Loaded,
    stops: StopsOutsideTheLoop,
    *,
    on_start: Callable[[Worker], None],
    name: str = "worker",
) -> ExitCode:
    """Run a worker to its end, then end all tasks of the loop; return the exit code."""
    code = ExitCode.REFUSED
    try:
        ended = await manager.run_worker(
            loaded.queues, name=name, shutdown_grace_seconds=loaded.grace, on_start=on_start
        )
        if ended.is_stopping:
            code = ExitCode.STUCK if ended.is_stuck else ExitCode.DONE
    finally:
        stops.take_again(code)
        await manager.close()
    if not ended.is_stopping:
        _logger.error("worker ended without a request to stop; this process ends, start the worker again")
    if ended.is_stuck:
        _logger.error("worker cannot continue, %s; this process ends, start the worker again", ended.stuck_because)
    await end_loop(code)
    return code
