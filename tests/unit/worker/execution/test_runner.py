"""The runner: whatever a handler does, its attempt ends in exactly one way, and that can be stored."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import enum
import functools
import gc
import math
import threading
from datetime import timedelta

import msgspec
import pydantic
import pytest

from deeper_tasks import Cancel, Done, Fail, Retry, Snooze, current_job
from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.integrations.events import ArgumentsUnfit, JobStarted, TaskUnknown
from deeper_tasks.tasks.context import note_exit
from deeper_tasks.testing.conformance.builders import SECOND
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.redaction import Redaction

HALF_A_CHARACTER = "before \ud800 after"


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class FailWithoutReason(Fail):
    def __init__(self):
        pass


class SnoozeWithoutDelay(Snooze):
    def __init__(self):
        pass


def raiser(error):
    """Return what raises this, as a coroutine function and as a plain one."""

    async def on_loop():
        raise error

    def in_thread():
        raise error

    return {"coroutine": on_loop, "thread": in_thread}


def raising(error):
    """Return a function that raises this, whatever it is called with."""

    def function(*values, **named):
        raise error

    return function


def returner(value):
    async def on_loop():
        return value

    def in_thread():
        return value

    return {"coroutine": on_loop, "thread": in_thread}


@pytest.fixture(params=["coroutine", "thread"])
def kind(request):
    return request.param


async def settled(bench, settlement):
    """Store a settlement, and return the job as it is then."""
    [answer] = await bench.backend.settle([settlement])
    job = await bench.backend.get(answer.id)
    assert job.state is answer.state
    return job


# What it returns.


async def test_a_value_is_the_result(bench, kind):
    settlement = await bench.run(bench.task(returner({"sum": 3})[kind]))
    assert (settlement.end, settlement.result, settlement.result_omitted) == (End.COMPLETE, '{"sum":3}', None)
    assert settlement.ran_for >= timedelta(0)
    assert (await settled(bench, settlement)).state is State.COMPLETED


async def test_nothing_returned_is_no_result(bench, kind):
    settlement = await bench.run(bench.task(returner(None)[kind]))
    assert (settlement.end, settlement.result, settlement.result_omitted) == (End.COMPLETE, None, None)


@pytest.mark.parametrize("value", [object(), 1j, HALF_A_CHARACTER, lambda: None])
async def test_a_result_that_is_not_json_is_left_out_with_the_reason(bench, kind, value):
    settlement = await bench.run(bench.task(returner(value)[kind]))
    assert (settlement.end, settlement.result) == (End.COMPLETE, None)
    assert settlement.result_omitted.startswith("the result is not JSON")
    assert (await settled(bench, settlement)).state is State.COMPLETED


async def test_a_result_inside_itself_is_left_out(bench, kind):
    endless = []
    endless.append(endless)
    settlement = await bench.run(bench.task(returner(endless)[kind]))
    assert settlement.end is End.COMPLETE
    assert "not JSON" in settlement.result_omitted


async def test_a_result_that_is_too_large_is_left_out_with_its_size(bench, kind):
    settlement = await bench.run(bench.task(returner("x" * 1000)[kind]))
    assert (settlement.end, settlement.result) == (End.COMPLETE, None)
    assert settlement.result_omitted == "the result has 1002 bytes, more than the 1000 that are kept"


@pytest.mark.parametrize("levels", [100, 101, 500])
async def test_a_result_that_is_nested_too_deep_is_left_out(bench, kind, levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    settlement = await bench.run(bench.task(returner(value)[kind]))
    assert settlement.end is End.COMPLETE
    assert settlement.result_omitted == (None if levels == 100 else "the result is nested deeper than 100 levels")


class Awkward:
    """A result whose code raises whatever it is asked."""

    def __init__(self, error):
        self._error = error

    def _fail(self, *_):
        raise self._error

    __iter__ = __str__ = __repr__ = __len__ = __getitem__ = __hash__ = __bool__ = __eq__ = _fail


class AwkwardText(str):
    """A text that is not quite one."""

    __slots__ = ()

    def __str__(self):
        raise RuntimeError("odd words")


class AwkwardClass(Awkward):
    @property
    def __class__(self):
        self._fail()


class Part(msgspec.Struct):
    number: int


def without_its_field():
    part = Part(number=1)
    del part.number
    return part


@dataclasses.dataclass
class Holder:
    value: object


class Level(enum.Enum):
    ODD = object()


ODD_RESULTS = {
    "code that raises": lambda: Awkward(RuntimeError("odd words")),
    "code that ends programs": lambda: Awkward(SystemExit(0)),
    "a class that raises": lambda: AwkwardClass(RuntimeError("odd words")),
    "inside a list": lambda: [Awkward(KeyError("odd words"))],
    "a field of a dataclass": lambda: Holder(Awkward(RuntimeError("odd words"))),
    "a struct without its field": without_its_field,
    "a key": lambda: {(1, 2): 3},
    "an enum": lambda: Level.ODD,
    "a text that raises": lambda: [AwkwardText("text"), object()],
    "a set without order": lambda: {object()},
    "an integer too large": lambda: 10**5000,
    "an exception inside": lambda: [ValueError(UnprintableError())],
}


@pytest.mark.parametrize("odd", ODD_RESULTS.values(), ids=ODD_RESULTS)
async def test_a_job_whose_result_raises_while_it_is_encoded_has_completed(bench, kind, odd):
    settlement = await bench.run(bench.task(returner(odd())[kind]))
    assert (settlement.end, settlement.result) == (End.COMPLETE, None)
    assert settlement.result_omitted.startswith("the result is not JSON")
    assert (await settled(bench, settlement)).state is State.COMPLETED


@pytest.mark.parametrize("error", [RuntimeError("odd"), SystemExit(0), asyncio.CancelledError(), UnprintableError()])
async def test_whatever_is_raised_while_a_result_is_encoded_the_job_has_completed(bench, kind, error, monkeypatch):
    def fail(value):
        raise error

    encoder = msgspec.json.Encoder(enc_hook=fail)
    monkeypatch.setattr("deeper_tasks.worker.execution.call._encoder", encoder)
    settlement = await bench.run(bench.task(returner(object())[kind]))
    assert settlement.end is End.COMPLETE
    assert settlement.result_omitted.startswith("the result is not JSON: ")


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
async def test_nan_is_no_result(bench, kind, value):
    settlement = await bench.run(bench.task(returner(value)[kind]))
    assert settlement.end is End.COMPLETE
    assert settlement.result is None
    assert "NaN" in settlement.result_omitted


# Outcomes: raising and returning are the same.


@pytest.fixture(params=["raised", "returned"])
def ending(request):
    return raiser if request.param == "raised" else returner


async def test_retry_uses_its_own_delay(bench, kind, ending):
    settlement = await bench.run(bench.task(ending(Retry("busy", after=42))[kind]))
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=42))
    assert (settlement.error.kind, settlement.error.message) == ("Retry", "busy")


async def test_retry_without_a_delay_uses_the_policys(bench, kind, ending):
    settlement = await bench.run(bench.task(ending(Retry())[kind], retry_delay_seconds=7))
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=7))


async def test_retry_is_another_attempt_even_where_the_policy_retries_only_some_errors(bench, kind, ending):
    task = bench.task(ending(Retry())[kind], retry_delay_seconds=7, retry_on=ConnectionError)
    settlement = await bench.run(task)
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=7))


async def test_retry_on_the_last_attempt_discards(bench, kind, ending):
    settlement = await bench.run(bench.task(ending(Retry(after=1))[kind]), max_attempts=1)
    assert settlement.end is End.DISCARD


async def test_snooze_is_no_attempt(bench, kind, ending):
    settlement = await bench.run(bench.task(ending(Snooze(60))[kind]), max_attempts=1)
    assert (settlement.end, settlement.delay) == (End.SNOOZE, timedelta(minutes=1))
    job = await settled(bench, settlement)
    assert (job.state, job.attempt, job.errors) == (State.SCHEDULED, 0, ())


async def test_fail_ends_the_job(bench, kind, ending):
    job = await settled(bench, await bench.run(bench.task(ending(Fail("no such user"))[kind])))
    assert job.state is State.FAILED
    assert (job.errors[-1].kind, job.errors[-1].message) == ("Fail", "no such user")


async def test_cancel_ends_the_job(bench, kind, ending):
    job = await settled(bench, await bench.run(bench.task(ending(Cancel("not wanted"))[kind])))
    assert job.state is State.CANCELLED
    assert job.errors[-1].message == "not wanted"


@pytest.mark.parametrize("outcome", [Fail, Cancel])
@pytest.mark.parametrize("reason", [None, ValueError("why"), HALF_A_CHARACTER, UnprintableError()])
async def test_an_outcome_with_an_odd_reason_is_that_outcome(bench, kind, outcome, reason):
    job = await settled(bench, await bench.run(bench.task(raiser(outcome(reason))[kind])))
    assert job.state is (State.FAILED if outcome is Fail else State.CANCELLED)


@pytest.mark.parametrize("outcome", [Snooze(timedelta.max), Retry(after=timedelta.max), Snooze(timedelta(days=3e6))])
async def test_a_delay_beyond_all_calendars_is_a_very_long_one(make_bench, kind, outcome, store):
    bench = await make_bench(store)
    settlement = await bench.run(bench.task(raiser(outcome)[kind]))
    job = await settled(bench, settlement)
    assert job.state in {State.SCHEDULED, State.RETRYABLE}
    assert job.scheduled_at.year > 2100


# errors


async def test_an_error_is_retried_after_the_policys_delay(bench, kind):
    settlement = await bench.run(bench.task(raiser(ValueError("boom"))[kind], retry_delay_seconds=8))
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=8))
    assert (settlement.error.kind, settlement.error.message) == ("ValueError", "boom")
    assert "raise error" in settlement.error.traceback
    assert settlement.error.traceback.endswith("ValueError: boom\n")


async def test_the_delay_grows_with_the_attempts_and_is_spread(bench):
    task = bench.task(raiser(ValueError("boom"))["coroutine"], retry_delay_seconds=8, jitter=0.5)
    bench.clock.chance = 0.0
    settlement = await bench.run(task)
    assert settlement.delay == timedelta(seconds=4)
    await bench.backend.settle([msgspec.structs.replace(settlement, delay=timedelta(0))])
    await bench.backend.promote()
    bench.clock.chance = 0.5
    _, running = bench.start(await bench.claim_again())
    assert (await running).delay == timedelta(seconds=16)


async def test_the_jobs_own_delay_goes_before_the_tasks_and_that_before_the_settings(bench):
    plain = bench.task(raiser(ValueError("boom"))["coroutine"], name="shop.plain", jitter=0)
    own = bench.task(raiser(ValueError("boom"))["coroutine"], name="shop.own", jitter=0, retry_delay_seconds=3)
    assert (await bench.run(plain)).delay == timedelta(seconds=15)
    assert (await bench.run(own)).delay == timedelta(seconds=3)
    assert (await bench.run(own, retry_delay=timedelta(seconds=2))).delay == timedelta(seconds=2)


async def test_a_retry_by_an_operator_starts_the_delays_anew(bench):
    asked = []
    raising = raiser(ValueError("boom"))["coroutine"]
    doubling = bench.task(raising, name="shop.doubling", jitter=0, retry_delay_seconds=10)
    function = bench.task(raising, name="shop.function", retry=lambda attempt, _: asked.append(attempt) or attempt)

    async def delays(task):
        settlement = await bench.run(task, max_attempts=3)
        yield settlement.delay.total_seconds()
        for end in (End.RETRY, End.RETRY, End.FAIL, End.RETRY):
            await bench.backend.settle([msgspec.structs.replace(settlement, end=end, delay=timedelta(0))])
            if end is End.FAIL:
                await bench.backend.retry(JobFilter(ids=(settlement.id,)))
            await bench.backend.promote()
            _, running = bench.start(await bench.claim_again())
            settlement = await running
            yield settlement.delay.total_seconds()
        await bench.backend.settle([msgspec.structs.replace(settlement, end=End.FAIL)])

    assert [delay async for delay in delays(doubling)] == [10, 20, 0, 10, 20]
    assert [delay async for delay in delays(function)] == [1, 2, 0, 1, 2]
    assert asked == [1, 2, 3, 1, 2]


async def test_the_growth_of_the_delay_ends_where_the_job_or_its_task_or_the_settings_say(bench):
    raising = raiser(ValueError("boom"))["coroutine"]
    long = bench.task(raising, name="shop.long", jitter=0, retry_delay_seconds=7200)
    capped = bench.task(raising, name="shop.capped", jitter=0, retry_delay_seconds=50, max_retry_delay_seconds=60)
    policy = RetryPolicy(delay=timedelta(seconds=50), max_delay=timedelta(seconds=70), jitter=0)
    by_policy = bench.task(raising, name="shop.policy", retry=policy)

    async def delays(task, **fields):
        first = await bench.run(task, **fields)
        await bench.backend.settle([msgspec.structs.replace(first, delay=timedelta(0))])
        await bench.backend.promote()
        _, running = bench.start(await bench.claim_again())
        second = await running
        await bench.backend.settle([msgspec.structs.replace(second, end=End.FAIL)])
        return [settlement.delay.total_seconds() for settlement in (first, second)]

    assert await delays(long) == [7200, 7200]
    assert await delays(long, max_retry_delay=timedelta(hours=3)) == [7200, 10_800]
    assert await delays(capped) == [50, 60]
    assert await delays(capped, max_retry_delay=timedelta(0)) == [50, 50]
    assert await delays(capped, retry_delay=timedelta(seconds=90)) == [90, 90]
    assert await delays(by_policy) == [50, 70]
    assert await delays(by_policy, max_retry_delay=timedelta(seconds=80)) == [50, 80]


async def test_an_error_on_the_last_attempt_discards_the_job(bench, kind):
    job = await settled(bench, await bench.run(bench.task(raiser(ValueError("boom"))[kind]), max_attempts=1))
    assert (job.state, job.attempt) == (State.DISCARDED, 1)


async def test_an_error_in_fail_on_fails_the_job_at_once(bench, kind):
    job = await settled(bench, await bench.run(bench.task(raiser(KeyError("id"))[kind], fail_on=LookupError)))
    assert job.state is State.FAILED


async def test_a_delay_function_decides(bench):
    task = bench.task(raiser(ValueError("boom"))["coroutine"], retry=lambda attempt, _: attempt * 100)
    assert (await bench.run(task)).delay == timedelta(seconds=100)
    gives_up = bench.task(raiser(ValueError("boom"))["coroutine"], name="shop.gives_up", retry=lambda *_: None)
    assert (await bench.run(gives_up)).end is End.FAIL


@pytest.mark.parametrize("answer", [-5, "soon"])
async def test_a_delay_function_that_is_wrong_does_not_cost_the_job(bench, answer):
    task = bench.task(raiser(ValueError("boom"))["coroutine"], retry=lambda *_: answer)
    settlement = await bench.run(task)
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=15))


ENDS_PROGRAMS = [SystemExit(4), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), StopIteration()]


@pytest.fixture(params=ENDS_PROGRAMS, ids=lambda error: type(error).__name__)
def odd(request):
    """What the application's code may raise where only its answer is wanted."""
    return request.param


async def test_a_delay_function_that_ends_programs_does_not_cost_the_job(bench, kind, odd):
    task = bench.task(raiser(ValueError("boom"))[kind], retry=raising(odd))
    settlement = await bench.run(task)
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=15))
    assert settlement.error.kind == "ValueError"
    last = await bench.run(task, max_attempts=1)
    assert (last.end, last.error.kind) == (End.DISCARD, "ValueError")


@pytest.mark.parametrize("option", ["fail_on", "retry_on"])
async def test_an_exception_class_whose_check_ends_programs_does_not_cost_the_job(bench, kind, odd, option):
    class Checking(type):
        __instancecheck__ = __subclasscheck__ = raising(odd)

    class CheckedError(Exception, metaclass=Checking):
        pass

    task = bench.task(raiser(ValueError("boom"))[kind], retry=RetryPolicy(**{option: (CheckedError,)}))
    settlement = await bench.run(task)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ValueError")


@pytest.mark.parametrize("is_returned", [True, False], ids=["returned", "raised"])
@pytest.mark.parametrize("part", ["__class__", "__traceback__", "__cause__", "exceptions", "__str__", "class name"])
async def test_an_exception_whose_parts_end_programs_fails_its_attempt(bench, odd, part, is_returned):
    class Named(type):
        __name__ = property(raising(odd))

    if part == "exceptions":
        error = type("Odd", (ExceptionGroup,), {part: property(raising(odd))})("odd", [ValueError("boom")])
    elif part == "class name":
        error = Named("Odd", (Exception,), {})("boom")
    else:
        whole = raising(odd) if part == "__str__" else property(raising(odd))
        error = type("Odd", (Exception,), {part: whole})("boom")
    settlement = await bench.run(bench.task((returner if is_returned else raiser)(error)["thread"]))
    assert settlement.end is End.RETRY
    assert (await settled(bench, settlement)).attempt == 1


@pytest.mark.parametrize("outcome", [Fail, Snooze, Retry, Cancel, Done])
async def test_an_outcome_whose_parts_end_programs_fails_its_attempt(bench, odd, outcome):
    part = {Fail: "reason", Cancel: "reason", Snooze: "delay", Retry: "after", Done: "value"}[outcome]

    def ignore(self, value):
        pass

    partless = type("Partless", (outcome,), {part: property(raising(odd), ignore)})
    settlement = await bench.run(bench.task(raiser(partless(5))["thread"]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, type(odd).__name__)


async def test_a_class_that_is_returned_and_ends_programs_where_it_is_called_fails_its_attempt(bench, odd):
    returned = type("Odd", (Exception,), {"__init__": raising(odd)})
    settlement = await bench.run(bench.task(returner(returned)["thread"]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, type(odd).__name__)


async def test_a_fault_of_a_task_whose_policy_ends_programs_fails_the_attempt(bench, odd):
    job = await bench.claim(bench.task(returner(1)["coroutine"], retry=raising(odd)))
    settlement = bench.runner().fault(Attempt(job, claimed=0.0), RuntimeError("our own"))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "RuntimeError")


async def test_a_policy_without_end_still_gives_a_delay_that_can_be_stored(bench):
    endless = RetryPolicy(delay=timedelta(days=1), factor=1e9, max_delay=timedelta.max, jitter=1)
    settlement = await bench.run(bench.task(raiser(ValueError("boom"))["coroutine"], retry=endless))
    assert (await settled(bench, settlement)).state is State.RETRYABLE


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), BaseException("odd")],
    ids=lambda error: type(error).__name__,
)
async def test_a_handler_that_raises_what_ends_programs_ends_only_its_attempt(bench, kind, error):
    settlement = await bench.run(bench.task(raiser(error)[kind]))
    assert settlement.error.kind == type(error).__name__
    assert (await settled(bench, settlement)).state is State.RETRYABLE
    after = await bench.run(bench.task(returner(1)[kind], name="shop.after"))
    assert after.end is End.COMPLETE


async def test_a_handler_that_raises_stop_iteration_is_retried(bench, kind):
    settlement = await bench.run(bench.task(raiser(StopIteration("end"))[kind]))
    assert settlement.end is End.RETRY
    assert "StopIteration" in settlement.error.kind + settlement.error.message


async def test_an_error_without_words_is_kept_by_its_kind(bench, kind):
    settlement = await bench.run(bench.task(raiser(UnprintableError())[kind]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "UnprintableError")
    assert (await settled(bench, settlement)).state is State.RETRYABLE


def syntax_error_of_bytes():
    return SyntaxError("odd words", ("file.py", 1, 1, b"bytes"))


def noted(notes):
    error = ValueError("odd words")
    error.__notes__ = notes
    return error


class OddCauseError(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("no cause")


class OddTraceError(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no trace")


class EvilError(Exception):
    """One that ends programs when it is asked anything."""

    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__


class Wordless:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


def chained(length):
    error = ValueError("odd words")
    for _ in range(length):
        following = ValueError("odd words")
        following.__cause__ = error
        error = following
    return error


def cyclic():
    first, second = ValueError("odd words"), KeyError("odd words")
    first.__cause__, second.__cause__ = second, first
    return first


def nested(depth):
    error = ValueError("odd words")
    for _ in range(depth):
        error = ExceptionGroup("odd words", [error])
    return error


ODD_ERRORS = {
    "a syntax error of bytes": syntax_error_of_bytes,
    "notes that are no list": lambda: noted(42),
    "notes without words": lambda: noted([Wordless()]),
    "notes that are no text": lambda: noted([b"bytes", None]),
    "half a character in a note": lambda: noted([HALF_A_CHARACTER]),
    "a cause that raises": lambda: OddCauseError("odd words"),
    "a trace that raises": lambda: OddTraceError("odd words"),
    "words that end programs": EvilError,
    "no words": UnprintableError,
    "arguments without words": lambda: ValueError(Wordless()),
    "a long chain": lambda: chained(3000),
    "a chain without end": cyclic,
    "a group of thousands": lambda: ExceptionGroup("odd words", [ValueError(number) for number in range(3000)]),
    "a deep group": lambda: nested(2000),
    "an odd key": lambda: KeyError(Wordless()),
    "a decoding error": lambda: UnicodeDecodeError("utf-8", b"\xff" * 100_000, 0, 1, HALF_A_CHARACTER),
}


@pytest.mark.parametrize("odd", ODD_ERRORS.values(), ids=ODD_ERRORS)
async def test_an_exception_that_python_cannot_show_fails_its_attempt_like_any_other(store, make_bench, kind, odd):
    bench = await make_bench(store)
    error = odd()
    job = await settled(bench, await bench.run(bench.task(raiser(error)[kind])))
    assert (job.state, job.attempt) == (State.RETRYABLE, 1)
    assert job.errors[-1].kind == type(error).__name__
    assert "odd words" in job.errors[-1].message or "without words" in job.errors[-1].message or "\\xff" in repr(error)


async def test_of_an_exception_that_python_cannot_show_whole_the_readable_is_kept(bench, kind):
    settlement = await bench.run(bench.task(raiser(syntax_error_of_bytes())[kind]))
    assert "raise error" in settlement.error.traceback
    assert "SyntaxError: odd words" in settlement.error.traceback
    assert "the rest cannot be shown: TypeError" in settlement.error.traceback


@pytest.mark.parametrize("words", [FailWithoutReason, SnoozeWithoutDelay], ids=lambda kind: kind.__name__)
async def test_an_outcome_that_lacks_its_parts_is_an_error(bench, kind, ending, words):
    settlement = await bench.run(bench.task(ending(words())[kind]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "AttributeError")


async def test_half_a_character_in_an_error_can_be_stored(store, clock, make_bench, kind):
    bench = await make_bench(store)
    job = await settled(bench, await bench.run(bench.task(raiser(ValueError(HALF_A_CHARACTER))[kind])))
    assert job.errors[-1].message == "before ? after"
    assert "ValueError: before ? after" in job.errors[-1].traceback or "\\ud800" in job.errors[-1].traceback


async def test_a_zero_byte_in_an_error_can_be_stored(store, make_bench):
    bench = await make_bench(store)
    job = await settled(bench, await bench.run(bench.task(raiser(ValueError("a\0b"))["coroutine"])))
    assert job.errors[-1].message == "a\0b"


async def test_a_recursion_without_end_is_an_error_like_others(bench, kind):
    def dig():
        return dig()

    async def on_loop():
        dig()

    settlement = await bench.run(bench.task({"coroutine": on_loop, "thread": dig}[kind], name="shop.dig"))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "RecursionError")
    assert len(settlement.error.traceback) < 10_000


async def test_a_huge_message_is_cut_at_the_end_of_the_traceback_too(bench, kind):
    raised = await bench.run(bench.task(raiser(ValueError("x" * 1_000_000 + " the end"))[kind]))
    settlement = Redaction(Redactor()).settlement(raised)
    assert len(settlement.error.message) == 2000
    assert settlement.error.message.endswith("…")
    assert len(settlement.error.traceback) <= 8001
    # What lies beyond the part that is searched for secrets is withheld, and with it the end of the message.
    assert settlement.error.traceback.endswith(f"{settlement.error.message}\n")


async def test_an_exception_group_is_an_error(bench, kind):
    group = ExceptionGroup("both", [ValueError("a"), KeyError("b")])
    settlement = await bench.run(bench.task(raiser(group)[kind]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ExceptionGroup")


def group(*errors):
    """Return these errors as two tasks of a group might have raised them, the last one a group deeper."""
    *first, last = errors
    inner = BaseExceptionGroup("inner", [last])
    return BaseExceptionGroup("outer", [*first, BaseExceptionGroup("middle", [inner])])


@pytest.mark.parametrize(
    ("errors", "end"),
    [
        ([Cancel("no"), Fail("no"), Retry(after=9), Snooze(9)], End.CANCEL),
        ([Fail("no"), Retry(after=9), Snooze(9)], End.FAIL),
        ([Fail("no"), KeyError("in fail_on")], End.FAIL),
        ([KeyError("in fail_on"), Retry(after=9)], End.FAIL),
        ([KeyError("in fail_on"), ValueError("a")], End.FAIL),
        ([Retry(after=9), Snooze(5)], End.RETRY),
        ([Retry(after=9), ValueError("a")], End.RETRY),
        ([Snooze(9), ValueError("a")], End.SNOOZE),
        ([ValueError("a"), ValueError("b")], End.RETRY),
        ([ValueError("a"), SystemExit(0)], End.RETRY),
        ([Done(1), ValueError("a")], End.RETRY),
        ([Done(1), Done(1)], End.COMPLETE),
    ],
)
async def test_in_a_group_the_weightiest_decides_wherever_it_stands(bench, kind, errors, end):
    for number, order in enumerate((errors, errors[::-1])):
        task = bench.task(raiser(group(*order))[kind], name=f"shop.task{number}", fail_on=KeyError)
        settlement = await bench.run(task)
        assert settlement.end is end
        if any(isinstance(error, Retry | Snooze) for error in errors) and end in {End.RETRY, End.SNOOZE}:
            assert settlement.delay == timedelta(seconds=9)


async def test_in_a_task_group_an_outcome_counts(bench):
    async def give_up():
        raise Fail("no such user")

    async def on_loop():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(give_up())
            tasks.create_task(asyncio.sleep(60))

    settlement = await bench.run(bench.task(on_loop))
    assert (settlement.end, settlement.error.kind, settlement.error.message) == (End.FAIL, "Fail", "no such user")


async def test_fail_on_everything_leaves_an_outcome_in_a_group_what_it_is(bench, kind):
    settlement = await bench.run(bench.task(raiser(group(Snooze(9)))[kind], fail_on=Exception))
    assert settlement.end is End.SNOOZE


@pytest.mark.parametrize(
    ("errors", "end"),
    [
        ([ConnectionError("a"), ConnectionResetError("b")], End.RETRY),
        ([ConnectionError("a"), ValueError("b")], End.FAIL),
    ],
)
async def test_a_group_is_retried_if_each_of_its_errors_would_be(bench, kind, errors, end):
    settlement = await bench.run(bench.task(raiser(group(*errors))[kind], retry_on=ConnectionError))
    assert settlement.end is end


# What it returns without having done it.


@pytest.mark.parametrize("returned", [ValueError("no"), ValueError], ids=["an instance", "a class"])
async def test_a_returned_exception_is_a_failure_just_as_a_raised_one(bench, kind, returned):
    settlement = await bench.run(bench.task(returner(returned)[kind], retry_delay_seconds=8, jitter=0))
    assert (settlement.end, settlement.delay) == (End.RETRY, timedelta(seconds=8))
    assert (settlement.error.kind, settlement.error.message) == (
        "ValueError",
        "no" if returned is not ValueError else "",
    )
    failed = await bench.run(bench.task(returner(returned)[kind], name="shop.failing", fail_on=ValueError))
    assert failed.end is End.FAIL
    last = await bench.run(bench.task(returner(returned)[kind], name="shop.last"), max_attempts=1)
    assert last.end is End.DISCARD


async def test_a_returned_class_of_an_outcome_is_that_outcome(bench, kind):
    assert (await bench.run(bench.task(returner(Retry)[kind]))).end is End.RETRY
    missing = await bench.run(bench.task(returner(Cancel)[kind], name="shop.missing"))
    assert (missing.end, missing.error.kind) == (End.RETRY, "TypeError")


async def test_a_returned_group_counts_as_raised(bench, kind):
    assert (await bench.run(bench.task(returner(group(Fail("no")))[kind]))).end is End.FAIL


async def fetch():
    pytest.fail("this must not run")


def count():
    pytest.fail("this must not run")
    yield 1


async def count_slowly():
    pytest.fail("this must not run")
    yield 1


class Promise:
    def __await__(self):
        pytest.fail("this must not run")
        yield


UNFINISHED = {
    "coroutine": (fetch, "a coroutine (fetch), whose code has not run: await it"),
    "generator": (count, "a generator (count), whose code has not run: use all that it yields"),
    "async generator": (count_slowly, "an async generator (count_slowly), whose code has not run: use all"),
    "thread's future": (concurrent.futures.Future, "a Future (<Future at "),
    "awaitable": (Promise, "a Promise (<"),
    "map": (lambda: map(count, [1]), "a map (<map object"),
    "inside a list": (lambda: [1, fetch(), fetch()], "a coroutine (fetch), whose code has not run: await it"),
    "inside a dict": (lambda: {"a": count()}, "a generator (count), whose code has not run"),
}


@pytest.mark.parametrize(("make", "words"), UNFINISHED.values(), ids=UNFINISHED)
async def test_what_has_not_run_is_no_result_but_an_error_that_names_it(bench, kind, make, words):
    async def on_loop():
        return make()

    def in_thread():
        return make()

    settlement = await bench.run(bench.task({"coroutine": on_loop, "thread": in_thread}[kind]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TypeError")
    assert f"the task returned {words}" in settlement.error.message
    gc.collect()  # A warning that it was never awaited would fail this test.


async def test_a_task_that_is_returned_unawaited_is_an_error_and_goes_on_no_more(bench):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def on_loop():
        working = asyncio.create_task(work())
        await begun.wait()
        return working

    settlement = await bench.run(bench.task(on_loop))
    assert settlement.end is End.RETRY
    assert "a Task (<Task pending" in settlement.error.message
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (lambda: ValueError("no"), End.RELEASE),
        (lambda: Fail("no"), End.FAIL),
        (lambda: group(Snooze(9)), End.SNOOZE),
        (fetch, End.RELEASE),
    ],
)
async def test_after_a_seen_stop_what_is_returned_counts_as_if_it_had_been_raised(bench, kind, make, end):
    begun, may_look = threading.Event(), threading.Event()

    async def on_loop():
        begun.set()
        await asyncio.to_thread(may_look.wait, 10)
        return make() if current_job().stopping else None

    def in_thread():
        begun.set()
        may_look.wait(10)
        return make() if current_job().stopping else None

    attempt, running = bench.start(await bench.claim(bench.task({"coroutine": on_loop, "thread": in_thread}[kind])))
    await asyncio.to_thread(begun.wait, 10)
    attempt.announce(Stop.SHUTDOWN, "the worker shuts down")
    may_look.set()
    settlement = await asyncio.wait_for(running, 10)
    assert settlement.end is end
    gc.collect()


async def test_a_part_that_tried_to_end_the_program_has_failed_the_attempt_that_returned(bench, kind):
    def note():
        note_exit(contextvars.copy_context(), SystemExit(0))

    async def on_loop():
        note()

    settlement = await bench.run(bench.task({"coroutine": on_loop, "thread": note}[kind]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "SystemExit")


# Wrappers of an `async def`.


def passing_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        REGION.set("wrapped")
        return function(*args, **kwargs)

    return wrapper


def running(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return wrapper


class Callable:
    __name__ = __qualname__ = "Callable"

    async def __call__(self, number):
        return REGION.get() * number


REGION = contextvars.ContextVar("region", default="none ")


async def multiply(number):
    await asyncio.sleep(0)
    return f"{REGION.get()} {number} {current_job().attempt}"


@pytest.mark.parametrize(
    ("wrap", "result"),
    [
        (passing_on, '"wrapped 2 1"'),
        (lambda function: passing_on(passing_on(function)), '"wrapped 2 1"'),
        (lambda function: passing_on(functools.partial(function)), '"wrapped 2 1"'),
        (lambda _: passing_on(Callable()), '"wrappedwrapped"'),
        (running, '"none  2 1"'),
    ],
)
async def test_what_wraps_an_async_def_is_awaited_unless_it_does_so_itself(bench, wrap, result):
    settlement = await bench.run(bench.task(wrap(multiply), name="shop.multiply"), 2)
    assert (settlement.end, settlement.result) == (End.COMPLETE, result)


async def test_a_wrapper_may_be_told_to_run_on_the_loop(bench):
    task = bench.task(passing_on(multiply), name="shop.multiply", executor="coroutine")
    settlement = await bench.run(task, 2)
    assert (settlement.end, settlement.result) == (End.COMPLETE, '"wrapped 2 1"')


async def test_what_a_wrapper_gives_can_be_stopped_while_it_is_awaited(bench):
    begun = asyncio.Event()

    async def wait():
        begun.set()
        await asyncio.Event().wait()

    attempt, running = bench.start(await bench.claim(bench.task(passing_on(wait), name="shop.wait")))
    await asyncio.wait_for(begun.wait(), 10)
    attempt.tell_to_stop(Stop.TIMEOUT, "took too long")
    settlement = await asyncio.wait_for(running, 10)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")


async def test_what_a_wrapper_gives_after_a_stop_does_not_begin(bench):
    may_go = threading.Event()

    @functools.wraps(fetch)
    def wrapper():
        may_go.wait(10)
        return fetch()

    attempt, running = bench.start(await bench.claim(bench.task(wrapper, name="shop.fetch")))
    await bench.clock.settle()
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    may_go.set()
    settlement = await asyncio.wait_for(running, 10)
    assert settlement.end is End.CANCEL
    gc.collect()


async def test_what_exits_behind_a_wrapper_ends_its_attempt_only(bench):
    async def leave():
        raise SystemExit(0)

    settlement = await bench.run(bench.task(passing_on(leave), name="shop.leave"))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "SystemExit")


# before the start


UNFIT = ['[["hidden"],{}]', "[[1,2],{}]", "[[],{}]", '[[],{"no":1}]']


@pytest.fixture
def takes_a_number(bench, kind):
    started = []

    async def on_loop(user_id: int):
        started.append(user_id)

    def in_thread(user_id: int):
        started.append(user_id)

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind])
    yield task
    assert started == []


async def test_arguments_that_do_not_fit_here_are_given_back_without_an_attempt_and_told(bench, takes_a_number):
    for arguments in UNFIT:
        for max_attempts in (5, 1):
            settlement = await bench.run(takes_a_number.name, arguments=arguments, max_attempts=max_attempts)
            assert (settlement.end, settlement.delay, settlement.is_unfit) == (End.RELEASE, SECOND, True)
            job = await settled(bench, settlement)
            assert (job.state, job.attempt, job.errors) == (State.SCHEDULED, 0, ())
            event = bench.of_kind(ArgumentsUnfit)[-1]
            assert (event.job_id, event.delay) == (job.id, SECOND)
            assert "user_id" in event.reason
            assert "hidden" not in event.reason
    assert bench.of_kind(JobStarted) == []


async def test_arguments_that_fit_nowhere_wait_ever_longer_and_fail_after_the_grace(bench, takes_a_number):
    job = await bench.claim(takes_a_number.name, arguments='[["hidden"],{}]')
    delays = []
    for seconds in (0, 0.5, 2, 30, 90, 899.9):
        _, running = bench.start(msgspec.structs.replace(job, unfit_since=job.claimed_at - seconds * SECOND))
        settlement = await running
        assert settlement.end is End.RELEASE
        delays.append(settlement.delay.total_seconds())
    assert delays == [1, 1, 2, 30, 60, 60]
    _, running = bench.start(msgspec.structs.replace(job, unfit_since=job.claimed_at - timedelta(minutes=15)))
    settlement = await running
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "InvalidArgumentsError")
    assert "expected `int`, got `str`, and for 15 min 0 s no worker had code that they fit" in settlement.error.message
    assert "deploy code that takes these arguments, then retry the job" in settlement.error.message
    assert "hidden" not in settlement.error.message


async def test_unfit_arguments_and_an_unknown_task_have_a_grace_each(bench, takes_a_number):
    job = await bench.claim(takes_a_number.name, arguments="[[],{}]")
    _, running = bench.start(msgspec.structs.replace(job, unknown_since=job.claimed_at - timedelta(hours=48)))
    settlement = await running
    assert (settlement.end, settlement.is_unfit, settlement.is_task_unknown) == (End.RELEASE, True, False)


async def test_a_document_that_is_none_fails_the_job_at_once(bench, takes_a_number):
    for arguments in ("{}", "not json"):
        job = await settled(bench, await bench.run(takes_a_number.name, arguments=arguments))
        assert (job.state, job.errors[-1].kind) == (State.FAILED, "InvalidArgumentsError")
        assert job.attempt == 1


async def test_a_validator_that_raises_of_its_own_gives_the_arguments_back(bench):
    class Order(pydantic.BaseModel):
        number: int

        @pydantic.field_validator("number")
        @classmethod
        def _known(cls, number):
            return {}[number]

    async def ship(order): ...

    ship.__annotations__["order"] = Order
    settlement = await bench.run(bench.task(ship).name, arguments='[[{"number":7}],{}]')
    assert settlement.is_unfit
    assert bench.of_kind(ArgumentsUnfit)[-1].reason.endswith(": the code of its class raised KeyError")


async def test_arguments_that_the_middleware_cannot_enqueue_are_an_error_of_its_own(bench):
    async def run(): ...

    async def around(job, proceed):
        raise InvalidArgumentsError

    bench.middleware.append(around)
    settlement = await bench.run(bench.task(run))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "InvalidArgumentsError")


async def test_a_job_that_expired_in_the_workers_hands_is_not_started(bench):
    started = []

    async def send():
        started.append(1)

    _, running = bench.start(await bench.claim(bench.task(send), expires_in=10 * SECOND))
    bench.clock.now += 11
    settlement = await running
    assert (settlement.end, settlement.error.kind, settlement.ran_for) == (End.FAIL, "Expired", None)
    assert started == []


async def test_a_job_whose_task_is_unknown_is_given_back_and_told(bench):
    settlement = await bench.run("shop.from_tomorrow")
    assert (settlement.end, settlement.delay, settlement.is_task_unknown) == (End.RELEASE, SECOND, True)
    [event] = bench.of_kind(TaskUnknown)
    assert (event.task, event.delay) == ("shop.from_tomorrow", SECOND)
    job = await settled(bench, settlement)
    assert (job.state, job.attempt) == (State.SCHEDULED, 0)


async def test_a_job_whose_task_stays_unknown_waits_ever_longer_and_fails_after_the_grace(bench):
    job = await bench.claim("shop.from_tomorrow")
    delays = []
    for hours in (0, 0.001, 0.01, 0.02, 1, 23.9):
        known = msgspec.structs.replace(job, unknown_since=job.claimed_at - timedelta(hours=hours))
        _, running = bench.start(known)
        settlement = await running
        assert settlement.end is End.RELEASE
        delays.append(settlement.delay)
    assert delays == sorted(delays)
    assert delays[-1] == timedelta(minutes=5)
    _, running = bench.start(msgspec.structs.replace(job, unknown_since=job.claimed_at - timedelta(hours=24)))
    settlement = await running
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "TaskNotFoundError")
    assert "'shop.from_tomorrow'" in settlement.error.message
    assert "register it, then retry the job" in settlement.error.message


async def test_the_last_attempt_of_a_waiting_job_is_marked_before_it_starts(bench):
    seen = []

    async def send():
        seen.append((await bench.backend.get(current_job().id)).attempted_at)

    task = bench.task(send)
    await bench.run(task, slots=0, max_attempts=1)
    await bench.run(task, slots=0, max_attempts=2)
    assert [at is not None for at in seen] == [True, False]


async def test_a_waiting_job_on_its_last_attempt_that_is_no_longer_ours_is_not_started(flaky, make_bench):
    bench = await make_bench(flaky)
    started = []

    async def send():
        started.append(1)

    task = bench.task(send)
    job = await bench.claim(task, slots=0, max_attempts=1)
    await flaky.backend.rescue(bench.node.id, beat=0)
    _, running = bench.start(job)
    assert await running is None
    await flaky.backend.register(bench.node)
    flaky.fail("report")
    _, running = bench.start(await bench.claim_again(slots=0))
    assert await running is None
    assert started == []


async def test_a_start_is_told_with_the_time_since_the_job_was_due(bench):
    job = await bench.claim(bench.task(returner(1)["coroutine"]))
    attempt, running = bench.start(job)
    await running
    [event] = bench.of_kind(JobStarted)
    assert event.job_id == attempt.job.id
    assert event.attempt == 1
    assert event.wait >= timedelta(0)


# stopping


@pytest.mark.parametrize(
    ("options", "end"),
    [({"retry_on": ConnectionError}, End.RETRY), ({"fail_on": TimeoutError}, End.FAIL)],
)
async def test_a_timeout_is_retried_unless_the_task_says_that_it_fails_on_it(bench, clock, options, end):
    async def slow():
        await asyncio.Event().wait()

    _, running = bench.start(await bench.claim(bench.task(slow, timeout_seconds=30, **options)))
    await clock.settle()
    await clock.advance(31)
    assert (await running).end is end


async def test_a_coroutine_that_runs_too_long_is_cancelled_and_retried(bench, clock):
    cancelled = []

    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    _, running = bench.start(await bench.claim(bench.task(slow, timeout_seconds=30)))
    await clock.settle()
    await clock.advance(29)
    assert not running.done()
    await clock.advance(2)
    settlement = await running
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    line = slow.__code__.co_firstlineno
    assert settlement.error.message == f"ran 31 s, 1 s longer than its timeout of 30 s, in test_runner.py:{line}"
    # Where it was when its time was over.
    assert "await asyncio.Event().wait()" in settlement.error.traceback
    assert cancelled == [1]


@pytest.mark.parametrize(
    ("of_task", "of_job", "limit"),
    [({}, None, 3600), ({"timeout_seconds": 60}, None, 60), ({"timeout_seconds": 60}, timedelta(seconds=5), 5)],
)
async def test_the_jobs_own_timeout_goes_before_the_tasks_and_that_before_the_settings(
    bench, clock, of_task, of_job, limit
):
    async def slow():
        await asyncio.Event().wait()

    _, running = bench.start(await bench.claim(bench.task(slow, **of_task), limit=of_job))
    await clock.settle()
    await clock.advance(limit - 1)
    assert not running.done()
    await clock.advance(1)
    assert (await running).error.kind == "TimeoutError"


@pytest.mark.parametrize(("of_task", "of_job"), [({"timeout_seconds": math.inf}, None), ({}, timedelta(0))])
async def test_without_a_limit_a_job_runs_as_long_as_it_likes(bench, clock, of_task, of_job):
    finish = asyncio.Event()

    async def slow():
        await finish.wait()
        return current_job().deadline

    _, running = bench.start(await bench.claim(bench.task(slow, **of_task), limit=of_job))
    await clock.settle()
    await clock.advance(1_000_000)
    finish.set()
    settlement = await running
    assert (settlement.end, settlement.result) == (End.COMPLETE, None)


async def test_a_job_is_cancelled_by_request_with_the_reason(bench, clock):
    async def slow():
        await asyncio.Event().wait()

    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await clock.settle()
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    settlement = await running
    assert (settlement.end, settlement.error.message) == (End.CANCEL, "not wanted")


@pytest.mark.parametrize(
    ("stop", "end"), [(Stop.TIMEOUT, End.RETRY), (Stop.CANCEL, End.CANCEL), (Stop.SHUTDOWN, End.RELEASE)]
)
async def test_a_handler_that_fails_after_it_was_told_to_stop_was_stopped(bench, clock, stop, end):
    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("in the middle") from None

    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await clock.settle()
    attempt.tell_to_stop(stop, "why")
    settlement = await running
    assert settlement.end is end
    assert settlement.ran_for is not None


async def test_a_lost_job_is_not_settled_whatever_its_handler_did(bench, clock):
    async def slow():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 1

    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await clock.settle()
    attempt.tell_to_stop(Stop.CANCEL, "first")
    attempt.tell_to_stop(Stop.LOST)
    assert await running is None


async def test_a_thread_is_told_to_stop_and_the_job_settled_when_it_has(bench, clock, wait_until):
    started, seen = [], []

    def slow():
        started.append(1)
        job = current_job()
        while not job.timed_out:
            pass
        seen.append((job.timed_out, job.cancelled, job.stopping, job.should_stop))
        raise ValueError("stopped")

    _, running = bench.start(await bench.claim(bench.task(slow, timeout_seconds=30)))
    await wait_until(lambda: started)
    await clock.advance(31)
    settlement = await asyncio.wait_for(running, 10)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    assert seen == [(True, False, False, True)]


async def test_a_handlers_own_timeout_is_its_own_error(bench):
    async def slow():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    settlement = await bench.run(bench.task(slow))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")


async def test_a_cancel_does_not_linger_in_what_follows(bench, clock):
    async def slow():
        await asyncio.Event().wait()

    followed = []

    async def around(job, proceed):
        settlement = await proceed()
        await asyncio.sleep(0)
        followed.append(asyncio.current_task().cancelling())
        return settlement

    bench.middleware.append(around)
    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await clock.settle()
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    assert (await running).end is End.CANCEL
    assert followed == [0]


@pytest.mark.parametrize(("stop", "end"), [(Stop.CANCEL, End.CANCEL), (Stop.SHUTDOWN, End.RELEASE)])
async def test_a_job_told_to_stop_before_its_handler_began_is_not_begun(bench, clock, kind, stop, end):
    begun = []

    async def on_loop():
        begun.append(1)
        await asyncio.sleep(0)

    def in_thread():
        begun.append(1)

    may_proceed = asyncio.Event()

    async def around(job, proceed):
        await may_proceed.wait()
        return await proceed()

    bench.middleware.append(around)
    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind])
    attempt, running = bench.start(await bench.claim(task))
    await clock.settle()
    attempt.tell_to_stop(stop, "not wanted")
    may_proceed.set()
    settlement = await running
    assert (settlement.end, settlement.ran_for) == (end, None)
    assert begun == []


# middleware


async def test_middleware_stands_around_the_attempt_the_first_outermost(bench):
    steps = []

    def layer(name):
        async def around(job, proceed):
            steps.append(f"{name} in {job.task}")
            settlement = await proceed()
            steps.append(f"{name} out {settlement.end}")
            return settlement

        return around

    async def send():
        steps.append("send")

    bench.middleware += [layer("outer"), layer("inner")]
    await bench.run(bench.task(send))
    assert steps == ["outer in shop.send", "inner in shop.send", "send", "inner out complete", "outer out complete"]


async def test_middleware_that_raises_fails_the_attempt(bench):
    async def around(job, proceed):
        raise PermissionError("not today")

    bench.middleware.append(around)
    settlement = await bench.run(bench.task(returner(1)["coroutine"]))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "PermissionError")


async def test_middleware_may_end_an_attempt_with_an_outcome(bench):
    async def around(job, proceed):
        raise Snooze(5)

    bench.middleware.append(around)
    settlement = await bench.run(bench.task(returner(1)["coroutine"]))
    assert (settlement.end, settlement.delay) == (End.SNOOZE, 5 * SECOND)


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_middleware_that_raises_what_ends_programs_ends_only_the_attempt(bench, error):
    async def around(job, proceed):
        raise error

    bench.middleware.append(around)
    settlement = await bench.run(bench.task(returner(1)["coroutine"]))
    assert settlement.error.kind == type(error).__name__


async def test_middleware_that_forgets_to_return_the_settlement_fails_the_attempt_with_a_clear_error(bench):
    async def around(job, proceed):
        await proceed()

    bench.middleware.append(around)
    settlement = await bench.run(bench.task(returner(1)["coroutine"]))
    assert settlement.end is End.RETRY
    assert "proceed()" in settlement.error.message


async def test_middleware_that_returns_the_end_of_another_attempt_fails_its_own(bench):
    ends = []

    async def around(job, proceed):
        ends.append(await proceed())
        return ends[0]

    bench.middleware.append(around)
    task = bench.task(returner(1)["coroutine"])
    first, second = await bench.run(task), await bench.run(task)
    assert first.end is End.COMPLETE
    assert (second.end, second.id) == (End.RETRY, ends[1].id)
    assert "returned the end of another attempt" in second.error.message


async def test_middleware_sees_the_same_current_job_as_the_handler(bench, kind):
    seen = []

    async def around(job, proceed):
        seen.append(job.id)
        return await proceed()

    async def on_loop():
        return current_job().id

    def in_thread():
        return current_job().id

    bench.middleware.append(around)
    settlement = await bench.run(bench.task({"coroutine": on_loop, "thread": in_thread}[kind]))
    assert msgspec.json.decode(settlement.result) == seen[0]


# context


async def test_the_handler_knows_its_job(bench, kind):
    def describe():
        job = current_job()
        return [job.task, job.queue, job.attempt, job.max_attempts, list(job.tags), job.deadline is not None]

    async def on_loop():
        return describe()

    def in_thread():
        return describe()

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], name="shop.describe")
    settlement = await bench.run(task, tags=("urgent",), max_attempts=3)
    assert msgspec.json.decode(settlement.result) == ["shop.describe", "default", 1, 3, ["urgent"], True]


async def test_what_a_handler_sets_in_its_context_stays_there(bench, kind):
    colour = contextvars.ContextVar("colour", default="none")

    async def on_loop():
        before = colour.get()
        colour.set("red")
        return before

    def in_thread():
        before = colour.get()
        colour.set("red")
        return before

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind])
    assert [(await bench.run(task)).result for _ in range(2)] == ['"none"', '"none"']
    assert colour.get() == "none"


async def test_a_thread_started_from_a_coroutine_knows_the_job(bench):
    async def send():
        return await asyncio.to_thread(lambda: current_job().task)

    assert (await bench.run(bench.task(send))).result == '"shop.send"'


async def test_two_jobs_at_once_each_know_their_own(bench, clock):
    both = asyncio.Barrier(2)

    async def send():
        await both.wait()
        return current_job().id

    task = bench.task(send)
    jobs = [await bench.claim(task) for _ in range(2)]
    settlements = await asyncio.gather(*(bench.start(job)[1] for job in jobs))
    assert [msgspec.json.decode(settlement.result) for settlement in settlements] == [job.id for job in jobs]


async def test_last_words_are_written_before_the_settlement(bench, kind):
    async def on_loop():
        current_job().progress(0.5, "half")
        current_job().log("a line")
        await asyncio.sleep(0)

    def in_thread():
        current_job().progress(0.5, "half")
        current_job().log("a line")

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind])
    settlement = await bench.run(task)
    job = await bench.backend.get(settlement.id)
    assert (job.progress.fraction, job.progress.message, job.log) == (0.5, "half", ("a line",))


async def test_half_a_character_in_the_news_of_a_job_does_no_harm(store, make_bench):
    bench = await make_bench(store)

    async def send():
        current_job().progress(0.5, HALF_A_CHARACTER)
        current_job().log(HALF_A_CHARACTER)
        await asyncio.sleep(0)
        return 1

    settlement = await bench.run(bench.task(send))
    assert settlement.end is End.COMPLETE
    job = await bench.backend.get(settlement.id)
    assert job.log == ("before ? after",)
    assert job.progress.message == "before ? after"
