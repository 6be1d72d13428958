"""The pauses before a process that ended is started again."""

from deeper_tasks.supervisor.backoff import Backoff


def test_the_first_restart_comes_at_once_and_the_next_ones_later_and_later():
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.next(worked_for=0) for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_pauses_of_several_processes_differ_by_chance_up_to_a_half():
    backoff = Backoff(random=lambda: 0.999)
    assert backoff.next(worked_for=0) == 0
    assert 0.25 < backoff.next(worked_for=0) < 0.251


def test_a_process_that_worked_well_has_its_next_restart_at_once():
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.next(worked_for=0) for _ in range(4)] == [0, 0.5, 1, 2]
    assert backoff.next(worked_for=9.9) == 4
    assert backoff.next(worked_for=10) == 0
    assert backoff.next(worked_for=1) == 0.5


def test_a_process_that_is_killed_every_quarter_of_a_minute_is_never_kept_waiting():
    backoff = Backoff(random=lambda: 0.0)
    assert {backoff.next(worked_for=15) for _ in range(20)} == {0}


def test_after_a_reset_it_begins_anew():
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.next(worked_for=0) for _ in range(3)] == [0, 0.5, 1]
    backoff.reset()
    assert backoff.next(worked_for=0) == 0


def test_any_number_of_failures_gives_a_pause():
    backoff = Backoff(random=lambda: 0.0)
    assert {backoff.next(worked_for=0) for _ in range(5_000)} >= {0, 30}
