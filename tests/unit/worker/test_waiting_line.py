"""The waiting line: first come, first served, though all of them come back by themselves."""

import pytest

from deeper_tasks.worker.waiting_line import WaitingLine


@pytest.fixture
def line():
    return WaitingLine()


def put_off(line, *names, now=0.0):
    return [line.wait(name, now=now).total_seconds() for name in names]


def test_a_job_that_finds_nobody_waiting_need_not_wait(line):
    assert line.may_leave("a", free=1, now=0)
    assert not line.may_leave("b", free=0, now=0)


def test_a_job_is_put_off_for_longer_the_farther_behind_it_stands(line):
    assert put_off(line, "a", "b", "c") == [0.5, 1.0, 1.5]
    assert put_off(line, "b") == [1.0]


def test_a_newcomer_and_one_that_stands_behind_do_not_overtake(line):
    put_off(line, "a", "b")
    assert not line.may_leave("new", free=1, now=0.1)
    assert not line.may_leave("b", free=1, now=0.2)
    assert line.may_leave("a", free=1, now=0.5)
    assert line.may_leave("b", free=1, now=1.0)


def test_as_many_may_go_as_there_are_places_free(line):
    put_off(line, "a", "b", "c")
    assert line.may_leave("b", free=2, now=0.2)
    assert not line.may_leave("c", free=1, now=0.3)


def test_one_that_does_not_come_back_is_waited_for_no_longer_than_a_while(line):
    put_off(line, "a", "b")
    put_off(line, "b", now=5.0)
    assert not line.may_leave("b", free=1, now=5.4)
    assert line.may_leave("b", free=1, now=5.6)


def test_one_that_has_waited_long_asks_seldom_but_at_least_twice_a_minute(line):
    put_off(line, "a")
    assert put_off(line, "a", now=4.0) == [1.0]
    now = 4.0
    while now < 1000:
        now += put_off(line, "a", now=now)[0]
    assert put_off(line, "a", now=now) == [30.0]
