"""The stalls: what is known of who blocked the loop excuses the others, and nothing else excuses anybody."""

import pytest

from deeper_tasks.worker.attempts.stalls import Stalls

MINE, OTHERS = "mine", "other's"


@pytest.fixture
def stalls():
    return Stalls()


def look(stalls, turn, job_id, at):
    stalls.note(turn, job_id, after=at, before=at)


def test_the_time_between_two_looks_at_one_turn_is_held_by_its_job(stalls):
    for at in (10.0, 11.0, 12.0):
        look(stalls, "turn", OTHERS, at)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 2.0
    assert stalls.held_by_others(MINE, 10.5, 11.25) == 0.75
    assert stalls.held_by_others(OTHERS, 0.0, 100.0) == 0.0


def test_code_of_no_job_holds_every_job_up(stalls):
    for at in (10.0, 11.0):
        look(stalls, "turn", None, at)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 1.0


def test_the_time_between_two_turns_excuses_nobody(stalls):
    for turn, job_id, at in (("a", OTHERS, 10.0), ("b", OTHERS, 11.0), ("c", None, 12.0), ("d", MINE, 13.0)):
        look(stalls, turn, job_id, at)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 0.0


def test_each_of_several_turns_in_one_stall_is_its_own_job_s(stalls):
    for turn, job_id, at in (("a", OTHERS, 10.0), ("a", OTHERS, 13.0), ("b", MINE, 13.5), ("b", MINE, 15.5)):
        look(stalls, turn, job_id, at)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 3.0
    assert stalls.held_by_others(OTHERS, 0.0, 100.0) == 2.0


def test_a_turn_that_cannot_be_seen_excuses_nobody(stalls):
    for at in (10.0, 11.0):
        look(stalls, None, None, at)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 0.0


def test_what_the_loop_did_after_it_turned_is_another_stall(stalls):
    look(stalls, "turn", OTHERS, 10.0)
    stalls.end()
    look(stalls, "turn", OTHERS, 11.0)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 0.0


def test_a_look_counts_for_no_longer_than_it_saw_the_turn(stalls):
    stalls.note("turn", OTHERS, after=10.0, before=10.5)
    stalls.note("turn", OTHERS, after=11.0, before=11.5)
    assert stalls.held_by_others(MINE, 0.0, 100.0) == 0.5
