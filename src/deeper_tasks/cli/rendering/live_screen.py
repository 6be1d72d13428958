"""The live screen: redrawn at each interval and at each change of the window's size, until a key ends it."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.live import Live

from deeper_tasks.cli.process.wakeup import woken_by_signals
from deeper_tasks.cli.rendering.live_queues import render_look
from deeper_tasks.cli.rendering.output import console
from deeper_tasks.cli.store_watch import Look

_END_KEYS = frozenset({b"q", b"Q", b"\x03", b"\x04"})


class LiveScreen:
    """Shows looks at the store on the alternate screen of a terminal, and restores the terminal at its end."""

    def __init__(self, console: Console, *, interval: float) -> None:
        self._console = console
        self._interval = interval

    @classmethod
    def on_terminal(cls, interval: float) -> Self | None:
        """Return a screen; None if stdout is not a terminal that can show one."""
        screen = console()
        if not sys.stdout.isatty() or screen.is_dumb_terminal:
            return None
        return cls(screen, interval=interval)

    def run(self, take_look: Callable[[], Look]) -> None:
        """Show the results of `take_look` until a key, Ctrl-C or SIGTERM ends it."""
        with woken_by_signals(signal.SIGWINCH, signal.SIGTERM) as woken, _single_keys() as keys, self._live() as live:
            due = time.monotonic()
            look = take_look()
            while True:
                live.update(render_look(look, self._console.size, interval=self._interval), refresh=True)
                due = max(due + self._interval, time.monotonic())
                if not self._wait(live, look, due, woken, keys):
                    return
                look = take_look()

    def _wait(self, live: Live, look: Look, due: float, woken: int, keys: int | None) -> bool:
        """Wait until the next look is due, and redraw if the size changes; return False if the screen is to end."""
        sources = [woken] if keys is None else [woken, keys]
        while (left := due - time.monotonic()) > 0:
            ready, _, _ = select.select(sources, [], [], left)
            if keys in ready and keys is not None:
                pressed = os.read(keys, 1)
                if not pressed:
                    sources.remove(keys)  # the terminal was closed: its end of file would be read without end
                elif pressed in _END_KEYS:
                    return False
            if woken in ready:
                if signal.SIGTERM in os.read(woken, 64):
                    return False
                live.update(render_look(look, self._console.size, interval=self._interval), refresh=True)
        return True

    def _live(self) -> Live:
        return Live(console=self._console, screen=True, auto_refresh=False, transient=True)


@contextmanager
def _single_keys() -> Iterator[int | None]:
    """Yield a descriptor from which keys are read one by one; None if stdin is not a terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
