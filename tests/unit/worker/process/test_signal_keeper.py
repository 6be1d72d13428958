"""The signal keeper: a worker hears its signals, whatever the code of its jobs did to them."""

import asyncio
import os
import signal

import pytest

from deeper_tasks.worker.process.signal_keeper import SignalKeeper


@pytest.fixture
async def heard():
    loop, heard = asyncio.get_running_loop(), asyncio.Event()

    def take(number):
        loop.add_signal_handler(number, heard.set)

    take(signal.SIGUSR1)
    with SignalKeeper([signal.SIGUSR1], take=take) as keeper:
        yield keeper, heard
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda: signal.set_wakeup_fd(-1), "removed the wake-up descriptor"),
        (lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN), "had SIGUSR1 ignored"),
        (lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL), "had SIGUSR1 ignored, or set its default handler"),
        (lambda: asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1), "had SIGUSR1 ignored"),
    ],
    ids=["no wake-up descriptor", "ignored", "the default handler", "removed from the loop"],
)
async def test_a_signal_is_heard_again_and_that_is_told_once(heard, harm, told, caplog):
    keeper, event = heard
    harm()
    keeper.look()
    keeper.look()
    assert caplog.text.count(told) == 1
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(event.wait(), 10)


async def test_what_the_application_has_set_itself_stays(heard, caplog):
    keeper, _ = heard
    descriptor, handlers = signal.set_wakeup_fd(-1), []
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGUSR1, lambda *_: handlers.append(1))
    signal.set_wakeup_fd(writing)
    keeper.look()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert handlers == [1]
    assert signal.set_wakeup_fd(descriptor) == writing
    os.close(reading)
    os.close(writing)
    assert not caplog.records
