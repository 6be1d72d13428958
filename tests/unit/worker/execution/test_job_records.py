"""What a job's code logs names its job, for every handler, and only while a worker runs."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from io import StringIO

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.process.worker_logs import start_logging
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.worker.execution.job_log_records import JobRecords

log = logging.getLogger("shop.orders")


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://", poll_interval_seconds=0.05) as manager:
        yield manager


@pytest.fixture(autouse=True)
def logs_of_the_shop():
    """Have `shop.orders` logged from INFO up, and as it was afterwards."""
    handlers, level = [*log.handlers], log.level
    log.setLevel(logging.INFO)
    yield
    log.handlers[:] = handlers
    log.setLevel(level)


class Keep(logging.Handler):
    def __init__(self, form="%(job_id)s %(task)s %(queue)s %(attempt)s %(message)s"):
        super().__init__()
        self.lines = []
        self.setFormatter(logging.Formatter(form))

    def emit(self, record):
        self.lines.append(self.format(record))


async def test_each_record_of_a_jobs_code_names_the_job_for_handlers_of_the_applications_own(manager, working):
    early, late = Keep(), Keep()
    seen_by_filter = []
    early.addFilter(lambda record: seen_by_filter.append(record.job_id) is None)
    log.addHandler(early)

    @manager.task(name="shop.on_loop")
    async def on_loop():
        log.info("on the loop")
        log.addHandler(late)
        await asyncio.gather(say("in a sub-task"), asyncio.to_thread(log.info, "in its thread"))

    async def say(words):
        log.info(words)

    @manager.task(name="shop.in_thread", queue="mails")
    def in_thread():
        log.info("in a thread")

    first, second = await on_loop.enqueue(), await in_thread.enqueue()
    async with working(manager, {"default": 1, "mails": 1}):
        await manager.result(first, timeout=30)
        await manager.result(second, timeout=30)
    told = {words: f"{first} shop.on_loop default 1 {words}" for words in ("on the loop", "in a sub-task")}
    assert set(early.lines) == {
        *told.values(),
        f"{first} shop.on_loop default 1 in its thread",
        f"{second} shop.in_thread mails 1 in a thread",
    }
    # A handler of any moment has it, and a filter of the application's comes after it.
    assert f"{first} shop.on_loop default 1 in a sub-task" in late.lines
    assert set(seen_by_filter) == {first, second}


async def test_what_a_record_says_by_itself_stays_and_no_name_is_taken(manager, working):
    keep = Keep("%(task)s %(queue)s %(attempt)s %(job_id)s")
    log.addHandler(keep)

    @manager.task(name="shop.send")
    async def send():
        log.info("x", extra={"task": "theirs", "queue": 7, "job_id": "own"})

    task_id = await send.enqueue()
    async with working(manager):
        await manager.result(task_id, timeout=30)
    assert keep.lines == ["theirs 7 1 own"]


async def test_outside_of_a_job_and_after_the_worker_all_is_as_it_was(manager, working):
    keep, made = Keep("%(message)s"), []

    def factory(*args, **kwargs):
        made.append(args[0])
        return before(*args, **kwargs)

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    records = []
    keep.emit = records.append
    log.addHandler(keep)
    try:

        @manager.task(name="shop.send")
        async def send():
            log.info("inside")

        task_id = await send.enqueue()
        async with working(manager):
            await manager.result(task_id, timeout=30)
            log.info("outside")
        assert logging.getLogRecordFactory() is factory
    finally:
        logging.setLogRecordFactory(before)
    assert [hasattr(record, "job_id") for record in records] == [True, False]
    assert made.count("shop.orders") == 2
    assert keep.filters == []


def test_a_factory_that_was_made_around_it_stays_and_it_adds_nothing_any_more():
    keep = Keep("%(message)s")
    log.addHandler(keep)
    before = logging.getLogRecordFactory()
    try:
        with JobRecords(Redactor()):
            logging.setLogRecordFactory(partial(logging.getLogRecordFactory()))
            around = logging.getLogRecordFactory()
            log.warning("password=x")
        assert logging.getLogRecordFactory() is around
        log.error("after it", exc_info=ValueError("password=x"))
    finally:
        logging.setLogRecordFactory(before)
    assert keep.filters == []
    assert "ValueError: password=x" in keep.lines[-1]


def test_what_no_job_logs_is_changed_only_where_it_is_a_traceback_or_ours():
    keep = Keep("%(message)s")
    ours = logging.getLogger("deeper_tasks")
    log.addHandler(keep)
    ours.addHandler(keep)
    try:
        with JobRecords(Redactor()):
            log.warning("password=%s", "x")
            ours.warning("password=%s", "x")
            log.error("password=x", exc_info=ValueError("password=x"))
    finally:
        ours.removeHandler(keep)
    assert keep.lines[:2] == ["password=x", "password=***"]
    assert keep.lines[-1] == "password=***\nValueError: password=***"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_worker_commands_lines_name_the_job_in_either_format(manager, working, monkeypatch, form):
    written = StringIO()
    monkeypatch.setattr("sys.stderr", written)
    root = logging.getLogger()
    level = root.level
    handler = start_logging(form)
    try:

        @manager.task(name="shop.send")
        async def send():
            log.info("sending")

        task_id = await send.enqueue()
        async with working(manager):
            await manager.result(task_id, timeout=30)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    [line] = [line for line in written.getvalue().splitlines() if "sending" in line]
    if form == "text":
        assert line.endswith(f"INFO    shop.orders: [shop.send {task_id} attempt 1] sending")
    else:
        fields = {"job_id": task_id, "task": "shop.send", "queue": "default", "attempt": 1, "message": "sending"}
        assert json.loads(line).items() >= fields.items()
