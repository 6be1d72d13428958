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
    """All settings. Make them with `load_settings`, which checks them; durations carry their unit in the name."""

    url: str = "sqlite:///tasks.db"
    """The store; its scheme chooses which: `sqlite:///tasks.db`, `postgresql://…`, `memory://`, `noop://` …"""
    listen_url: str | None = None
    """PostgreSQL behind a pooler: a URL that leads straight to the server, to listen for hints. None: `url`."""
    joined_hints: bool = True
    """PostgreSQL: an enqueue in a caller's transaction sends a hint with its commit, unless the server's queue of
    notifications is more than half full. False: none, and polling finds the job; then that queue, which other
    programs may fill in between, can never make the commit fail."""
    enabled: bool = True
    """False: what is enqueued is accepted, and neither kept nor run, as with `noop://`; questions about it raise
    `UnsupportedError`."""

    default_queue: str = "default"
    """The queue of a task that names none. Also called `default_queue_name`."""
    default_max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 5
    """How often a job is tried before it is discarded, the first attempt included."""
    default_retry_delay_seconds: Seconds = 15.0
    """The delay after the first failed attempt; it doubles from there."""
    default_max_retry_delay_seconds: Seconds = 3600.0
    """Where the doubling ends. A first delay that is longer stays as it is."""
    default_timeout_seconds: PositiveSeconds | None = 3600.0
    """How long an attempt may take. None: no limit."""
    check_arguments: Literal["values", "signature"] = "values"
    """The checks of an enqueue. `values`: that each argument arrives as it is; `signature`: only its name and type."""
    enqueue_patience_seconds: Seconds = 0.0
    """How long an enqueue is tried again, under the same id, while the store does not answer. 0: it fails at once."""
    max_argument_bytes: Count = 1024 * 1024
    """The size of a job's arguments as JSON above which its enqueue is refused."""
    max_result_bytes: Count = 1024 * 1024
    """The size of a result as JSON above which it is not stored; the job completes without one."""

    include: tuple[str, ...] = ()
    """Modules and packages whose tasks are taken in at the start; of packages in modules named as `task_modules`."""
    task_modules: tuple[str, ...] = TASK_MODULES
    """Patterns for the names of modules and packages in which `include` of a package finds tasks."""
    allowed_modules: tuple[str, ...] = ()
    """Modules whose public functions count as tasks undecorated, with all modules below them."""

    queues: dict[str, int] = msgspec.field(default_factory=dict)
    """The queues that a worker serves, and how many jobs of each run at once. `tenant-*` stands for all queues whose
    names begin so, which share its slots and are served in turn; `*` for all. Not given: the default queue, with 10."""
    prefetch_milliseconds: Annotated[float, Meta(ge=0, le=60_000)] = 50.0
    """Jobs beyond the free slots are claimed only if they will start within this time."""
    poll_interval_seconds: PositiveSeconds = 1.0
    """How often a worker looks by itself; notifications make it look at once."""
    heartbeat_seconds: PositiveSeconds = 5.0
    """How often a worker gives its sign of life."""
    lease_seconds: PositiveSeconds = 20.0
    """How long a worker's beat must stay unchanged before its jobs are given to others."""
    shutdown_grace_seconds: Seconds = 30.0
    """How long a worker that stops waits for the jobs that run."""
    unknown_task_grace_seconds: Seconds = 86_400.0
    """How long a job whose task no worker knows is kept before it fails."""
    deploy_grace_seconds: Seconds = 900.0
    """How long a job whose arguments fit no worker's code is kept before it fails."""

    loop_stall_warning_seconds: PositiveSeconds | None = 1.0
    """An event loop that is blocked so long is worth a WARNING that says by what. None: never."""
    loop_stall_limit_seconds: PositiveSeconds | None = None
    """An event loop that is blocked so long ends its process with exit code 75; others take its jobs. None: never."""
    stuck_slots_limit: Count | None = None
    """Slots lost to jobs that ignore their timeouts at which a worker drains and ends with exit code 75, for another to
    take its place. None: half of all slots, or all of one queue."""
    stuck_seconds: PositiveSeconds = 3600.0
    """How long one job may run on after its timeout before its worker drains and ends with exit code 75. One that
    blocks the event loop of `deeper worker` for so long ends the process at once."""
    process_memory_limit_mb: Count | None = None
    """Memory that a job in a process may use, unless its task says otherwise; 1 MB is 2**20 bytes. None: no limit."""

    quarantine_slots: Count = 1
    """How many jobs run at a time in a worker's quarantine: the attempts after those that were lost with a worker."""

    retention_days_completed: Days | None = 7.0
    """How long completed jobs are kept. None: for ever."""
    retention_days_failed: Days | None = 30.0
    """How long failed, discarded and cancelled jobs are kept. None: for ever."""
    cleanup_interval_seconds: PositiveSeconds = 60.0
    """How often a worker looks for jobs past their retention."""
    queue_capacity: Count | None = None
    """How many pending jobs a queue should have at most. At 80 % of that one worker of the fleet warns, and again after
    it fell to 70 %. None: never."""

    processes: Annotated[int, Meta(ge=1, le=1024)] = 1
    """How many processes `deeper worker` runs, each with the slots of `queues`; more than one are supervised."""
    silence_limit_seconds: Annotated[float, Meta(ge=2, le=_LONGEST_SECONDS)] = 30.0
    """How long a worker process may give no sign of life before its supervisor kills and replaces it."""
    health_host: str = "127.0.0.1"
    """The address on which `deeper worker` serves its health; in a container 0.0.0.0."""
    health_port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """The port for `/live`, `/ready` and `/health`; 0 takes a free one. None: not served."""
    health_file: str | None = None
    """A file that is written anew every few seconds while the workers are ready. None: none."""

    redact_names: tuple[str, ...] = ()
    """Names whose values are withheld from logs and stored errors, beside `password`, `pass`, `token`, `secret`,
    `authorization`, `cookie`, `api_key`, `access_key`, `private_key`, `credential` and the like."""
    redact_patterns: tuple[str, ...] = ()
    """Regular expressions of what else is withheld there."""

    log_tracebacks: Literal["warning", "error"] = "error"
    """From which level the log line of a failed attempt has its traceback: `error` means of the last attempt,
    `warning` of those too that are followed by another."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """What `deeper worker` logs at least."""

    def __post_init__(self) -> None:
        if not self.queues:
            msgspec.structs.force_setattr(self, "queues", {self.default_queue: DEFAULT_CONCURRENCY})
        if self.lease_seconds <= self.heartbeat_seconds:
            message = (
                f"setting 'lease_seconds' ({readable(self.lease_seconds)}) must be longer than 'heartbeat_seconds' "
                f"({readable(self.heartbeat_seconds)}), or living workers look dead; four times as long is usual"
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
