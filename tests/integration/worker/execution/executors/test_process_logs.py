"""Logs in processes for jobs: written by the worker, as its own, whatever it has set up."""

import logging
import os
import sys
import textwrap
from pathlib import Path

import pytest

from deeper_tasks.errors import JobNotCompletedError

APPLICATION = """
    import logging, sys, threading
    from deeper_tasks import BackgroundTaskManager, current_job

    manager = BackgroundTaskManager("memory://", poll_interval_seconds=0.05)
    log = logging.getLogger("shop.orders")
    {setup}

    class Odd:
        def __str__(self):
            raise RuntimeError

    @manager.task(executor="process")
    def tell():
        log.debug("not wanted")
        log.info("order %d", 42, extra={{"customer": "c-1", "odd": Odd()}})
        log.info("%s", "x" * 1_000_000, extra={{"long": ["x" * 1_000_000]}})
        try:
            raise ValueError("no stock")
        except ValueError:
            log.exception("it went wrong")
        thread = threading.Thread(target=log.warning, args=("in a thread of the job's own",))
        thread.start()
        thread.join()
        logging.getLogger("shop.loud").debug("wanted")
"""


@pytest.fixture
def application(tmp_path, monkeypatch):
    name = f"logging_{os.getpid()}_{len(sys.modules)}"

    def application(setup=""):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(APPLICATION).format(setup=setup))
        return __import__(name)

    monkeypatch.syspath_prepend(str(tmp_path))
    yield application
    sys.modules.pop(name)


@pytest.fixture
def written():
    """What a handler of the worker gets, set up by the program as after its imports."""

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)

    records, handler = [], Handler(logging.INFO)
    shop, loud = logging.getLogger("shop"), logging.getLogger("shop.loud")
    shop.addHandler(handler)
    shop.setLevel(logging.INFO)
    loud.setLevel(logging.DEBUG)
    yield records
    shop.removeHandler(handler)
    shop.setLevel(logging.NOTSET)
    loud.setLevel(logging.NOTSET)


async def test_the_workers_handlers_and_levels_are_those_of_its_processes(application, working, written):
    module = application()
    async with module.manager as manager, working(manager):
        task_id = await module.tell.enqueue()
        await manager.result(task_id, timeout=30)
    order, long, wrong, thread = written
    assert (order.getMessage(), order.levelno, order.name) == ("order 42", logging.INFO, "shop.orders")
    assert (order.job_id, order.task, order.queue, order.attempt) == (task_id, module.tell.name, "default", 1)
    assert (order.customer, order.odd) == ("c-1", "<Odd>")
    assert order.process != os.getpid()
    assert long.getMessage().startswith("x" * 10_000)
    assert long.getMessage().endswith("x… (the rest is withheld: too long to be searched for secrets)")
    assert len(long.getMessage()) < 16_000
    assert "ValueError: no stock" in logging.Formatter().format(wrong)
    # A thread that the job starts by itself has no context of the job's.
    assert thread.getMessage() == "in a thread of the job's own"


def lines_of(module):
    return Path(f"{module.__file__}.log").read_text().splitlines()


async def test_where_the_application_sets_up_logs_at_its_import_they_are_written_once(application, working, written):
    module = application(
        'handler = logging.FileHandler(__file__ + ".log"); logging.getLogger("shop").addHandler(handler)'
    )
    try:
        async with module.manager as manager, working(manager):
            await manager.result(await module.tell.enqueue(), timeout=30)
    finally:
        logging.getLogger("shop").removeHandler(module.handler)
        module.handler.close()
    assert lines_of(module).count("order 42") == 1
    # What the program adds is written to as well.
    assert [record.getMessage() for record in written].count("order 42") == 1


async def test_what_a_process_logs_and_raises_names_its_job_and_shows_no_secret_wherever_it_is_written(
    application, working, written
):
    module = application(
        """
handler = logging.FileHandler(__file__ + ".log")
handler.setFormatter(logging.Formatter("%(job_id)s %(attempt)s %(message)s"))
logging.getLogger("shop.own").addHandler(handler)

@manager.redact_with
def no_bob(text):
    return text.replace("bob", "***")

@manager.task(executor="process", max_attempts=1)
def fail():
    current_job().log("token=hunter2 bob")
    try:
        raise ValueError("password=hunter2 bob")
    except ValueError:
        logging.getLogger("shop.own").exception("pwd: hunter2 bob")
        raise
"""
    )
    try:
        async with module.manager as manager, working(manager):
            task_id = await module.fail.enqueue()
            with pytest.raises(JobNotCompletedError):
                await manager.result(task_id, timeout=30)
            status = await manager.get_task_status(task_id)
    finally:
        logging.getLogger("shop.own").removeHandler(module.handler)
        module.handler.close()
    own = lines_of(module)
    assert own[0] == f"{task_id} 1 pwd: *** ***"
    assert own[-1] == "ValueError: password=*** ***"
    [record] = [record for record in written if record.name == "shop.own"]
    assert (record.job_id, record.getMessage()) == (task_id, "pwd: *** ***")
    assert record.exc_text.endswith("ValueError: password=*** ***")
    assert status.log == ("token=*** ***",)
    assert status.last_error == "ValueError: password=*** ***"
    assert "hunter2" not in repr(status)
