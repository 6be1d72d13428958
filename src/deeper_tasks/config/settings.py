"""The settings of a manager and of its workers, with their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from deeper_tasks.config.queues import DEFAULT_CONCURRENCY
from deeper_tasks.config.url import redacted
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.module_names import TASK_MODULES
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.errors import ConfigError

_LONGEST_DAYS = 36_500
_LONGEST_SECONDS = _LONGEST_DAYS * 86_400

PositiveSeconds = Annotated[float, Meta(gt=0, le=_LONGEST_SECONDS)]
Seconds = Annotated[float, Meta(ge=0, le=_LONGEST_SECONDS)]
Days = Annotated[float, Meta(ge=0, le=_LONGEST_DAYS)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Make them with `load_settings`, which checks them. The name of a duration ends with its unit."""

    url: str = "sqlite:///tasks.db"
    """The URL of the store: `sqlite:///tasks.db`, `postgresql://…`, `memory://`, `noop://` …"""
    listen_url: str | None = None
    """PostgreSQL behind a pooler: a URL that leads directly to the server, for notifications. None uses `url`."""
    joined_hints: bool = True
    """PostgreSQL: an enqueue in a caller's transaction sends a notification with its commit, unless the server's queue
    of notifications is more than half full. False sends none, and workers find the job by polling: then a queue of
    notifications that other programs have filled cannot make the caller's commit fail."""
    enabled: bool = True
    """False accepts enqueues, but keeps and runs no job, as `noop://` does; questions about jobs raise
    `UnsupportedError`."""

    default_queue: str = "default"
    """The queue of a task that names none. Also called `default_queue_name`."""
    default_max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 5
    """The number of attempts, including the first, after which a failing job is discarded."""
    default_retry_delay_seconds: Seconds = 15.0
    """The delay after the first failed attempt; it doubles after each further one."""
    default_max_retry_delay_seconds: Seconds = 3600.0
    """The limit of the doubling. A first delay that is longer stays as it is."""
    default_timeout_seconds: PositiveSeconds | None = 3600.0
    """How long an attempt may take. None sets no limit."""
    check_arguments: Literal["values", "signature"] = "values"
    """The checks of an enqueue. `values` checks that the task gets each argument unaltered; `signature` checks only
    names and types."""
    enqueue_patience_seconds: Seconds = 0.0
    """How long an enqueue is repeated, with the same id, while the store does not answer. 0 lets it fail at once."""
    max_argument_bytes: Count = 1024 * 1024
    """The largest size of a job's arguments as JSON; an enqueue with larger arguments is refused."""
    max_result_bytes: Count = 1024 * 1024
    """The largest size of a result as JSON; a job with a larger result completes, but its result is not stored."""

    include: tuple[str, ...] = ()
    """Modules and packages whose tasks are registered at the start; in a package, those of `task_modules`."""
    task_modules: tuple[str, ...] = TASK_MODULES
    """Patterns for the names of the modules in which `include` of a package looks for tasks."""
    allowed_modules: tuple[str, ...] = ()
    """Modules whose public functions are tasks without a decorator, as are those of all modules below them."""

    queues: dict[str, int] = msgspec.field(default_factory=dict)
    """The queues that a worker serves, and how many jobs of each run at once. `tenant-*` serves all queues whose names
    begin with `tenant-`; they share its slots in turn. `*` serves all queues. Default: the default queue, with 10."""
    prefetch_milliseconds: Annotated[float, Meta(ge=0, le=60_000)] = 50.0
    """A worker claims jobs beyond its free slots only if they will start within this time."""
    poll_interval_seconds: PositiveSeconds = 1.0
    """How often a worker looks for jobs without a notification; after a notification it looks at once."""
    heartbeat_seconds: PositiveSeconds = 5.0
    """How often a worker writes its heartbeat into the store."""
    lease_seconds: PositiveSeconds = 20.0
    """How long a worker's heartbeat must stay unchanged before other workers rescue its jobs."""
    shutdown_grace_seconds: Seconds = 30.0
    """How long a stopping worker waits for its running jobs."""
    unknown_task_grace_seconds: Seconds = 86_400.0
    """How long a job whose task no worker knows is kept before it fails."""
    deploy_grace_seconds: Seconds = 900.0
    """How long a job whose arguments fit no worker's code is kept before it fails."""

    loop_stall_warning_seconds: PositiveSeconds | None = 1.0
    """After this time, a blocked event loop is logged as a WARNING that names the blocking code. None logs none."""
    loop_stall_limit_seconds: PositiveSeconds | None = None
    """After this time, a blocked event loop ends its process with exit code 75, and other workers rescue its jobs. None
    sets no limit."""
    stuck_slots_limit: Count | None = None
    """The number of slots lost to jobs that ignore their timeouts at which a worker drains and ends with exit code 75,
    to be replaced. None takes half of all slots, or all of one queue."""
    stuck_seconds: PositiveSeconds = 3600.0
    """How long a job may run after its timeout before its worker drains and ends with exit code 75. A job that blocks
    the event loop of `deeper worker` for this time ends the process at once."""
    process_memory_limit_mb: Count | None = None
    """The memory that a job in a process may use, unless its task sets a limit; 1 MB is 2**20 bytes. None sets none."""

    quarantine_slots: Count = 1
    """How many jobs run at once in a worker's quarantine, where a job runs again whose last attempt ended with its
    worker."""

    retention_days_completed: Days | None = 7.0
    """How long completed jobs are kept. None keeps them forever."""
    retention_days_failed: Days | None = 30.0
    """How long failed, discarded and cancelled jobs are kept. None keeps them forever."""
    cleanup_interval_seconds: PositiveSeconds = 60.0
    """How often a worker deletes jobs past their retention."""
    queue_capacity: Count | None = None
    """The number of pending jobs that a queue should not exceed. At 80 % of it one worker logs a WARNING, and again
    only after the number has fallen to 70 %. None logs none."""

    processes: Annotated[int, Meta(ge=1, le=1024)] = 1
    """How many processes `deeper worker` runs, each with the slots of `queues`; a supervisor runs more than one."""
    silence_limit_seconds: Annotated[float, Meta(ge=2, le=_LONGEST_SECONDS)] = 30.0
    """How long a worker process may give no sign of life before its supervisor kills and replaces it."""
    health_host: str = "127.0.0.1"
    """The address on which `deeper worker` serves its health; in a container 0.0.0.0."""
    health_port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """The port for `/live`, `/ready` and `/health`; 0 chooses a free port. None serves no health."""
    health_file: str | None = None
    """A file that is rewritten every few seconds while the workers are ready. None writes no file."""

    redact_names: tuple[str, ...] = ()
    """Names whose values are withheld from logs and stored errors, besides `password`, `pass`, `token`, `secret`,
    `authorization`, `cookie`, `api_key`, `access_key`, `private_key`, `credential` and the like."""
    redact_patterns: tuple[str, ...] = ()
    """Regular expressions of further text that is withheld from logs and stored errors."""

    log_tracebacks: Literal["warning", "error"] = "error"
    """The attempts whose log lines have a traceback: `error` for the last failed attempt of a job, `warning` for every
    failed attempt."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """The lowest level that `deeper worker` logs."""

    def __post_init__(self) -> None:
        if not self.queues:
            msgspec.structs.force_setattr(self, "queues", {self.default_queue: DEFAULT_CONCURRENCY})
        if self.lease_seconds <= self.heartbeat_seconds:
            message = (
                f"setting 'lease_seconds' ({readable(self.lease_seconds)}) must be longer than 'heartbeat_seconds' "
                f"({readable(self.heartbeat_seconds)}), or live workers look dead; four times as long is usual"
            )
            raise ConfigError(message)
        warning, limit = self.loop_stall_warning_seconds, self.loop_stall_limit_seconds
        if warning is not None and limit is not None and limit < warning:
            message = (
                f"setting 'loop_stall_limit_seconds' ({readable(limit)}) must not be shorter than "
                f"'loop_stall_warning_seconds' ({readable(warning)}), or the process ends before it says why; "
                "a minute is usual"
            )
            raise ConfigError(message)

        try:
            Redactor(names=self.redact_names, patterns=self.redact_patterns)
        except ValueError as error:
            message = f"settings 'redact_names' and 'redact_patterns': {error}"
            raise ConfigError(message) from None

    def __repr__(self) -> str:
        listen_url = self.listen_url and redacted(self.listen_url)
        values = msgspec.structs.asdict(self) | {"url": redacted(self.url), "listen_url": listen_url}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"
