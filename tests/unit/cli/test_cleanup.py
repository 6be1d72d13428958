"""`deeper cleanup`."""

from __future__ import annotations

STORE = ("--url", "sqlite:///tasks.db")


def test_it_deletes_what_is_older_than_said_and_tells_how_many(deeper, ask, enqueue, dead):
    waiting = enqueue("shop.add", 1)
    assert deeper("cleanup", *STORE).stdout == "0 jobs deleted\n"
    assert ask("cleanup", "--completed-days", 0)["deleted"] == 0
    assert deeper("cleanup", "--failed-days", 0, *STORE).stdout == "1 job deleted\n"
    assert [job["id"] for job in ask("list")["entries"]] == [waiting]


def test_days_that_are_none_are_refused(deeper):
    result = deeper("cleanup", "--failed-days", -1, *STORE)
    assert result.exit_code == 2
    assert "failed_days cannot be -1.0" in result.stderr
