"""Hints: hints reach listeners in other processes, sockets do not pile up, and nothing here can do harm."""

import asyncio
import os
import socket
import tempfile
from contextlib import aclosing
from pathlib import Path

import pytest

from deeper_tasks.backends.protocol import JobFilter, Notification, QueueSettings, Topic
from deeper_tasks.backends.sqlite import hints as hints_module
from deeper_tasks.backends.sqlite.hints import Hints
from deeper_tasks.testing.conformance.builders import HOUR, NOW, QUEUE, join, new_id, new_job, new_token
from deeper_tasks.testing.conformance.schedules import HOURLY, fire

MAIL = Notification(topic=Topic.JOBS, subject="mail")

SEND = """
import sys
from pathlib import Path
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.backends.sqlite.hints import Hints
Hints(Path(sys.argv[1])).notify([Notification(topic=Topic.JOBS, subject=sys.argv[2])])
"""


@pytest.fixture
def path():
    """A path that is short enough for sockets beside it."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder) / "tasks.db"


@pytest.fixture
def wake(path):
    return Hints(path)


def folder_of(path):
    return path.with_name(f"{path.name}-wake")


def sockets_of(path):
    folder = folder_of(path)
    return list(folder.iterdir()) if folder.is_dir() else []


class Listening:
    """A listener in a task of its own: what it has heard, and a way to wait for more."""

    def __init__(self, wake):
        self.heard = asyncio.Queue()
        self._wake = wake
        self.task = asyncio.create_task(self._listen())

    async def _listen(self):
        async with aclosing(self._wake.listen()) as hints:
            async for hint in hints:
                self.heard.put_nowait(hint)

    async def next(self):
        return await asyncio.wait_for(self.heard.get(), 10)


async def listening_on(wake, path, wait_until, listeners=1):
    listening = Listening(wake)
    await wait_until(lambda: len(sockets_of(path)) == listeners)
    return listening


async def test_a_hint_from_another_process_arrives(wake, path, program, wait_until):
    listening = await listening_on(wake, path, wait_until)
    sender = program(SEND, path, "mail")
    assert await listening.next() == MAIL
    assert sender.wait(10) == 0
    wake.close()
    await listening.task


async def test_hints_keep_their_order_and_reach_every_listener(wake, path, wait_until):
    first = await listening_on(wake, path, wait_until)
    second = await listening_on(Hints(path), path, wait_until, listeners=2)
    hints = [Notification(topic=Topic.JOBS, subject=str(number)) for number in range(5)]
    wake.notify(hints)
    for listening in (first, second):
        assert [await listening.next() for _ in hints] == hints
    wake.close()
    await first.task
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)


async def test_closing_ends_the_listeners_and_removes_their_sockets(wake, path, wait_until):
    listeners = [await listening_on(wake, path, wait_until, listeners=number + 1) for number in range(3)]
    wake.close()
    await asyncio.wait_for(asyncio.gather(*(listening.task for listening in listeners)), 10)
    assert sockets_of(path) == []


async def test_a_cancelled_listener_leaves_nothing_behind(wake, path, wait_until):
    listening = await listening_on(wake, path, wait_until)
    listening.task.cancel()
    await asyncio.gather(listening.task, return_exceptions=True)
    assert sockets_of(path) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_loop_can_use_the_descriptor_of_a_cancelled_listener_again(wake, path, wait_until):
    listening = await listening_on(wake, path, wait_until)
    listening.task.cancel()
    await asyncio.gather(listening.task, return_exceptions=True)
    pairs = [socket.socketpair() for _ in range(4)]
    try:
        for ours, theirs in pairs:
            for end in (ours, theirs):
                end.setblocking(False)
            theirs.send(b"x")
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(ours, 1), 5) == b"x"
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            theirs.send(b"y")
            assert await asyncio.wait_for(receiving, 5) == b"y"
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


async def test_a_listener_that_stops_in_the_middle_leaves_nothing_behind(wake, path, wait_until):
    hints = wake.listen()
    first = asyncio.ensure_future(anext(hints))
    await wait_until(lambda: sockets_of(path))
    wake.notify([MAIL, MAIL])
    assert await first == MAIL
    await hints.aclose()
    assert sockets_of(path) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_socket_that_nobody_reads_any_more_is_removed(wake, path):
    folder_of(path).mkdir()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(folder_of(path) / "1-dead"))
    stale.close()
    assert (folder_of(path) / "1-dead").exists()
    wake.notify([MAIL])
    assert sockets_of(path) == []


async def test_a_listener_that_does_not_read_blocks_nobody(wake, path):
    folder_of(path).mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(folder_of(path) / "1-deaf"))
        for _ in range(2000):
            wake.notify([MAIL])
        assert (folder_of(path) / "1-deaf").exists()


async def test_a_hint_that_cannot_be_read_is_skipped(wake, path, wait_until):
    listening = await listening_on(wake, path, wait_until)
    [listener] = folder_of(path).iterdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"what?", str(listener))
        sender.sendto(b'{"topic":"weather"}', str(listener))
    wake.notify([MAIL])
    assert await listening.next() == MAIL
    wake.close()
    await listening.task


async def test_nobody_to_tell_is_no_error(wake):
    wake.notify([MAIL])
    wake.close()


async def test_a_sender_without_a_descriptor_left_tells_nobody_and_raises_nothing(wake, path, monkeypatch):
    folder_of(path).mkdir()
    (folder_of(path) / "1-some").touch()

    def no_socket(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(hints_module.socket, "socket", no_socket)
    wake.notify([MAIL])


async def test_without_a_folder_that_can_be_written_a_listener_waits_for_the_end(wake, path, wait_until):
    folder_of(path).write_text("in the way")
    listening = Listening(wake)
    await wait_until(lambda: wake._listeners)
    wake.close()
    await listening.task
    assert listening.heard.empty()


@pytest.fixture
def short_folder(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


async def test_a_path_too_long_for_a_socket_uses_the_temporary_folder(tmp_path, short_folder, wait_until, program):
    database = tmp_path / ("long-" * 20) / "tasks.db"
    wake = Hints(database)
    assert wake._folder.parent == short_folder
    assert str(os.getuid()) in wake._folder.name
    listening = Listening(wake)
    await wait_until(lambda: wake._folder.is_dir() and any(wake._folder.iterdir()))
    program(SEND, database, "mail")
    assert await listening.next() == MAIL
    wake.close()
    await listening.task


LISTEN = """
import asyncio, sys
from pathlib import Path
from deeper_tasks.backends.sqlite.hints import Hints

async def listen():
    async for _ in Hints(Path(sys.argv[1])).listen():
        pass

asyncio.run(listen())
"""


async def test_what_a_killed_listener_left_below_the_temporary_folder_goes_with_the_next_of_any_database(
    tmp_path, short_folder, wait_until, program
):
    abandoned, served, mine = (Hints(tmp_path / (letter * 120) / "tasks.db") for letter in "abc")
    listeners = [program(LISTEN, tmp_path / (letter * 120) / "tasks.db") for letter in "ab"]
    await wait_until(lambda: all(wake._folder.is_dir() and any(wake._folder.iterdir()) for wake in (abandoned, served)))
    listeners[0].kill()
    listeners[0].wait()
    (short_folder / f"deeper-{os.getuid()}-a-file").touch()
    assert abandoned._folder.is_dir()
    listening = Listening(mine)
    await wait_until(lambda: mine._folder.is_dir() and any(mine._folder.iterdir()))
    assert not abandoned._folder.exists()
    assert any(served._folder.iterdir())
    mine.close()
    await listening.task


async def test_a_long_path_without_a_temporary_folder_has_no_hints_and_no_error(tmp_path, monkeypatch, wait_until):
    def no_folder():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", no_folder)
    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    wake = Hints(folder / "tasks.db")
    listening = Listening(wake)
    await wait_until(lambda: wake._listeners)
    wake.notify([MAIL])
    wake.close()
    await listening.task


def test_two_long_paths_have_folders_of_their_own(tmp_path):
    first, second = (Hints(tmp_path / (letter * 120) / "tasks.db") for letter in "ab")
    assert first._folder != second._folder
    assert first._folder == Hints(tmp_path / ("a" * 120) / "tasks.db")._folder


async def test_the_store_sends_and_receives_hints(backend, wait_until, path):
    listening = Listening(backend)
    await wait_until(lambda: sockets_of(path))
    await backend.notify([MAIL])
    assert await listening.next() == MAIL
    await backend.close()
    await asyncio.wait_for(listening.task, 10)


async def test_each_change_sends_its_hints_itself_after_the_commit(backend, wait_until, path):
    listening = Listening(backend)
    await wait_until(lambda: sockets_of(path))
    schedules, control = Notification(topic=Topic.SCHEDULES), Notification(topic=Topic.CONTROL)
    jobs = Notification(topic=Topic.JOBS, subject=QUEUE)

    async def heard(call):
        await call
        await backend.notify([MAIL])
        hints = []
        while (hint := await listening.next()) != MAIL:
            hints.append(hint)
        return hints

    node, job, later = await join(backend), new_job(max_attempts=1), new_job(due=NOW + HOUR)
    assert await heard(backend.insert([job, later], now=NOW)) == [jobs, schedules]
    assert await heard(backend.insert([job], now=NOW)) == []
    assert await heard(backend.promote(now=NOW)) == []
    assert await heard(backend.promote(now=NOW + HOUR)) == [jobs]
    assert await heard(backend.reschedule(later.request_id, due=HOUR, now=NOW)) == [schedules]
    assert await heard(backend.reschedule(later.request_id, due=None, now=NOW)) == [jobs]
    assert await heard(backend.cancel(JobFilter(ids=(later.request_id,)), reason="no", now=NOW)) == []
    assert await heard(backend.retry(JobFilter(ids=(later.request_id,)), now=NOW)) == [jobs]
    await backend.claim(QUEUE, limit=2, slots=1, node=node, token=new_token(), now=NOW)
    assert await heard(backend.cancel(JobFilter(ids=(job.request_id,)), reason="no", now=NOW)) == [control]
    assert await heard(backend.rescue(node, beat=0, now=NOW)) == [jobs]
    assert await heard(backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))) == [
        Notification(topic=Topic.CONTROL, subject=QUEUE)
    ]
    assert await heard(backend.put_queue(QueueSettings(name=QUEUE))) == [jobs]
    assert await heard(backend.put_schedule(HOURLY, now=NOW)) == [schedules]
    assert await heard(fire(backend)) == [jobs]
    assert await heard(backend.run_schedule(HOURLY.name, request_id=new_id(), now=NOW)) == [jobs]
    assert await heard(backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW)) == []
    assert await heard(backend.pause_schedule(HOURLY.name, is_paused=False, now=NOW)) == [schedules]
