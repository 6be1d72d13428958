"""Signals that tell a worker to stop, sent to this very process."""

import asyncio
import os
import signal

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.integrations.events import WorkerStopped
from deeper_tasks.worker.process import signal_keeper, stop_signals


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://") as manager:
        yield manager


@pytest.fixture
def _hang_ups():
    """Leave the handler of SIGHUP as it was."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def _worker(manager):
    started = asyncio.Event()
    working = asyncio.create_task(manager.run_worker(on_start=lambda _: started.set()))
    await started.wait()
    return working


@pytest.mark.usefixtures("_hang_ups")
async def test_sighup_stops_a_worker_in_order_and_is_told(manager, caplog):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stopped = []
    manager.subscribe(stopped.append, WorkerStopped)
    working = await _worker(manager)
    os.kill(os.getpid(), signal.SIGHUP)
    worker = await working
    assert worker.is_stopping
    assert len(stopped) == 1
    assert "worker stopping: SIGHUP arrived" in caplog.text
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.usefixtures("_hang_ups")
@pytest.mark.parametrize("is_ignored", [True, False], ids=["under nohup", "with a handler of the program's own"])
async def test_sighup_does_not_stop_a_worker(manager, is_ignored):
    heard = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else lambda *_: heard.append(1))
    working = await _worker(manager)
    os.kill(os.getpid(), signal.SIGHUP)
    assert heard == ([] if is_ignored else [1])
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await working).is_stopping


def test_a_program_that_is_process_1_is_told_what_its_container_lacks(monkeypatch, caplog):
    stop_signals.warn_without_init()
    assert not caplog.records
    monkeypatch.setattr(stop_signals, "_INIT", os.getpid())
    stop_signals.warn_without_init()
    assert "'init: true' in Compose" in caplog.text


async def test_a_worker_hears_a_signal_after_its_wake_up_descriptor_was_removed(
    manager, monkeypatch, caplog, wait_until
):
    monkeypatch.setattr(signal_keeper, "_INTERVAL", 0.01)
    working = await _worker(manager)
    signal.set_wakeup_fd(-1)
    await wait_until(lambda: "the worker handles its signals again" in caplog.text)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        assert (await working).is_stopping


async def test_a_worker_that_has_its_process_to_itself_takes_a_signal_again_that_was_ignored(
    manager, monkeypatch, caplog, wait_until
):
    monkeypatch.setattr(signal_keeper, "_INTERVAL", 0.01)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(stop_signals, "owns_process", lambda of: of is loop)
    working = await _worker(manager)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await wait_until(lambda: "had SIGTERM ignored" in caplog.text)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        assert (await working).is_stopping
