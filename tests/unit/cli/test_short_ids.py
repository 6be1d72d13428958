"""Short ids: what a narrow list shows, and every command takes."""

from __future__ import annotations

import json

import pytest

STORE = ("--url", "sqlite:///tasks.db")
# The first two differ by their 17th digit, all three by their 14th.
ALIKE = (
    "019b0000-0001-7aaa-8aaa-00000000000a",
    "019b0000-0001-7aaa-9aaa-00000000000b",
    "019b0000-0001-7bbb-8aaa-00000000000c",
)


@pytest.fixture
def alike(enqueue):
    """Have jobs there whose ids begin with the same 13 digits."""
    for task_id in ALIKE:
        enqueue("shop.add", 1, "--task-id", task_id)


@pytest.mark.parametrize("command", ["status", "cancel", "retry", "delete"])
def test_a_short_id_stands_for_the_job_whose_id_begins_so(deeper, dead, command):
    digits = dead.replace("-", "")
    for short in (dead[:15], dead[:23], digits[:13], digits[:13].upper(), digits[:20]):
        if command == "status":
            assert dead in deeper(command, short, *STORE).stdout
    result = deeper(command, dead[:15], *STORE)
    assert dead in result.stdout + result.stderr
    assert result.exit_code == (1 if command == "cancel" else 0)


def test_an_id_that_is_several_jobs_is_refused_with_those_jobs(deeper, alike):
    result = deeper("status", ALIKE[0][:15], *STORE)
    assert result.exit_code == 2
    assert result.stderr == (
        f"deeper: several jobs have ids that begin with '019b0000-0001-7': {', '.join(ALIKE)}; give more digits\n"
    )
    result = deeper("cancel", ALIKE[0][:18], *STORE, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["candidates"] == list(ALIKE[:2])
    assert ALIKE[0] in deeper("status", ALIKE[0][:20], *STORE).stdout


def test_so_many_jobs_that_a_line_cannot_name_them_are_not_all_named(deeper, enqueue):
    for number in range(7):
        enqueue("shop.add", 1, "--task-id", f"019b0000-0001-7aaa-8aaa-00000000000{number}")
    assert deeper("status", "019b0000-0001-7", *STORE).stderr.endswith("000004 and more; give more digits\n")


@pytest.mark.parametrize(
    ("task_id", "code", "said"),
    [
        (
            "019b0000-0001",
            2,
            "the id '019b0000-0001' is too short: it has 12 digits without hyphens; give 13 of them, or more",
        ),
        ("019b", 2, "the id '019b' is too short: it has 4 digits; give 13 of them, or more"),
        ("019b0000-0002-7", 3, "no job has an id that begins with '019b0000-0002-7'"),
        ("019b0000-0001-7xyz", 3, "no job has the id '019b0000-0001-7xyz': ids are UUIDs, or 13 and more"),
    ],
)
def test_what_names_no_job_is_refused(deeper, alike, *, task_id, code, said):
    result = deeper("status", task_id, *STORE)
    assert result.exit_code == code
    assert result.stderr.startswith(f"deeper: {said}")


def test_a_delete_of_several_jobs_takes_whole_ids_only(deeper, ask, alike):
    result = deeper("delete", ALIKE[0], ALIKE[2][:18], *STORE)
    assert result.exit_code == 2
    assert "is a short id; to delete several jobs at once" in result.stderr
    assert ask("list")["total_entries"] == 3
    assert deeper("delete", *ALIKE[:2], *STORE).exit_code == 0
    assert deeper("delete", ALIKE[2][:18], *STORE).exit_code == 0
    assert ask("list")["total_entries"] == 0


def test_jobs_that_wait_are_moved_by_short_ids_too(deeper, ask, alike):
    later = deeper("reschedule", ALIKE[2][:16], "--delay", "1h", *STORE)
    assert later.stdout.startswith(f"{ALIKE[2]} rescheduled, due ")
    assert deeper("run-now", ALIKE[2][:18], ALIKE[0][:20], *STORE).exit_code == 0
    assert {job["status"] for job in ask("list")["entries"]} == {"pending"}


def test_of_several_ids_each_is_tried_with_short_ones_among_them(deeper, ask, alike):
    result = deeper("cancel", ALIKE[0][:15], ALIKE[2][:18], *STORE)
    assert result.exit_code == 2
    assert result.stdout == f"{ALIKE[2]} cancelled\n"


def test_a_narrow_list_shows_as_many_digits_as_name_each_job_alone(deeper, enqueue, alike, at_width):
    alone = enqueue("shop.add", 1)
    at_width(80)
    shown = [line.split()[0] for line in deeper("list", *STORE).stdout.splitlines()[1:-1]]
    assert sorted(shown) == sorted([alone[:15], ALIKE[0][:20], ALIKE[1][:20], ALIKE[2][:16]])
    for short in shown:
        assert deeper("status", short, *STORE).exit_code == 0
