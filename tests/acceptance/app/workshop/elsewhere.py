"""A worker on another machine, as far as anybody can tell: its host has another name."""

from __future__ import annotations

import asyncio
import socket
import sys

from workshop.worker import log_as_json, work

HOST = "elsewhere"

if __name__ == "__main__":
    socket.gethostname = lambda: HOST
    log_as_json()
    asyncio.run(work(sys.argv[1:]))
