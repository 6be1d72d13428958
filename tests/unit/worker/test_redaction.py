"""What is stored and told of an attempt: no secrets, and cut only after they are out."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from deeper_tasks import BackgroundTaskManager, Cancel, Fail, Retry, State, current_job
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ErrorReport, Progress
from deeper_tasks.domain.redactor import REST_WITHHELD, Redactor
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.text import LEFT_OUT, searchable
from deeper_tasks.errors import ConfigError, HookError, JobNotCompletedError
from deeper_tasks.integrations.events import JobEvent
from deeper_tasks.worker.execution.call import report_error
from deeper_tasks.worker.redaction import Redaction

SECRET = "hunter2"


class Unprintable:
    def __iter__(self):
        raise ValueError(f"password={SECRET}")


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://", poll_interval_seconds=0.05, redact_names=["pin"]) as manager:
        yield manager


def test_a_secret_that_would_be_cut_in_two_is_taken_out_whole():
    redaction = Redaction(Redactor(patterns=[r"\b\d{16}\b"]))
    for where in range(1_980, 2_001):
        text = "x" * (where - 1) + " 1234567812345678 end"
        error = ErrorReport(kind="E", message=text, traceback=text[::-1] + "y" * (8_000 - 20))
        settlement = Settlement(id=JobId("1"), token=ClaimToken("t"), end=End.FAIL, error=error, result_omitted=text)
        kept = redaction.settlement(settlement)
        progress = redaction.progress(Progress(fraction=0, message=text))
        for each in (kept.error.message, kept.result_omitted, redaction.line(text), progress.message):
            assert "1234" not in each
            assert len(each) <= 2_000
        assert "8765" not in kept.error.traceback
        assert len(kept.error.traceback) <= 8_001


@pytest.mark.parametrize(
    "secret",
    [
        '{{"access_token": "{}"}}',
        " password={}",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "x" * 5_000 + " password={}",
    ],
)
@pytest.mark.parametrize("length", [50_000, 300_000])
def test_of_a_secret_that_is_longer_than_what_is_searched_nothing_is_kept(secret, length):
    try:
        raise_with(secret.format("A" * length))
    except RuntimeError as error:
        report = report_error(error)
    settlement = Settlement(id=JobId("1"), token=ClaimToken("t"), end=End.FAIL, error=report)
    kept = Redaction(Redactor()).settlement(settlement).error
    assert "AA" not in kept.message + kept.traceback
    assert "RuntimeError: " in kept.traceback[-10_000:]


def raise_with(text):
    raise RuntimeError(text) from ValueError(text)


def test_half_of_a_secret_that_is_known_only_as_a_whole_is_withheld_where_a_text_is_cut():
    redactor = Redactor(patterns=[r"\b\d{16}\b"])
    for secret in ("1234567812345678", "https://shop:1234567812345678@bank.example"):
        for most in range(30_020, 30_120):
            for text in (searchable(f"password={'y' * 30_000} {secret} end", most=most), f"x {LEFT_OUT}\nend"):
                assert "1234" not in redactor(text)
    assert redactor(f"password=hunter2{LEFT_OUT}) at last") == f"password=***{REST_WITHHELD}) at last"


def test_a_traceback_that_is_too_long_still_says_at_its_end_what_raised():
    report = ErrorReport(
        kind="KeyError", message="token=hunter2", traceback=searchable("frame\n" * 90_000, most=256_000)
    )
    settlement = Settlement(id=JobId("1"), token=ClaimToken("t"), end=End.FAIL, error=report)
    kept = Redaction(Redactor()).settlement(settlement).error.traceback
    assert kept.endswith(f"{REST_WITHHELD}\nKeyError: token=***\n")


def raise_in_full():
    raise ValueError(f"password={SECRET} pin: {SECRET}") from KeyError(f"token={SECRET}")


def tell():
    job = current_job()
    job.log(f"token={SECRET}")
    job.progress(0.5, f"token={SECRET}")
    logging.getLogger("shop").warning("cannot log in with %s", {"password": SECRET})
    try:
        raise_in_full()
    except ValueError:
        logging.getLogger("shop").exception("it failed with pin=%s", SECRET)


async def test_no_secret_of_a_job_is_stored_told_or_logged_whatever_ends_it(manager, working, caplog):
    caplog.set_level(logging.DEBUG)
    heard = []
    manager.subscribe(heard.append, JobEvent)
    outcomes = [Fail(f"secret={SECRET}"), Cancel(f"secret={SECRET}"), Retry(f"secret={SECRET}")]

    @manager.task(name="shop.on_loop", max_attempts=1)
    async def on_loop(number: int):
        tell()
        if number < len(outcomes):
            raise outcomes[number]
        if number == len(outcomes):
            return Unprintable()
        return raise_in_full()

    @manager.task(name="shop.in_thread", max_attempts=1)
    def in_thread():
        tell()
        raise_in_full()

    @manager.task(name="shop.exits", max_attempts=1)
    async def exits():
        raise SystemExit(f"secret={SECRET}")

    ids = await manager.enqueue_many([*(on_loop.call(n) for n in range(5)), in_thread.call(), exits.call()])
    async with working(manager):
        for each in ids:
            with suppress(JobNotCompletedError):
                await manager.result(each, timeout=30)
    statuses = [await manager.get_task_status(each) for each in ids]
    assert [status.status for status in statuses] == [
        State.FAILED,
        State.CANCELLED,
        State.DISCARDED,
        State.COMPLETED,
        *[State.DISCARDED] * 3,
    ]
    told = [*map(repr, statuses), *map(repr, heard), caplog.text, *(str(vars(record)) for record in caplog.records)]
    assert [text for text in told if SECRET in text] == []
    assert "token=***" in statuses[0].log
    assert "password=*** pin: ***" in statuses[5].errors[-1].traceback
    assert "KeyError: 'token=***'" in caplog.text


async def test_a_function_that_fails_withholds_what_it_was_to_redact(manager, working):
    @manager.redact_with
    def fail(text):
        raise RuntimeError(text)

    @manager.task(name="shop.send", max_attempts=1)
    async def send():
        current_job().log("bob")
        raise ValueError("bob")

    task_id = await send.enqueue()
    async with working(manager):
        with pytest.raises(JobNotCompletedError):
            await manager.result(task_id, timeout=30)
    status = await manager.get_task_status(task_id)
    assert "bob" not in repr(status)
    assert status.last_error == "ValueError: *** (withheld: the redactor failed with RuntimeError)"


async def test_the_error_of_a_start_hook_keeps_no_secret(manager, caplog):
    @manager.on_worker_start
    def connect():
        raise ValueError(f"password={SECRET}")

    with pytest.raises(HookError, match=r"password=\*\*\*"):
        await manager.run_worker(handle_signals=False)
    assert SECRET not in caplog.text


def test_a_redacting_function_that_cannot_be_called_in_a_thread_is_refused():
    manager = BackgroundTaskManager("memory://")

    async def redact(text):
        return text

    for wrong in (redact, "text"):
        with pytest.raises(ConfigError, match="plain function"):
            manager.redact_with(wrong)


@pytest.mark.parametrize("values", [{"redact_patterns": ["("]}, {"redact_names": ["-"]}])
def test_settings_that_redact_nothing_are_refused(values):
    with pytest.raises(ConfigError, match="redact_names"):
        BackgroundTaskManager("memory://", **values)
