"""
The program `deeper`: runs the command line so that Ctrl-C, at any moment, ends it with a line and no traceback.

SIGHUP has another effect on each kind of worker, so it is blocked until the command is known.
"""

from __future__ import annotations

# Only modules that import fast: until `main` is called, Ctrl-C prints a traceback of the interpreter.
import os
import signal
import sys

_INTERRUPTED = 130

_held: set[int] = set()


def main() -> None:
    """Run the command line, and exit with its exit code."""
    try:
        _run()
    except KeyboardInterrupt:
        # Ctrl-C came before the command line began, after its end, or again during the report of the first.
        _leave()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            # The command has closed its resources. The interpreter's end would only print errors of dropped work.
            os._exit(_INTERRUPTED)
        raise


def release_hang_up() -> None:
    """Let SIGHUP take effect, including a SIGHUP that came while the program was starting."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _held)
    _held.clear()


def _run() -> None:
    _held.update({signal.SIGHUP} - signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP}))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from deeper_tasks.cli import main as run

    sys.unraisablehook = _leave_or_print
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        # The interpreter now waits for threads, and Ctrl-C would print a traceback.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)


def _leave_or_print(unraisable: sys.UnraisableHookArgs) -> None:
    """End the program if Ctrl-C came in a finalizer or a callback, whose errors Python can only print."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(unraisable)


def _leave(*_: object) -> None:
    os.write(2, b"\ndeeper: interrupted\n")
    os._exit(_INTERRUPTED)
