"""
The program `deeper` around its command line: Ctrl-C at any moment ends it with a line and no traceback.

SIGHUP, which means something else to each kind of worker, is held back until the command is known.
"""

from __future__ import annotations

# Nothing that takes time to import: until `main` is called, Ctrl-C is the interpreter's.
import os
import signal
import sys

_INTERRUPTED = 130

_held: set[int] = set()


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        _run()
    except KeyboardInterrupt:
        # It came before the command line began, or after its end, or again while it told of the first.
        _leave()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            # The command has closed what it opened. What it was about to do is dropped, and not complained about.
            os._exit(_INTERRUPTED)
        raise


def release_hang_up() -> None:
    """Have SIGHUP take effect, also one that came while the program was starting."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _held)
    _held.clear()


def _run() -> None:
    _held.update({signal.SIGHUP} - signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP}))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from deeper_tasks.cli import main as run

    sys.unraisablehook = _leave_or_tell
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        # Only threads are left, which the interpreter waits for.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)


def _leave_or_tell(told: sys.UnraisableHookArgs) -> None:
    """End the program where Ctrl-C came in code whose errors Python can only tell: a finalizer, or a callback."""
    if issubclass(told.exc_type, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(told)


def _leave(*_: object) -> None:
    os.write(2, b"\ndeeper: interrupted\n")
    os._exit(_INTERRUPTED)
