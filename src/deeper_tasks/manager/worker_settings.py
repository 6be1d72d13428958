"""The settings of a manager as its worker takes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from deeper_tasks.backends.protocol import Retention
from deeper_tasks.config import Settings
from deeper_tasks.config.queues import check_queues
from deeper_tasks.worker.settings import WorkerSettings


def retention_of(settings: Settings) -> Retention:
    """Return how long the settings keep ended jobs."""
    completed, failed = settings.retention_days_completed, settings.retention_days_failed
    return Retention(
        completed=None if completed is None else timedelta(days=completed),
        failed=None if failed is None else timedelta(days=failed),
    )


def worker_settings(
    settings: Settings,
    queues: Mapping[str, int] | None = None,
    *,
    name: str = "worker",
    shutdown_grace_seconds: float | None = None,
) -> WorkerSettings:
    """Return the settings as a worker takes them; what is given beside them comes first."""
    timeout = settings.default_timeout_seconds
    grace = settings.shutdown_grace_seconds if shutdown_grace_seconds is None else shutdown_grace_seconds
    return WorkerSettings(
        queues=check_queues(queues or settings.queues),
        default_queue=settings.default_queue,
        name=name,
        heartbeat=timedelta(seconds=settings.heartbeat_seconds),
        lease=timedelta(seconds=settings.lease_seconds),
        poll_interval=timedelta(seconds=settings.poll_interval_seconds),
        prefetch=timedelta(milliseconds=settings.prefetch_milliseconds),
        shutdown_grace=timedelta(seconds=grace),
        default_timeout=None if timeout is None else timedelta(seconds=timeout),
        default_retry_delay=timedelta(seconds=settings.default_retry_delay_seconds),
        default_max_retry_delay=timedelta(seconds=settings.default_max_retry_delay_seconds),
        unknown_task_grace=timedelta(seconds=settings.unknown_task_grace_seconds),
        deploy_grace=timedelta(seconds=settings.deploy_grace_seconds),
        max_result_bytes=settings.max_result_bytes,
        loop_stall_warning=_duration(settings.loop_stall_warning_seconds),
        loop_stall_limit=_duration(settings.loop_stall_limit_seconds),
        stuck_slots_limit=settings.stuck_slots_limit,
        stuck_after=timedelta(seconds=settings.stuck_seconds),
        process_memory_limit_mb=settings.process_memory_limit_mb,
        quarantine_slots=settings.quarantine_slots,
        retention=retention_of(settings),
        cleanup_interval=timedelta(seconds=settings.cleanup_interval_seconds),
        queue_capacity=settings.queue_capacity,
    )


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
