"""Foreign names: names of other task libraries, with their equivalents in this one."""

from __future__ import annotations

import re
from typing import Any

from deeper_tasks.errors import UnknownNameError

_OF_AN_ENQUEUE = "it belongs to an enqueue: task.with_options(…).enqueue(…)"
_OF_A_TASK = "it belongs to the task: @manager.task(…)"

EQUIVALENT_OPTIONS = {
    "countdown": "give delay_seconds=… at the enqueue",
    "delay": "give delay_seconds=… at the enqueue",
    "eta": "use manager.schedule_task(task, args=[…], scheduled_at=…)",
    "run_at": "use manager.schedule_task(task, args=[…], scheduled_at=…)",
    "at": "use manager.schedule_task(task, args=[…], scheduled_at=…)",
    "scheduled_at": "use manager.schedule_task(task, args=[…], scheduled_at=…)",
    "bind": "leave it out: current_job() gives a running task its job, and the function takes no self",
    "pass_context": "leave it out: current_job() gives a running task its job",
    "max_retries": "give max_attempts=…, which counts the first attempt too",
    "retries": "give max_attempts=…, which counts the first attempt too",
    "max_tries": "give max_attempts=…, which counts the first attempt too",
    "autoretry_for": "every exception is retried unless retry_on=… or fail_on=… says otherwise",
    "throws": "give fail_on=…, the exceptions that end a job at once",
    "dont_autoretry_for": "give fail_on=…, the exceptions that end a job at once",
    "default_retry_delay": "give retry_delay_seconds=…",
    "retry_delay": "give retry_delay_seconds=…",
    "min_backoff": "give retry_delay_seconds=…, which doubles up to max_retry_delay_seconds=…",
    "max_backoff": "give max_retry_delay_seconds=…",
    "retry_backoff": "delays double by themselves, from retry_delay_seconds=… to max_retry_delay_seconds=…",
    "retry_backoff_max": "give max_retry_delay_seconds=…",
    "retry_jitter": "give jitter=…, 0.1 for a tenth",
    "time_limit": "give timeout_seconds=…",
    "soft_time_limit": "give timeout_seconds=…",
    "timeout": "give timeout_seconds=…",
    "job_timeout": "give timeout_seconds=…",
    "expires": "give expires_in_seconds=…",
    "ttl": "give expires_in_seconds=…",
    "max_age": "give expires_in_seconds=…",
    "acks_late": "leave it out: a job is acknowledged when its attempt has ended, always",
    "ignore_result": "leave it out: a task that returns nothing stores nothing",
    "store_results": "leave it out: what a task returns is stored",
    "rate_limit": "there is no rate limit; a queue of its own with few slots bounds how many run at once",
    "queue_name": "give queue=…",
    "queues": "give queue=…",
    "routing_key": "give queue=…",
    "exchange": "give queue=…",
    "actor_name": "give name=…",
    "job_id": "give task_id=…, a UUID, at the enqueue",
    "lock": "give unique='until_done'",
    "lock_task": "give unique='until_done'",
    "queueing_lock": "give unique='until_done'",
    "crontab": "give cron='0 3 * * *'",
    "schedule": "give cron='0 3 * * *'",
    "serializer": "leave it out: arguments are stored as JSON, by the annotations of the function",
    "link": "enqueue the next job at the end of this one, in a transaction by transactional=True",
    "link_error": "subscribe to JobFailed and JobDiscarded by manager.subscribe(…)",
    "on_failure": "subscribe to JobFailed and JobDiscarded by manager.subscribe(…)",
    "on_success": "subscribe to JobCompleted by manager.subscribe(…)",
    **dict.fromkeys(
        ("connection", "delay_seconds", "enqueue_patience_seconds", "task_id", "unique_key"), _OF_AN_ENQUEUE
    ),
    **dict.fromkeys(("check_arguments", "executor", "fail_on", "jitter", "late_result", "memory_limit_mb"), _OF_A_TASK),
    **dict.fromkeys(("name", "quarantine", "retry", "retry_on", "transactional"), _OF_A_TASK),
    **dict.fromkeys(("cron", "missed_runs", "overlap", "timezone"), _OF_A_TASK),
}
"""The advice for an option that does not exist, or not at this place, by the option's name."""

_ENQUEUE = "write 'await {task}.enqueue(…)', or '{task}.sync.enqueue(…)' in code that is not async"
_OPTIONS = f"{_ENQUEUE}; options go in between: {{task}}.with_options(delay_seconds=60).enqueue(…)"
_LATER = (
    "write '{task}.with_options(delay_seconds=60).enqueue(…)', or 'manager.schedule_task({task}, args=[…], "
    "scheduled_at=…)'"
)
_CALL = "'{task}.call(…)' is a call that is not enqueued yet, for manager.enqueue_many([…])"
_MANY = "write 'manager.enqueue_many([{task}.call(1), {task}.call(2)])'"
_PROGRESS = "in a running task current_job() has progress(…), log(…) and what is known of its job"

_OF_TASKS = {
    **dict.fromkeys(("delay", "send", "kiq", "perform_async", "perform_later", "aenqueue", "defer", "queue"), _ENQUEUE),
    **dict.fromkeys(("apply_async", "send_with_options", "defer_async", "options", "configure", "kicker"), _OPTIONS),
    **dict.fromkeys(("set", "using"), _OPTIONS),
    **dict.fromkeys(("perform_in", "perform_at", "enqueue_in", "enqueue_at", "schedule"), _LATER),
    **dict.fromkeys(("s", "si", "signature", "subtask", "message", "message_with_options"), _CALL),
    **dict.fromkeys(("enqueue_many", "map", "starmap", "chunks"), _MANY),
    **dict.fromkeys(("apply", "run", "call_local", "fn"), "call the function itself: '{task}(…)'"),
    "update_state": _PROGRESS,
    "AsyncResult": "write 'await manager.get_task_status(task_id)', or 'manager.result(task_id)' to wait for its end",
}

_NAMED = "write 'await task.enqueue(…)', or 'manager.enqueue_task(task, args=[…])', where the task may be a name too"
_DECORATE = "decorate the function with '@manager.task', or '@manager.task(queue=…)'"
_RUN = "run 'deeper worker myapp.tasks:manager', or 'await manager.run_worker()'"
_RECURRING = "write '@manager.task(cron=\"0 3 * * *\")', or 'manager.schedule_recurring_task(name, task, …)'"

_OF_MANAGERS = {
    **dict.fromkeys(("enqueue", "send_task", "delay", "apply_async", "enqueue_job", "enqueue_call", "send"), _NAMED),
    **dict.fromkeys(
        ("enqueue_in", "enqueue_at", "schedule", "perform_in", "perform_at"),
        "write 'manager.schedule_task(task, args=[…], scheduled_at=…)', which takes a moment or seconds from now",
    ),
    **dict.fromkeys(("actor", "job", "shared_task", "register_task", "add_task", "register"), _DECORATE),
    **dict.fromkeys(("periodic_task", "cron", "scheduled_job", "add_periodic_task", "add_job", "periodic"), _RECURRING),
    **dict.fromkeys(("worker_main", "start", "work", "run", "run_worker_async", "Worker", "serve"), _RUN),
    "autodiscover_tasks": "write 'manager.include(\"myapp\")'",
    "AsyncResult": "write 'await manager.get_task_status(task_id)', or 'manager.result(task_id)' to wait for its end",
    "fetch_job": "write 'await manager.get_task_status(task_id)'",
    "get_job": "write 'await manager.get_task_status(task_id)'",
    "revoke": "write 'await manager.cancel_task(task_id)'",
    "cancel": "write 'await manager.cancel_task(task_id)'",
    "abort": "write 'await manager.cancel_task(task_id)'",
    "retry": "write 'await manager.retry_task(task_id)'",
    "purge": "write 'await manager.delete_tasks(queue=…)'",
    "conf": "settings are given to BackgroundTaskManager(…), or read by BackgroundTaskManager.from_settings()",
    "config_from_object": "settings are read by BackgroundTaskManager.from_settings()",
    "add_middleware": "decorate a function with '@manager.middleware'",
}

_CALL_OF_MANAGER = re.compile(
    r"(?<![@\w])(?:await )?\b(manager|task)\.(?!task\b|include\b|run_worker\b|middleware\b)(\w+)\("
)

_STATUS = "this is the job's id: write 'await manager.get_task_status(task_id)', or 'manager.sync.get_task_status(…)'"
_RESULT = "this is the job's id: write 'await manager.result(task_id)', or 'manager.sync.result(…)'"
_OF_TASK_IDS = {
    **dict.fromkeys(("get", "result", "wait", "join", "wait_result", "get_result", "collect", "return_value"), _RESULT),
    **dict.fromkeys(("status", "state", "ready", "successful", "failed", "info", "date_done", "traceback"), _STATUS),
    **dict.fromkeys(("get_status", "is_finished", "is_failed", "fetch", "refresh", "args", "kwargs", "meta"), _STATUS),
    **dict.fromkeys(("id", "task_id", "job_id", "message_id"), "this is the job's id itself, a str: write 'task_id'"),
    **dict.fromkeys(("cancel", "revoke", "abort"), "write 'await manager.cancel_task(task_id)'"),
    **dict.fromkeys(("retry", "requeue"), "write 'await manager.retry_task(task_id)'"),
    **dict.fromkeys(("delete", "forget"), "write 'await manager.delete_task(task_id)'"),
}

_MANAGER = "write 'manager = BackgroundTaskManager(\"sqlite:///tasks.db\")'"
_CURRENT = "current_job() gives a running task its job"
_OF_PACKAGE = {
    **dict.fromkeys(("shared_task", "actor", "job", "db_task", "app_task"), "decorate with '@task' of this package"),
    **dict.fromkeys(("Celery", "Huey", "SqliteHuey", "Dramatiq", "Procrastinate", "App", "Broker"), _MANAGER),
    **dict.fromkeys(("Queue", "Manager", "TaskManager", "Tasks", "DeeperTasks", "app"), _MANAGER),
    **dict.fromkeys(
        ("periodic_task", "db_periodic_task", "crontab", "cron", "schedule"), "write '@task(cron=\"0 3 * * *\")'"
    ),
    **dict.fromkeys(("current_task", "get_current_job", "get_current_task", "CurrentMessage"), _CURRENT),
    **dict.fromkeys(("Worker", "SimpleWorker", "run_worker"), _RUN),
    **dict.fromkeys(("chain", "group", "chord", "signature", "pipeline"), EQUIVALENT_OPTIONS["link"]),
    **dict.fromkeys(("AsyncResult", "Job", "Result"), _OF_MANAGERS["AsyncResult"]),
}


class _Missing:
    """
    A name that a class lacks: its use raises an error that names the equivalent.

    It is a descriptor, because a `__getattr__` would slow down every other attribute of the class.
    """

    __slots__ = ("_hint", "_name")

    def __init__(self, name: str, hint: str) -> None:
        self._name = name
        self._hint = hint

    def __get__(self, holder: object | None, kind: type) -> Any:
        message = f"{kind.__name__!r} object has no attribute {self._name!r}"
        raise UnknownNameError(f"{message}; {self._hint.format(task=_name_of(holder))}")


class _ForeignNames:
    """A class with foreign names, which `dir` does not list."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not isinstance(_static(type(self), name), _Missing)]


class ForeignTaskNames(_ForeignNames):
    """A base of tasks: names of other libraries raise errors that name the equivalents."""

    __slots__ = ()


class ForeignManagerNames(_ForeignNames):
    """A base of managers: names of other libraries raise errors that name the equivalents."""


class ForeignBlockingNames(_ForeignNames):
    """A base of blocking managers: the same, with the blocking form of each equivalent."""


class ForeignTaskIdNames(_ForeignNames):
    """A base of task ids: names of other libraries raise errors that name the equivalents."""

    __slots__ = ()


def missing_from_package(package: str, name: str, *, is_import: bool) -> AttributeError | ImportError:
    """Return the error about a name that the package lacks, with the equivalent if it is another library's name."""
    hint = f"; {_OF_PACKAGE[name]}" if name in _OF_PACKAGE else ""
    if is_import and hint:
        return ImportError(f"cannot import name {name!r} from {package!r}{hint}", name=package)
    message = f"module {package!r} has no attribute {name!r}{hint}"
    return UnknownNameError(message) if hint else AttributeError(message)


def _blocking(hint: str) -> str:
    """Return a hint with the blocking forms of the calls in it, for those that have one."""
    return _CALL_OF_MANAGER.sub(r"\1.sync.\2(", hint)


for _kind, _hints in (
    (ForeignTaskNames, _OF_TASKS),
    (ForeignManagerNames, _OF_MANAGERS),
    (ForeignBlockingNames, {name: _blocking(hint) for name, hint in _OF_MANAGERS.items()}),
    (ForeignTaskIdNames, _OF_TASK_IDS),
):
    for _each, _hint in _hints.items():
        # In the class's body, type checkers would take them for attributes.
        setattr(_kind, _each, _Missing(_each, _hint))


def _static(kind: type, name: str) -> object:
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)


def _name_of(holder: object) -> str:
    return str(getattr(getattr(holder, "task", holder), "__name__", "task"))
