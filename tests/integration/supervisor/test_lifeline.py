"""A process's end of the pipe: messages, and what happens when the other end closes."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from deeper_tasks.supervisor.lifeline import Lifeline
from deeper_tasks.supervisor.messages import Lines, Report

SUPERVISED = """
import os, signal, sys, threading
from deeper_tasks.supervisor import lifeline
lifeline._MARGIN = 0.1
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
line = lifeline.Lifeline(int(sys.argv[1]))
assert not os.get_inheritable(int(sys.argv[1]))
print("watching", flush=True)
told.wait()
print("told", flush=True)
if sys.argv[2] == "hangs":
    threading.Event().wait()
"""


def _report(number):
    return Report(is_ready=True, is_stopping=False, busy=number, loop_lag=0.0)


@pytest.mark.parametrize(("manner", "code"), [("ends", 0), ("hangs", -signal.SIGKILL)])
def test_a_process_whose_supervisor_is_gone_ends_as_by_sigterm_or_is_killed(manner, code):
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISED, str(theirs.fileno()), manner],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        assert process.stdout.readline() == "watching\n"
        ours.close()
        assert process.stdout.readline() == "told\n"
        assert process.wait(30) == code


def test_a_pipe_that_is_full_drops_messages_but_cuts_none(monkeypatch):
    monkeypatch.setattr(Lifeline, "_watch", lambda self: None)
    ours, theirs = socket.socketpair()
    lifeline = Lifeline(os.dup(theirs.fileno()))
    theirs.close()
    lines, seen = Lines(), []
    # Nobody reads, as when the supervisor is stopped.
    for number in range(20_000):
        lifeline.send(_report(number))
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while data := ours.recv(1_000):
            seen += lines.take(data)
    lifeline.send(_report(20_000))
    lifeline.send(_report(20_001))
    seen += lines.take(ours.recv(65_536))
    numbers = [report.busy for report in seen]
    assert numbers[0] == 0
    assert numbers[-1] == 20_001
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 20_000
    ours.close()
    lifeline.send(_report(0))
    lifeline._socket.close()
