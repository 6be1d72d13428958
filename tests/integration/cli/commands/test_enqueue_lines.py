"""`deeper enqueue --from` reading a pipe, and on a terminal: its bar, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sqlite3

import pytest

APP = ("--app", "shop:manager")


@pytest.fixture
def lines(folder):
    """Write a file of lines; a line that is no text becomes JSON."""

    def lines(*given):
        written = [each if isinstance(each, str) else json.dumps(each) for each in given]
        (folder / "jobs.jsonl").write_text("".join(f"{each}\n" for each in written))
        return "jobs.jsonl"

    return lines


def test_a_pipe_is_read_as_a_file_is(piped, ask, folder):
    os.mkfifo(folder / "pipe")
    process = piped("enqueue", "shop.add", "--from", "pipe", *APP)
    with (folder / "pipe").open("w") as pipe:
        pipe.write('{"args": [1]}\n' * 3)
    assert process.communicate() == ("3 jobs enqueued\n", "")
    assert ask("list")["total_entries"] == 3


def test_ctrl_c_in_a_terminal_says_which_lines_may_be_jobs(on_terminal, ask, lines, folder):
    ask("list")
    with sqlite3.connect(folder / "tasks.db", isolation_level=None) as store:
        store.execute("BEGIN IMMEDIATE")
        screen = on_terminal("enqueue", "shop.add", "--from", lines(*[{"args": [1]}] * 3), *APP)
        screen.read_until("enqueuing")
        screen.press(b"\x03")
        screen.read_until("^C")
        store.execute("ROLLBACK")
    assert screen.wait() == 130
    # The bar stands there a moment before the first insert.
    may_be = "it is unknown whether lines 1 to 3 are enqueued; check that before you continue with --start-line 1"
    assert screen.text.rstrip().endswith((f"deeper: interrupted; {may_be}", "deeper: interrupted; no job was enqueued"))


def test_ctrl_c_while_a_pipe_is_read_says_that_nothing_is_enqueued(piped, folder):
    os.mkfifo(folder / "pipe")
    process = piped("enqueue", "shop.add", "--from", "pipe", *APP)
    with (folder / "pipe").open("w"):
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=40) == ("", "\ndeeper: interrupted; no job was enqueued\n")
    assert process.returncode == 130


def test_a_bar_shows_how_far_it_is_on_a_terminal(on_terminal, lines):
    terminal = on_terminal("enqueue", "shop.add", "--from", lines(*[{"args": [1]}] * 3), *APP)
    assert terminal.wait() == 0
    assert "enqueuing" in terminal.text
    assert "3 jobs enqueued" in terminal.text
