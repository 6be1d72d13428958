"""The settings of a worker."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from deeper_tasks.backends.protocol import Retention


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """
    The settings of one worker. `queues` maps each queue to how many of its jobs run at once; an entry may be a
    pattern (`ServedQueues`), whose queues share its slots. `default_queue` is the queue of tasks that name none.

    `lease` is how long another worker must see no sign of life before it takes
    this one's jobs; it must be a few times `heartbeat`. `prefetch` bounds how
    far ahead jobs are claimed: no more than are expected to start within it.
    """

    queues: dict[str, int]
    default_queue: str = "default"
    name: str = "worker"
    heartbeat: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=20)
    poll_interval: timedelta = timedelta(seconds=1)
    prefetch: timedelta = timedelta(milliseconds=50)
    shutdown_grace: timedelta = timedelta(seconds=30)
    default_timeout: timedelta | None = timedelta(hours=1)
    default_retry_delay: timedelta = timedelta(seconds=15)
    default_max_retry_delay: timedelta = timedelta(hours=1)
    unknown_task_grace: timedelta = timedelta(hours=24)
    deploy_grace: timedelta = timedelta(minutes=15)
    max_result_bytes: int = 1024 * 1024
    loop_stall_warning: timedelta | None = timedelta(seconds=1)
    loop_stall_limit: timedelta | None = None
    process_memory_limit_mb: int | None = None
    quarantine_slots: int = 1
    retention: Retention = Retention()
    cleanup_interval: timedelta = timedelta(seconds=60)
    stuck_slots_limit: int | None = None
    stuck_after: timedelta = timedelta(hours=1)
    queue_capacity: int | None = None
