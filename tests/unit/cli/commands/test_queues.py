"""`deeper queues`: the list, pause and resume."""

from __future__ import annotations

import json

import pytest

STORE = ("--url", "sqlite:///tasks.db")


def test_the_list_shows_each_queue_and_that_nobody_serves_it(deeper, enqueue, dead):
    enqueue("post.welcome", "Ada")
    enqueue("post.welcome", "Grace", "--delay", "1h")
    above, header, default, emails = deeper("queues", *STORE).stdout.splitlines()
    assert above.split() == ["failed"]
    assert header.split() == ["queue", "pending", "running", "later", "today", "slots", "state"]
    assert default.split() == ["default", "0", "0", "0", "1", "0", "no", "worker", "serves", "it"]
    assert emails.split()[:6] == ["emails", "1", "0", "1", "0", "0"]


@pytest.mark.parametrize(
    ("width", "numbers"), [(40, []), (50, ["pending"]), (60, ["pending", "today"]), (80, None), (240, None)]
)
def test_a_narrow_list_keeps_names_and_states_and_names_the_numbers_left_out(deeper, at_width, enqueue, width, numbers):
    for queue in ("notifications-high", "tenant-4711-notifications-outgoing"):
        enqueue("shop.add", 1, "--queue", queue)
    at_width(width)
    shown = deeper("queues", *STORE).stdout
    lines = shown.splitlines()
    head = next(line for line in lines if line.startswith("queue"))
    assert head.split() == [
        "queue",
        *(["pending", "running", "later", "today", "slots"] if numbers is None else numbers),
        "state",
    ]
    assert max(map(len, lines)) <= width
    assert shown.count("no worker serves it") == 2
    assert "notifications-high" in shown
    assert "tenant-4711-notific" in shown and "s-outgoing" in shown  # noqa: PT018 - one name, in two lines or one
    assert ("a wider terminal" in shown) is (numbers is not None)


def test_the_list_of_no_queue_says_so(deeper):
    assert deeper("queues", *STORE).stdout == "no queue has had a job yet\n"


def test_a_pause_is_told_with_what_it_holds_and_shown_with_its_age(deeper, ask, enqueue):
    enqueue("post.welcome", "Ada")
    result = deeper("queues", "pause", "emails", *STORE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "emails paused, with 1 job pending\n", "")
    assert "paused now" in deeper("queues", *STORE).stdout
    assert ask("queues")[0]["paused_at"] is not None
    assert ask("queues", "resume", "emails") == {
        "queue": "emails",
        "outcome": "resumed",
        "was_known": True,
        "pending": 1,
    }
    assert ask("queues")[0]["paused_at"] is None


def test_the_pause_of_a_queue_without_jobs_holds_and_warns_of_a_mistyped_name(deeper, ask, enqueue):
    enqueue("post.welcome", "Ada")
    result = deeper("queues", "pause", "emials", *STORE)
    assert (result.exit_code, result.stdout) == (0, "emials paused, with 0 jobs pending\n")
    assert "the queue 'emials' has never had a job" in result.stderr
    assert "there are: emails" in result.stderr
    assert {queue["name"]: queue["paused_at"] is not None for queue in ask("queues")} == {
        "emails": False,
        "emials": True,
    }


def test_in_json_the_warning_is_a_field(deeper):
    result = deeper("queues", "pause", "emials", "--json", *STORE)
    assert json.loads(result.stdout)["was_known"] is False
    assert result.stderr == ""


def test_a_name_that_cannot_be_a_queue_is_refused(deeper):
    result = deeper("queues", "pause", "", *STORE)
    assert result.exit_code == 2
    assert result.stderr.startswith("deeper: ")
