"""`deeper stats --watch`: the live screen, and the lines where there is no terminal."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

import pytest

from deeper_tasks.cli.commands.watch import describe
from deeper_tasks.cli.store_watch import Look, Rate, compute_rates
from deeper_tasks.manager import Overview, QueueOverview

STORE = ("--url", "sqlite:///tasks.db")
WATCH = ("stats", "--watch", "--interval", "0.1", *STORE)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def overview(**completed):
    queues = tuple(
        QueueOverview(
            name=name,
            pending=0,
            running=0,
            later=0,
            dead=0,
            completed_today=count,
            failed_today=0,
            paused_at=None,
            workers=0,
            slots=0,
        )
        for name, count in completed.items()
    )
    return Overview(now=NOW, queues=queues, workers=())


def test_a_rate_is_what_ended_between_two_looks():
    rates = compute_rates(overview(default=10, emails=1), overview(default=40, emails=1, new=5), seconds=10)
    assert {name: rate.completed for name, rate in rates.items()} == {"default": 3.0, "emails": 0.0, "new": 0.5}


def test_a_rate_survives_midnight():
    assert compute_rates(overview(default=1000), overview(default=20), seconds=2)["default"].completed == 10.0


def test_a_look_is_a_line():
    look = Look(at=NOW, overview=overview(default=1), rates={"default": Rate(completed=2.5, failed=0)})
    assert "pending 0  running 0  failed today 0  2.5/s  workers 0 (0/0 busy)" in describe(look)
    assert "does not answer: locked" in describe(Look(at=NOW, error="locked"))


def test_the_screen_shows_the_queues_and_the_dead_letters_and_goes_by_a_key(on_terminal, enqueue, dead):
    enqueue("post.welcome", "Ada")
    screen = on_terminal(*WATCH)
    shown = screen.read_until("no paper")
    for text in ("emails", "no worker serves it", "failed today 1", "latest dead letters"):
        assert text in shown
    assert "\x1b[?1049h" in screen.raw
    screen.press(b"q")
    assert screen.wait() == 0
    assert "\x1b[?1049l" in screen.raw


def test_what_happens_meanwhile_is_shown(on_terminal, enqueue):
    enqueue("shop.add", 1)
    screen = on_terminal(*WATCH)
    screen.read_until("pending 1 ")
    enqueue("shop.add", 2)
    screen.read_until("pending 2 ")
    screen.press(b"\x03")
    assert screen.wait() == 130
    assert "Traceback" not in screen.text


def test_sigterm_leaves_the_terminal_as_it_was(on_terminal, enqueue):
    screen = on_terminal(*WATCH)
    screen.read_until("pending 0 ")
    screen.process.send_signal(signal.SIGTERM)
    assert screen.wait() == 0
    assert screen.raw.rindex("\x1b[?1049l") > screen.raw.rindex("\x1b[?1049h")
    assert "\x1b[?25h" in screen.raw


def test_a_new_size_is_drawn_at_once(on_terminal, enqueue, dead):
    screen = on_terminal("stats", "--watch", "--interval", "3600", *STORE, columns=60)
    screen.read_until("default")
    assert "later" not in screen.text
    screen.resize(140, 40)
    screen.read_until("later")


@pytest.mark.parametrize("lines", [1, 4, 9])
def test_a_small_window_is_no_problem(on_terminal, enqueue, dead, *, lines):
    for number in range(8):
        enqueue("shop.add", number, "--queue", f"queue{number}")
    screen = on_terminal(*WATCH, columns=30, lines=lines)
    screen.read_until("deeper", times=3)
    screen.press(b"q")
    assert screen.wait() == 0


def test_a_store_that_is_away_is_shown_and_looked_for_again(on_terminal, folder, enqueue):
    enqueue("shop.add", 1)
    (folder / "tasks.db").rename(folder / "away.db")
    screen = on_terminal(*WATCH)
    screen.read_until("the store does not answer: there is no database")
    (folder / "away.db").rename(folder / "tasks.db")
    screen.read_until("pending 1 ")
    (folder / "tasks.db").rename(folder / "away.db")
    screen.read_until("the store does not answer: there is no database")
    screen.press(b"q")
    assert screen.wait() == 0


def test_in_a_pipe_it_writes_a_line_each_interval(piped, enqueue):
    enqueue("shop.add", 1)
    process = piped(*WATCH)
    lines = [process.stdout.readline() for _ in range(3)]
    assert all("pending 1  running 0" in line for line in lines)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (130, "\ndeeper: interrupted\n")
    assert "\x1b" not in rest


def test_a_dumb_terminal_gets_lines_too(on_terminal, enqueue):
    enqueue("shop.add", 1)
    screen = on_terminal(*WATCH, TERM="dumb")
    screen.read_until("pending 1 ", times=2)
    assert "\x1b" not in screen.raw
    screen.press(b"\x03")
    assert screen.wait() == 130


def test_with_json_each_look_is_a_line_of_json(piped, enqueue, dead):
    process = piped(*WATCH, "--json")
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert first["rates"] == {}
    assert second["rates"] == {"default": {"completed": 0.0, "failed": 0.0}}
    assert second["dead_letters"][0]["id"] == dead
    assert second["overview"]["queues"][0]["failed_today"] == 1
    assert second["error"] is None


def test_a_pipe_that_closes_ends_it(piped, enqueue):
    process = piped(*WATCH)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(40) == 141
    assert process.stderr.read() == ""
