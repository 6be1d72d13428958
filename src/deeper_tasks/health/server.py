"""The health server: answers `/live`, `/ready` and `/health` over HTTP, from a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

from deeper_tasks.domain.view import to_json
from deeper_tasks.errors import ConfigError
from deeper_tasks.health.health import Health
from deeper_tasks.lasting import lasting

_logger = logging.getLogger("deeper_tasks")

_NAME = "deeper-health"
_PATIENCE = 5.0
"""Seconds that a client gets to send its request and read the answer."""
_AFTER_A_FAULT = 0.1
_LONGEST_REQUEST = 8192
_MOST_CLIENTS = 64

Answer = tuple[HTTPStatus, Any]


class HealthServer:
    """
    Serves the health that `health` returns: status 200 if the process is live or ready, as the path asks, else 503.

    The server's thread has no other work, so it answers even if the process's event loop is blocked. Port 0 chooses a
    free port, which `url` shows.

    Raises:
        ConfigError: the server cannot listen on the address.
    """

    def __init__(self, *, host: str, port: int, health: Callable[[], Health]) -> None:
        self._health = health
        try:
            # Encode here: for a name that cannot be encoded, the code of `socket` raises without closing its socket.
            host.encode("idna")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, UnicodeError) as error:
            reason = str(getattr(error, "strerror", error)).partition(" (while")[0]
            message = f"health cannot be served on {host!r}, port {port}: {reason}; choose another address"
            raise ConfigError(message) from error
        _close_in_forks()
        _listening.add(self._socket)
        self._conversations: dict[asyncio.Task[None], None] = {}
        self._stopping = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL of `/health` on this server."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/health"

    def start(self) -> None:
        """Start to answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to answer requests, and free the port."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        else:
            self._loop.close()
        self._socket.close()

    def _run(self) -> None:
        with closing(self._loop):
            lasting(self._run_loop, name=_NAME)()

    def _run_loop(self) -> None:
        if self._serving is None or self._serving.done():
            self._serving = self._loop.create_task(self._serve())
        self._loop.run_until_complete(self._serving)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        self._listen()
        await self._stopping.wait()
        loop.remove_reader(self._socket)
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _listen(self) -> None:
        if not self._stopping.is_set():
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:
            # Too many files are open, for example. The client is still waiting, so an attempt at once would spin.
            loop.remove_reader(self._socket)
            loop.call_later(_AFTER_A_FAULT, self._listen)
            return
        # A client that keeps connections open must not lock out others or use up memory: drop the oldest connection.
        if len(self._conversations) >= _MOST_CLIENTS:
            oldest = next(iter(self._conversations))
            del self._conversations[oldest]
            oldest.cancel()
        client.setblocking(False)
        conversation = loop.create_task(self._converse(client))
        self._conversations[conversation] = None
        conversation.add_done_callback(lambda _: client.close())
        conversation.add_done_callback(lambda _: self._conversations.pop(conversation, None))

    async def _converse(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # A client that has gone, or is too slow, gets no answer.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                request = b""
                while b"\r\n\r\n" not in request and len(request) < _LONGEST_REQUEST:
                    data = await loop.sock_recv(client, _LONGEST_REQUEST)
                    if not data:
                        break
                    request += data
                await loop.sock_sendall(client, self._answer(request[:_LONGEST_REQUEST]))

    def _answer(self, request: bytes) -> bytes:
        line = request.partition(b"\n")[0].decode("latin-1")
        status, content = self._respond(line)
        body = f"{to_json(content)}\n".encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if line.startswith("HEAD ") else body)

    def _respond(self, line: str) -> Answer:
        match line.split():
            case ["GET" | "HEAD", path, *_]:
                return self._look(path.partition("?")[0])
            case [_, path, version] if path.startswith("/") and version.startswith("HTTP/"):
                return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "only GET and HEAD are supported"}
        return HTTPStatus.BAD_REQUEST, {"error": "this is not an HTTP request"}

    def _look(self, path: str) -> Answer:
        if path not in {"/live", "/ready", "/health"}:
            return HTTPStatus.NOT_FOUND, {"error": "the paths are /live, /ready and /health"}
        try:
            health = self._health()
        except Exception:
            _logger.exception("health server failed to read the health")
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the health cannot be read; the log has the reason"}
        if path == "/live":
            return _status(holds=health.live), {"live": health.live}
        if path == "/ready":
            return _status(holds=health.ready), {"ready": health.ready, "status": health.status}
        return _status(holds=health.live and health.ready), health


_listening: WeakSet[socket.socket] = WeakSet()


@cache
def _close_in_forks() -> None:
    os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    """Close all listening sockets: a process that a task has forked may outlive this one, and would keep its port."""
    for each in _listening:
        each.close()


def _status(*, holds: bool) -> HTTPStatus:
    return HTTPStatus.OK if holds else HTTPStatus.SERVICE_UNAVAILABLE
