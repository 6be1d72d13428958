"""The call of a job: its arguments, and the settlement that follows from its return value or its error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.domain.exception_groups import exceptions_in, outcome_in
from deeper_tasks.domain.job import ClaimedJob, ErrorReport, Json
from deeper_tasks.domain.nesting import nests_too_deep, too_deep
from deeper_tasks.domain.outcome import Cancel, Done, Fail, Outcome, Retry, Snooze
from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.text import class_name, searchable
from deeper_tasks.integrations.tracebacks import format_traceback, words_of
from deeper_tasks.tasks import Task
from deeper_tasks.tasks.json_values import as_plain, check_json
from deeper_tasks.worker.execution.unfinished_code import give_up, is_unfinished, unfinished_in

AnyTask = Task[..., Any]

_MOST_READ, _MOST_TRACEBACK_READ = 64_000, 256_000
"""Characters of a text that the worker reads from the code of a job; fewer are stored."""
_LONGEST_DELAY = timedelta(days=36_500)
_COMPLETE = End.COMPLETE  # To look a member up by its class takes ten times as long, and each job needs it.
_PLAIN = frozenset({str, int, float, bool, list, dict, tuple})
_encoder = msgspec.json.Encoder(enc_hook=as_plain)


class CallSettings(Struct, frozen=True, kw_only=True):
    """The settings of the worker that a call needs. `random`, in [0, 1), places the retry within its jitter."""

    max_result_bytes: int
    default_retry_delay: timedelta
    default_max_retry_delay: timedelta
    random: float = 0.5


class Call:
    """One run of a job's task. The same rules hold on the loop, in a thread and in a process."""

    __slots__ = ("_arguments", "_settings", "job", "task")

    def __init__(self, job: ClaimedJob, task: AnyTask, settings: Callable[[], CallSettings]) -> None:
        self.job = job
        self.task = task
        self._settings = settings
        self._arguments: tuple[list[Any], dict[str, Any]] | None = None

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """
        Return the arguments for the function. They are read at the first call.

        Raises:
            UnfitArgumentsError: they do not fit the function of this worker's code.
            InvalidArgumentsError: they cannot be read at all.
        """
        if self._arguments is None:
            self._arguments = self.task.signature.decode(self.job.arguments)
        return self._arguments

    def returned(self, value: object, ran_for: timedelta) -> Settlement:
        """
        Return the settlement of a call that returned. Never raises.

        A returned exception counts as raised, and so does a value whose code has
        not run, such as a coroutine. With any other value the job has completed.
        """
        if value is None:
            return Settlement(id=self.job.id, token=self.job.token, end=_COMPLETE, ran_for=ran_for)
        try:
            return self._returned(value, ran_for)
        except BaseException as fault:  # noqa: BLE001 - the code of the value's class
            return self.plain(fault, ran_for)

    def _returned(self, value: object, ran_for: timedelta) -> Settlement:
        if (error := error_in(value)) is not None:
            if isinstance(error, Done):
                return self.returned(getattr(error, "value", None), ran_for)
            return self.raised(error, ran_for)
        result, omitted = self._result(value)
        if omitted is not None and (unfinished := _unfinished_in(value)):
            first, *_ = [give_up(one) for one in unfinished]
            return self.raised(first, ran_for)
        return Settlement(
            id=self.job.id,
            token=self.job.token,
            end=End.COMPLETE,
            ran_for=ran_for,
            result=result,
            result_omitted=omitted,
        )

    def raised(self, error: BaseException, ran_for: timedelta) -> Settlement:
        """Return the settlement of a call that raised. Never raises."""
        try:
            return self._raised(error, ran_for)
        except BaseException as fault:  # noqa: BLE001 - an outcome of a class of its own, for example, without its reason
            return self.plain(fault, ran_for)

    def plain(self, fault: BaseException, ran_for: timedelta) -> Settlement:
        """
        Return the settlement of an attempt whose end an error of the application's code hides. Never raises.

        The attempt has failed by `fault`, and is retried after the base delay; the task's own code is not called.
        """
        return self._retry(self._base_delay(), fault, ran_for)

    def _raised(self, error: BaseException, ran_for: timedelta) -> Settlement:
        if (outcome := self.outcome_in(error)) is not None:
            return self._decided(outcome, ran_for)
        if isinstance(error, Exception):
            return self._retry(self._delay(error, self.task.retry), error, ran_for)
        return self.broken_off(error, ran_for)

    def outcome_in(self, error: BaseException) -> Outcome | None:
        """
        Return the outcome that decides, if the error is an outcome or a group that contains one.

        In a group an error that `fail_on` names has precedence over a `Retry` or `Snooze`.
        """
        if not isinstance(error, BaseExceptionGroup):
            return error if isinstance(error, Outcome) else None
        outcome, policy = outcome_in(error), self.task.retry
        if outcome is None or isinstance(outcome, Cancel | Fail):
            return outcome
        errors = (one for one in exceptions_in(error) if not isinstance(one, Outcome))
        return None if any(map(policy.is_hopeless, errors)) else outcome

    def broken_off(self, error: BaseException, ran_for: timedelta) -> Settlement:
        """
        Return the settlement of a call that did not end by itself, as after a timeout or the death of its process.

        It is retried, whatever the task retries on, unless `fail_on` names the error.
        """
        policy = msgspec.structs.replace(self.task.retry, retry_on=(BaseException,))
        return self._retry(self._delay(error, policy), error, ran_for)

    def refused(self, kind: str, message: str) -> Settlement:
        """Return the settlement of a job that fails without an attempt."""
        return self._end(End.FAIL, None, error=ErrorReport(kind=kind, message=_clip(message)))

    def unfit(self, reason: str) -> Settlement:
        """Return the settlement of a job whose arguments do not fit the function of this worker's code."""
        return Settlement(id=self.job.id, token=self.job.token, end=End.RELEASE, reason=_clip(reason), is_unfit=True)

    def released(self, reason: str, *, delay: timedelta = timedelta(0), ran_for: timedelta | None = None) -> Settlement:
        """Return the settlement that releases the job, which loses no attempt; `ran_for` if its handler was started."""
        settlement = self._end(End.RELEASE, ran_for, delay=delay)
        return msgspec.structs.replace(settlement, reason=reason)

    def cancelled(self, reason: str, ran_for: timedelta | None) -> Settlement:
        """Return the settlement of a job that was stopped by request."""
        return self._end(End.CANCEL, ran_for, error=ErrorReport(kind="Cancel", message=_clip(reason)))

    def _decided(self, outcome: Outcome, ran_for: timedelta) -> Settlement:
        match outcome:
            case Done():
                return self.returned(outcome.value, ran_for)
            case Snooze():
                return self._end(End.SNOOZE, ran_for, delay=outcome.delay)
            case Cancel():
                return self.cancelled(outcome.reason, ran_for)
            case Fail():
                return self._end(End.FAIL, ran_for, error=ErrorReport(kind="Fail", message=_clip(outcome.reason)))
            case Retry(after=timedelta() as after):
                return self._retry(after, outcome, ran_for)
        # Asked for by the handler, so whatever the policy says of errors.
        always = msgspec.structs.replace(self.task.retry, retry_on=(BaseException,), fail_on=())
        delay = self._delay(outcome, always)
        return self._retry(self._base_delay() if delay is None else delay, outcome, ran_for)

    def _retry(self, delay: timedelta | None, error: BaseException, ran_for: timedelta) -> Settlement:
        report = report_error(error)
        if delay is None:
            return self._end(End.FAIL, ran_for, error=report)
        if self.job.is_last_attempt:
            return self._end(End.DISCARD, ran_for, error=report)
        return self._end(End.RETRY, ran_for, error=report, delay=delay)

    def _delay(self, error: BaseException, policy: RetryPolicy) -> timedelta | None:
        base, settings = self._base_delay(), self._settings()
        try:
            return policy.delay_after(
                self.job.attempt_since_retry,
                error,
                random=settings.random,
                base=base,
                longest=self._longest_delay(settings),
            )
        except BaseException:  # noqa: BLE001 - an error of a delay function must not end the job
            return base

    def _base_delay(self) -> timedelta:
        """The first delay of the backoff: the job's own, or the task's, or the settings'."""
        options, request = self.job.options, self.task.request
        if options is not None and options.retry_delay is not None:
            return options.retry_delay
        return self._settings().default_retry_delay if request.retry_delay is None else request.retry_delay

    def _longest_delay(self, settings: CallSettings) -> timedelta:
        """The longest delay of the backoff: the job's own, or the task's, or the settings'."""
        options, request = self.job.options, self.task.request
        if options is not None and options.max_retry_delay is not None:
            return options.max_retry_delay
        return settings.default_max_retry_delay if request.max_retry_delay is None else request.max_retry_delay

    def _result(self, value: object) -> tuple[Json | None, str | None]:
        try:
            document = _encoder.encode(value)
            if b"null" in document:
                # NaN would be stored as null.
                check_json(msgspec.to_builtins(value, str_keys=True, enc_hook=as_plain))
        except BaseException as error:  # noqa: BLE001 - the value's own code raised, and the job has completed
            return None, _clip(f"the result is not JSON: {words_of(error) or class_name(error)}")
        if nests_too_deep(document):
            return None, f"the result is {too_deep()}"
        most = self._settings().max_result_bytes
        if len(document) > most:
            return None, f"the result has {len(document)} bytes, more than the {most} that are kept"
        return document.decode(), None

    def _end(
        self,
        end: End,
        ran_for: timedelta | None,
        *,
        error: ErrorReport | None = None,
        delay: timedelta = timedelta(0),
    ) -> Settlement:
        # A moment beyond the calendar's end could not be stored.
        delay = min(delay, _LONGEST_DELAY)
        return Settlement(id=self.job.id, token=self.job.token, end=end, ran_for=ran_for, error=error, delay=delay)


def error_in(value: object) -> BaseException | None:
    """Return the error or outcome that a returned value stands for; None if the value is a result."""
    kind = type(value)
    if kind in _PLAIN:
        return None
    if issubclass(kind, BaseException):
        assert isinstance(value, BaseException)
        return value
    if issubclass(kind, type) and isinstance(value, type) and issubclass(value, BaseException):
        # As `raise` does with a class.
        try:
            return value()
        except BaseException as error:  # noqa: BLE001 - the class needs arguments, or its code exits
            return error
    return give_up(value) if is_unfinished(value) else None


def _unfinished_in(value: object) -> list[object]:
    try:
        return unfinished_in(value)
    except BaseException:  # noqa: BLE001 - the collection's own code
        return []


def report_error(error: BaseException) -> ErrorReport:
    """Return the report of an exception, still with the secrets that a `Redaction` takes out. Never raises."""
    text = format_traceback(error) if _was_raised(error) else None
    if text is not None:
        # Cut at the end, because the text before a secret is needed to recognize it.
        text = searchable(text, most=_MOST_TRACEBACK_READ)
    return ErrorReport(kind=_clip(class_name(error)), message=_clip(error), traceback=text)


def _was_raised(error: BaseException) -> bool:
    try:
        return error.__traceback__ is not None
    except BaseException:  # noqa: BLE001 - a class may define it as a property
        return False


def _clip(words: object) -> str:
    return searchable(words, most=_MOST_READ)
