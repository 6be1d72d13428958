"""The progress bars: on a terminal's stderr, and nowhere else."""

from __future__ import annotations

import json

import pytest

STORE = ("--url", "sqlite:///tasks.db")


@pytest.mark.parametrize(
    ("words", "title", "said"),
    [
        (("cancel", "--queue", "default", "--yes"), "cancelling", "3 jobs cancelled, or asked to stop"),
        (("delete", "--queue", "default", "--yes"), "deleting", "3 jobs deleted"),
        (("retry", "--status", "cancelled"), "retrying", "3 jobs made pending again"),
    ],
)
def test_work_on_many_jobs_shows_how_far_it_is(on_terminal, deeper, enqueue, *, words, title, said):
    for number in range(3):
        enqueue("shop.add", number)
    if words[0] == "retry":
        deeper("cancel", "--queue", "default", "--yes", *STORE)
    screen = on_terminal(*words, *STORE)
    assert screen.wait() == 0
    assert title in screen.text
    assert "3/3" in screen.text
    assert screen.text.strip().endswith(said)


def test_cleanup_and_doctor_show_that_they_work(on_terminal, enqueue):
    enqueue("shop.add", 1)
    cleanup = on_terminal("cleanup", *STORE)
    assert cleanup.wait() == 0
    assert "deleting old jobs" in cleanup.text
    doctor = on_terminal("doctor", *STORE)
    assert doctor.wait() == 1
    assert "examining" in doctor.text


@pytest.mark.parametrize("words", [["--json"], []])
def test_no_bar_is_drawn_for_json_or_on_a_dumb_terminal(on_terminal, enqueue, *, words):
    enqueue("shop.add", 1)
    screen = on_terminal("cancel", "--queue", "default", "--yes", *words, *STORE, TERM="xterm" if words else "dumb")
    assert screen.wait() == 0
    assert screen.text.strip() == ('{"count":1}' if words else "1 job cancelled, or asked to stop")
    assert "\x1b" not in screen.raw


def test_in_a_pipe_there_is_only_the_answer(piped, enqueue):
    enqueue("shop.add", 1)
    process = piped("delete", "--queue", "default", "--yes", "--json", *STORE)
    said, errors = process.communicate(timeout=40)
    assert (json.loads(said), errors) == ({"count": 1}, "")
