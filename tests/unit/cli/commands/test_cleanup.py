"""`deeper cleanup`."""

from __future__ import annotations

import re

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.rendering.formats import size

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


def test_compact_gives_the_space_of_deleted_jobs_back(deeper, ask, folder):
    with BackgroundTaskManager("sqlite:///tasks.db").sync as manager:

        @manager._behind.task(name="shop.note")
        async def note(text: str) -> None: ...

        manager.enqueue_many([note.call("x" * 20_000) for _ in range(100)])
        manager.cancel_tasks(queue="default")
    before = (folder / "tasks.db").stat().st_size
    result = deeper("cleanup", "--failed-days", 0, "--compact", *STORE)
    assert result.exit_code == 0
    assert re.fullmatch(r"100 jobs deleted\n[0-9.]+ (bytes|[KM]iB) returned to the system\n", result.stdout)
    assert (folder / "tasks.db").stat().st_size < before / 4
    assert ask("cleanup", "--compact") == {"deleted": 0, "freed_bytes": 0}
    assert ask("cleanup") == {"deleted": 0, "freed_bytes": None}


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**22, "4.0 MiB"), (2**31, "2.0 GiB")],
)
def test_sizes_are_told_in_their_fitting_unit(count, said):
    assert size(count) == said
