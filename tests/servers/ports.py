"""Ports of this machine that a server may have, and the URLs that name them."""

import random
import socket
from contextlib import suppress
from urllib.parse import urlsplit

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_768)
"""Below those that systems give to clients: a client that calls a stopped server's port must not get that same port."""


def free_port() -> int:
    """A port that nobody listened on a moment ago, chosen at random: several test processes look for one at once."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with suppress(OSError), listen(port):
            return port


def listen(port: int) -> socket.socket:
    """A socket that listens on the port."""
    return socket.create_server((HOST, port), backlog=256)


def address_of(url: str) -> tuple[str, int]:
    """The host and the port of a PostgreSQL URL."""
    parts = urlsplit(url)
    return parts.hostname or HOST, parts.port or 5432


def at_port(url: str, port: int) -> str:
    """The same URL, at a port of this machine."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@{HOST}:{port}" if user else f"{HOST}:{port}").geturl()
