"""New jobs: from a task, its arguments and checked options to what a store inserts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import UnsetType

from deeper_tasks import native
from deeper_tasks.config import Settings
from deeper_tasks.domain.ids import IdGenerator
from deeper_tasks.domain.job import NORMAL_PRIORITY, JobOptions, JobSpec, Json, NewJob
from deeper_tasks.domain.unique import Unique, call_key, given_key
from deeper_tasks.tasks import ArgumentCheck, JobRequest, Task

AnyTask = Task[..., Any]

Check = Callable[[AnyTask, JobRequest], None]
"""Raises when a call of a task could not be run."""

_NO_OPTIONS = JobOptions()
_NO_TIMEOUT = timedelta(0)


class JobFactory:
    """Makes jobs with ids of their own, the settings' defaults filled in."""

    def __init__(self, settings: Settings, *, check: Check) -> None:
        self._settings = settings
        self._check = check
        self.ids = IdGenerator(native.allocate_lock)

    def spec(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any], request: JobRequest) -> JobSpec:
        """
        Return what is to be run and how.

        Raises:
            InvalidArgumentsError: the arguments are not JSON, too large or do not fit.
            UnsupportedError, InvalidOptionError: no worker of this manager could run it.
        """
        self._check(task, request)
        settings = self._settings
        return JobSpec(
            task=task.name,
            arguments=self._document(task, args, kwargs),
            queue=request.queue or settings.default_queue,
            priority=NORMAL_PRIORITY if request.priority is None else request.priority,
            max_attempts=request.max_attempts or settings.default_max_attempts,
            expires_in=request.expires_in,
            options=_options(task, request),
        )

    def _document(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Json:
        return task.signature.encode(
            args,
            kwargs,
            max_bytes=self._settings.max_argument_bytes,
            are_compared=(task.check_arguments or self._settings.check_arguments) != ArgumentCheck.SIGNATURE,
        )

    def job(self, spec: JobSpec, request: JobRequest, moment: datetime | timedelta | None = None) -> NewJob:
        """Return a job due at `moment`, or after it, or at once."""
        when = request.delay if moment is None else moment
        return NewJob(
            request_id=request.task_id or self.ids.next(time.time_ns()),
            spec=spec,
            due=when if isinstance(when, datetime) else None,
            delay=when if isinstance(when, timedelta) else timedelta(0),
            unique=to_unique(spec, request),
        )


def _options(task: AnyTask, request: JobRequest) -> JobOptions:
    """
    Return the options that the job must carry: those of this enqueue that differ from the task's own.

    The task's own options stay in its definition, so a change of the definition counts for jobs under way.
    """
    own = task.request
    retry_delay = None if request.retry_delay == own.retry_delay else request.retry_delay
    timeout = None if isinstance(request.timeout, UnsetType) or request.timeout == own.timeout else request.timeout
    if timeout is None and request.timeout is None and own.timeout is not None:
        timeout = _NO_TIMEOUT
    longest = None if request.max_retry_delay == own.max_retry_delay else request.max_retry_delay
    has_own = not (retry_delay is None and longest is None and timeout is None)
    if not has_own and task.path_apart is None and not request.tags and not request.meta:
        return _NO_OPTIONS
    return JobOptions(
        retry_delay=retry_delay,
        max_retry_delay=longest,
        timeout=timeout,
        tags=request.tags or (),
        meta=request.meta or {},
        path=task.path_apart,
    )


def to_unique(spec: JobSpec, request: JobRequest) -> Unique | None:
    """Return the unique key that the options claim for a job of this content; None where they claim none."""
    if request.unique_for is None and not request.until_done:
        return None
    key = call_key(spec.task, spec.arguments) if request.unique_key is None else given_key(request.unique_key)
    return Unique(key=key, period=request.unique_for)
