"""The certain end: has the system end this process after some seconds, whatever its threads do."""

from __future__ import annotations

import signal


def end_within(seconds: float) -> None:
    """
    End this process in so many seconds, unless it has ended by then. This cannot be taken back.

    The kernel does it by SIGALRM, so code that lets no other thread run cannot prevent it, and a process that
    was suspended meanwhile ends before it goes on.

    Raises:
        ValueError: this is not the main thread.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
