"""A proxy: a TCP connection between a client and a server, whose network breaks on command."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, TypeVar

from servers.ports import address_of, at_port, free_port, listen
from servers.waiting import PATIENCE

Way = Literal["requests", "replies"]

_BOTH: tuple[Way, ...] = ("requests", "replies")
_CHUNK = 65_536
_LAST_STEPS = 5
_RESET = struct.pack("ii", 1, 0)

T = TypeVar("T")


class Proxy:
    """
    Forwards what comes to `url` to the server of another URL, and back.

    It runs in a thread of its own, so its methods may be called from tests of either kind; each has had its effect
    when it returns.
    """

    def __init__(self, url: str) -> None:
        self._port = free_port()
        self.url = at_port(url, self._port)
        self._target = address_of(url)
        self._ways = {way: _Network() for way in _BOTH}
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._accepted = 0
        self._door: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.accept()

    def hang(self, *ways: Way) -> None:
        """Let what is sent go nowhere (both ways, if none is named): bytes and connections are still accepted."""
        self._do(lambda: [self._ways[way].working.clear() for way in ways or _BOTH])

    def resume(self) -> None:
        """Deliver what has been sent meanwhile, and all that follows."""
        self._do(lambda: [network.working.set() for network in self._ways.values()])

    def held(self, way: Way) -> int:
        """How many bytes have come that were not delivered yet: by them a test knows that something was sent."""
        return self._do(lambda: sum(link.held(way) for link in self._links.values()))

    def delay(self, seconds: float) -> None:
        """Deliver all that comes from now on so much later, each way."""
        self._do(lambda: [setattr(network, "delay", seconds) for network in self._ways.values()])

    def reset(self) -> None:
        """Break all connections, at both ends, by RST; what was held is lost. New ones are welcome."""
        self._do_async(self._reset)

    def refuse(self) -> None:
        """Refuse new connections; those there are go on."""
        self._do_async(self._close_door)

    def accept(self) -> None:
        """Accept connections again."""
        self._do_async(self._open_door)

    def lead_to(self, url: str) -> None:
        """Forward new connections to the server of another URL; those there are stay where they are."""
        self._target = address_of(url)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._do(lambda: len(self._links))

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._do(lambda: self._accepted)

    def close(self) -> None:
        """Refuse and reset, for good; may be called twice."""
        if self._loop.is_closed():
            return
        self.refuse()
        self._do_async(self._reset_the_last)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _do(self, command: Callable[[], T]) -> T:
        async def do() -> T:
            return command()

        return self._do_async(do)

    def _do_async(self, command: Callable[[], Awaitable[T]]) -> T:
        return asyncio.run_coroutine_threadsafe(command(), self._loop).result(PATIENCE)

    async def _open_door(self) -> None:
        if self._door is None:
            self._door = await asyncio.start_server(self._welcome, sock=listen(self._port))

    async def _close_door(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    async def _reset(self) -> None:
        ending = list(self._links)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    async def _reset_the_last(self) -> None:
        """Reset those too that were being accepted when the door was closed."""
        for _ in range(_LAST_STEPS):
            await self._reset()
            await asyncio.sleep(0)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        link = _Link(self._ways, reader, writer)
        task = asyncio.create_task(link.run(self._target))
        self._links[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).reset()


class _Network:
    """The state of one way, for all connections."""

    def __init__(self) -> None:
        self.working = asyncio.Event()
        self.working.set()
        self.delay = 0.0


class _Link:
    """One connection of a client, and the one to the server that it stands for."""

    def __init__(self, ways: dict[Way, _Network], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines = {way: _Line(network) for way, network in ways.items()}
        self._reader = reader
        self._writers = [writer]

    def held(self, way: Way) -> int:
        return self._lines[way].held

    async def run(self, target: tuple[str, int]) -> None:
        """Forward until both sides have said their last word, or one has broken off."""
        [client] = self._writers
        try:
            reader, server = await asyncio.open_connection(*target)
            self._writers.append(server)
            async with asyncio.TaskGroup() as group:
                for way, source, sink in (("requests", self._reader, server), ("replies", reader, client)):
                    group.create_task(self._lines[way].receive(source))
                    group.create_task(self._lines[way].deliver(sink))
            for writer in self._writers:
                writer.close()
                await writer.wait_closed()
        except* OSError:
            pass  # the other end learns of it by the reset

    def reset(self) -> None:
        """Send RST to each end that is still open."""
        for writer in self._writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class _Line:
    """One way of one connection: what has come, and when it is due at the other end."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.held = 0

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Take in what comes, whether it can be delivered or not; an empty chunk is the end."""
        data = None
        while data != b"":
            data = await reader.read(_CHUNK)
            self.held += len(data)
            self._chunks.put_nowait((self._loop_time() + self._network.delay, data))

    async def deliver(self, writer: asyncio.StreamWriter) -> None:
        """Give on what has come, up to the end."""
        data = None
        while data != b"":
            due, data = await self._chunks.get()
            await asyncio.sleep(due - self._loop_time())
            await self._network.working.wait()
            writer.write(data)
            self.held -= len(data)
            await writer.drain()
        writer.write_eof()

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()
