"""The silence of a process, and who is to blame for it."""

from deeper_tasks.supervisor.silence import Silence


def _first_too_long(silence, times):
    return next((now for now in times if silence.is_too_long(now)), None)


def test_nothing_heard_for_the_limit_is_too_long():
    silence = Silence(30)
    silence.hear(100)
    assert _first_too_long(silence, range(100, 200)) == 130


def test_each_sign_of_life_begins_it_anew():
    silence = Silence(30)
    for now in range(100, 300):
        if now % 20 == 0:
            silence.hear(now)
        assert not silence.is_too_long(now)


def test_who_was_never_heard_is_not_silent_but_starting():
    assert _first_too_long(Silence(30), range(1000)) is None


def test_a_gap_in_the_looks_blames_nobody():
    silence = Silence(30)
    silence.hear(100)
    assert _first_too_long(silence, range(100, 120)) is None
    # The supervisor was stopped, or the whole machine; nobody could be heard.
    assert not silence.is_too_long(1000)
    assert _first_too_long(silence, range(1001, 1100)) == 1030


def test_looks_that_are_a_little_late_are_no_gap():
    silence = Silence(30)
    silence.hear(100)
    assert _first_too_long(silence, range(100, 200, 14)) == 142
