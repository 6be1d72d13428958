"""The definition of a task: the `@task` decorator, its options, and the checks on a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

from msgspec import UNSET, UnsetType

from deeper_tasks.domain.retry_policy import DelayFunction, RetryPolicy
from deeper_tasks.domain.schedule import MissedRuns, Overlap
from deeper_tasks.errors import InvalidOptionError, TaskError
from deeper_tasks.tasks.coroutines import leads_to_coroutine
from deeper_tasks.tasks.naming import check_name, default_name, module_of
from deeper_tasks.tasks.options import (
    LONGEST_DURATION,
    EnqueueOptions,
    JobRequest,
    Seconds,
    parse_options,
    unknown_option,
)
from deeper_tasks.tasks.quoting import quoted
from deeper_tasks.tasks.schedule import parse_schedule
from deeper_tasks.tasks.task import ArgumentCheck, ExecutorKind, Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskOptions(TypedDict, total=False):
    """
    The options of a task. Options that `EnqueueOptions` has too are the defaults of its jobs; None takes the settings'.

    `executor` says where the function runs; by default an `async def` runs on the event loop, and a `def` in a thread.
    `retry_on` and `fail_on` are the exceptions after which another attempt is made, or not. `jitter` spreads the
    delays, 0.1 by up to a tenth. `retry` is a whole policy, or a function of attempt and exception that returns the
    delay or None.

    `cron` lets the workers enqueue the task, without arguments, each time it is due. It has five fields, or six with
    seconds in front, or is a name such as `@daily`, or an interval such as `@every 30s`. `timezone` is the zone of the
    expression (UTC); `missed_runs` and `overlap` are as in `schedule_recurring_task`.

    `transactional=True` runs the task in its job's transaction. Writes through `current_job().connection`, jobs that
    the task enqueues with its manager, and the job's completion are committed together when the task returns, or not
    at all. The store must support it. On SQLite only one of these tasks runs at a time for the whole file, and all
    other writers wait. So none may take longer than half of the URL's `timeout` (10 s) and a quarter of
    `lease_seconds` (20 s); with these defaults that is 5 s, and `timeout_seconds` cannot be more.

    `late_result` decides about an attempt that returns after its timeout. "fail", the default, lets it fail by the
    timeout, as if it had been interrupted; "accept" completes the job.

    `check_arguments="values"`, the default of the settings, refuses at the enqueue an argument that would arrive as
    another value; `"signature"` checks only names and types.

    `memory_limit_mb`, only with `executor="process"`, is the memory that the process and its child processes may use
    together before they are killed; `math.inf` sets no limit.

    If an attempt is lost with its worker, the next attempt runs in quarantine: in a process of its own, so that a job
    that kills its process ends no other jobs. `quarantine=False` lets it run beside other jobs.
    """

    name: str | None
    executor: ExecutorKind | Literal["coroutine", "thread", "process"] | None
    queue: str | None
    priority: int | None
    max_attempts: int | None
    timeout_seconds: Seconds | None
    retry_delay_seconds: Seconds | None
    max_retry_delay_seconds: Seconds | None
    retry_on: type[BaseException] | Sequence[type[BaseException]] | None
    fail_on: type[BaseException] | Sequence[type[BaseException]] | None
    retry: RetryPolicy | DelayFunction | None
    jitter: float | None
    transactional: bool | None
    late_result: Literal["fail", "accept"] | None
    memory_limit_mb: float | None
    check_arguments: ArgumentCheck | Literal["values", "signature"] | None
    quarantine: bool | None
    unique_for_seconds: Seconds | None
    unique: Literal["until_done"] | None
    tags: Sequence[str] | None
    meta: Mapping[str, Any] | None
    expires_in_seconds: Seconds | None
    cron: str | None
    timezone: str | None
    missed_runs: MissedRuns | Literal["once", "all", "skip"] | None
    overlap: Overlap | Literal["allow", "skip"] | None


_ONLY_OF_THE_TASK = frozenset(TaskOptions.__annotations__) - frozenset(EnqueueOptions.__annotations__)
"""The options that `@task` has and an enqueue has not. Each other one is the default of the task's jobs."""
_MOST_MEMORY = 2**31 - 1
_POLICY_PARTS = ("retry_delay_seconds", "max_retry_delay_seconds", "retry_on", "fail_on", "jitter")


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
    """
    Make a function a task without a manager: `@task`, or `@task(queue="emails")`.

    A manager registers it by `manager.include("its.module")`.

    Raises:
        TaskError: the function cannot be a task.
        InvalidOptionError: an option is wrong; the message names it, its value and the way out.
    """
    if function is not None:
        return make_task(function, **options)
    return lambda function: make_task(function, **options)


def make_task(function: Callable[P, R], /, **options: Unpack[TaskOptions]) -> Task[P, R]:
    """Make a task of a function; raise the errors of `task`."""
    for option in options:
        if option not in TaskOptions.__annotations__:
            raise InvalidOptionError(unknown_option(option, TaskOptions.__annotations__))
    # `cron=None` switches the schedule off, and must not make its timezone and policies an error.
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None or name == "cron"}
    function = _checked(function)
    executor = _executor(function, given.get("executor"))
    if executor is ExecutorKind.PROCESS and ("<" in function.__qualname__ or module_of(function) is None):
        message = (
            f"{function.__qualname__} cannot run in a process, which must import it; define it at the top level of a "
            "module that can be imported"
        )
        raise TaskError(message)
    return Task(
        function,
        name=check_name(given["name"]) if "name" in given else default_name(function),
        module=module_of(function),
        executor=executor,
        request=_request(given),
        retry=_retry_policy(given),
        schedule=parse_schedule(function, given),
        is_transactional=_is_transactional(given.get("transactional", False), executor, function),
        accepts_late_result=_accepts_late_result(given.get("late_result", "fail")),
        memory_limit_mb=_memory_limit(given.get("memory_limit_mb", UNSET), executor),
        check_arguments=_argument_check(given.get("check_arguments")),
        has_quarantine=_has_quarantine(given.get("quarantine", True)),
    )


def _checked(function: Callable[P, R]) -> Callable[P, R]:
    if isinstance(function, staticmethod):
        function = function.__func__
    if isinstance(function, Task):
        message = f"{function.name!r} is a task already; register it by manager.include(…)"
        raise TaskError(message)
    if isinstance(function, str):
        message = (
            f"a task is made from a function, not from {quoted(function)}; for a name write name={quoted(function)}"
        )
        raise TaskError(message)
    if not inspect.isfunction(function):
        message = f"a task is made from a function, not from {quoted(function)}; write a def that calls it"
        raise TaskError(message)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"{function.__qualname__} is a generator: a call does not run its code; return values, do not yield"
        raise TaskError(message)
    if _is_method(function):
        message = f"{function.__qualname__} is a method, and a job has no object to call it on; make it a @staticmethod"
        raise TaskError(message)
    return function


def _is_method(function: Callable[..., Any]) -> bool:
    owner = function.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), None)
    return bool(owner) and not owner.endswith("<locals>") and first in {"self", "cls"}


def _executor(function: Callable[..., Any], given: object) -> ExecutorKind:
    is_coroutine = inspect.iscoroutinefunction(function)
    if given is None:
        return ExecutorKind.COROUTINE if is_coroutine else ExecutorKind.THREAD
    try:
        executor = ExecutorKind(str(given))
    except ValueError as error:
        message = f"option 'executor' cannot be {quoted(given)}: give 'coroutine', 'thread' or 'process'"
        raise InvalidOptionError(message) from error
    if executor is ExecutorKind.THREAD and is_coroutine:
        message = "option 'executor' cannot be 'thread': an async def runs on the loop, or in a 'process'"
        raise InvalidOptionError(message)
    if executor is ExecutorKind.COROUTINE and not leads_to_coroutine(function):
        message = "option 'executor' cannot be 'coroutine': a plain def would block the loop; make it an async def"
        raise InvalidOptionError(message)
    return executor


def _is_transactional(given: object, executor: ExecutorKind, function: Callable[..., Any]) -> bool:
    if not isinstance(given, bool):
        message = f"option 'transactional' cannot be {quoted(given)}: give True or False"
        raise InvalidOptionError(message)
    if given and executor is ExecutorKind.PROCESS:
        message = (
            "option 'transactional' cannot be True with executor='process': a connection cannot go to another "
            "process; leave one of the two out"
        )
        raise InvalidOptionError(message)
    if given and executor is ExecutorKind.THREAD and leads_to_coroutine(function):
        message = (
            f"option 'transactional' cannot be True for {function.__qualname__}, a def around an async def: which of "
            "the two kinds of connection it uses is unknown; add executor='coroutine', or make the wrapper an async def"
        )
        raise InvalidOptionError(message)
    return given


def _accepts_late_result(given: object) -> bool:
    if not isinstance(given, str) or given not in {"fail", "accept"}:
        message = (
            f"option 'late_result' cannot be {quoted(given)}: give 'fail', or 'accept' to complete a job that returns "
            "after its timeout"
        )
        raise InvalidOptionError(message)
    return given == "accept"


def _memory_limit(given: object, executor: ExecutorKind) -> int | UnsetType | None:
    if given is UNSET:
        return UNSET
    if executor is not ExecutorKind.PROCESS:
        message = (
            f"option 'memory_limit_mb' cannot be {quoted(given)} for a task in a {executor.value}, which shares "
            "the worker's memory; add executor='process'"
        )
        raise InvalidOptionError(message)
    if given == math.inf:
        return None
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= _MOST_MEMORY:
        return given
    message = (
        f"option 'memory_limit_mb' cannot be {quoted(given)}: "
        f"give a whole number from 1 to {_MOST_MEMORY}, or math.inf for no limit"
    )
    raise InvalidOptionError(message)


def _argument_check(given: object) -> ArgumentCheck | None:
    if given is None:
        return None
    try:
        return ArgumentCheck(str(given))
    except ValueError as error:
        message = (
            f"option 'check_arguments' cannot be {quoted(given)}: give 'values', or 'signature' to check only names "
            "and types"
        )
        raise InvalidOptionError(message) from error


def _has_quarantine(given: object) -> bool:
    if isinstance(given, bool):
        return given
    message = f"option 'quarantine' cannot be {quoted(given)}: give True or False"
    raise InvalidOptionError(message)


def _request(given: Mapping[str, Any]) -> JobRequest:
    options = {option: value for option, value in given.items() if option not in _ONLY_OF_THE_TASK}
    retry = given.get("retry")
    if isinstance(retry, RetryPolicy) and retry.function is None:
        options["retry_delay_seconds"] = retry.delay
        options["max_retry_delay_seconds"] = min(retry.max_delay, LONGEST_DURATION)
    return parse_options(options)


def _retry_policy(given: Mapping[str, Any]) -> RetryPolicy:
    retry = given.get("retry")
    if isinstance(retry, RetryPolicy):
        if beside := [option for option in _POLICY_PARTS if option in given]:
            message = f"option {beside[0]!r} has no place beside retry=RetryPolicy(…): put it into the policy"
            raise InvalidOptionError(message)
        return retry
    if retry is not None and not callable(retry):
        message = f"option 'retry' cannot be {quoted(retry)}: give a RetryPolicy, or a function of attempt and error"
        raise InvalidOptionError(message)
    default = RetryPolicy()
    asked = parse_options({option: given.get(option) for option in ("retry_delay_seconds", "max_retry_delay_seconds")})
    return RetryPolicy(
        delay=default.delay if asked.retry_delay is None else asked.retry_delay,
        max_delay=default.max_delay if asked.max_retry_delay is None else asked.max_retry_delay,
        jitter=_jitter(given.get("jitter", default.jitter)),
        retry_on=_exceptions("retry_on", given.get("retry_on", default.retry_on)),
        fail_on=_exceptions("fail_on", given.get("fail_on", default.fail_on)),
        function=retry,
    )


def _jitter(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    message = f"option 'jitter' cannot be {quoted(value)}: give a number from 0 to 1, 0.1 for a tenth more or less"
    raise InvalidOptionError(message)


def _exceptions(option: str, value: object) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, Iterable) and not isinstance(value, type | str) else (value,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            message = (
                f"option {option!r} cannot hold {quoted(kind)}: give exception classes, such as (ConnectionError,)"
            )
            raise InvalidOptionError(message)
    return kinds
