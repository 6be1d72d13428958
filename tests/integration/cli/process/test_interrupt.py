"""Ctrl-C, whatever a command does just then: it ends with a line, exit code 130 and no traceback."""

from __future__ import annotations

import os
import signal
import sqlite3

import pytest

STORE = ("--url", "sqlite:///tasks.db")
INTERRUPTED = "\ndeeper: interrupted\n"


@pytest.fixture
def importing(folder):
    """Make an application whose import says that it has begun, and hangs; returns what waits until it has begun."""
    os.mkfifo(folder / "begun")
    (folder / "hanging.py").write_text("open('begun', 'w').close()\nimport time\ntime.sleep(3600)\n")

    def importing():
        with (folder / "begun").open() as begun:
            begun.read()

    return importing


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--app", "hanging:manager"],
        ["doctor", "--app", "hanging:manager"],
        ["enqueue", "hanging.task", "--app", "hanging:manager"],
        ["schedules", "--app", "hanging:manager", "--json"],
    ],
    ids=lambda words: words[0],
)
def test_while_the_application_is_imported(piped, importing, words):
    process = piped(*words)
    importing()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=40) == ("", INTERRUPTED)
    assert process.returncode == 130


def test_while_a_shell_waits_for_suggestions(piped, importing):
    line = "deeper list --app hanging:manager --queue e"
    process = piped(_DEEPER_COMPLETE="bash_complete", COMP_LINE=line, COMP_BREAKS=":=")
    importing()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    # It may have given up by itself just before.
    assert (process.returncode, errors) in {(130, INTERRUPTED), (0, "")}


def test_at_a_question(on_terminal, ask, enqueue):
    enqueue("shop.add", 1)
    screen = on_terminal("delete", "--queue", "default", *STORE)
    screen.read_until("Delete 1 job?")
    screen.press(b"\x03")
    assert screen.wait() == 130
    assert screen.text.endswith(f"^C{INTERRUPTED}")
    assert "Traceback" not in screen.text
    assert ask("list")["total_entries"] == 1


def test_while_a_bar_shows_the_progress(on_terminal, folder, dead):
    connection = sqlite3.connect(folder / "tasks.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    screen = on_terminal("retry", "--all-dead", "--url", "sqlite:///tasks.db?timeout=1")
    screen.read_until("retrying")
    screen.press(b"\x03")
    assert screen.wait() == 130
    assert "Traceback" not in screen.text
    # The cursor is there again.
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")
    connection.close()


def test_after_its_work_while_threads_of_the_application_hold_up_the_end(piped, folder):
    (folder / "lingering.py").write_text(
        "import threading\nfrom shop import manager\nthreading.Thread(target=threading.Event().wait).start()\n"
    )
    process = piped("list", "--app", "lingering:manager")
    assert process.stdout.readline() == "0 jobs, page 1 of 1\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=40) == ("", INTERRUPTED)
    assert process.returncode == 130


def test_in_a_finalizer_whose_errors_are_only_told(piped, folder):
    (folder / "ghost.py").write_text(
        "import os, signal\nfrom shop import manager\n"
        "class Ghost:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "Ghost()\n"
    )
    process = piped("list", "--app", "ghost:manager")
    assert process.communicate(timeout=40) == ("", INTERRUPTED)
    assert process.returncode == 130
