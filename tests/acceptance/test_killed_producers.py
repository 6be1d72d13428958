"""A producer that is killed in the middle: what an enqueue returned is there, and a batch is there whole or not."""

import asyncio
import random
from collections import Counter

import pytest
from workshop.crew import STORES
from workshop.producer import BATCH


async def _killed_in_the_middle(crew, how, *, after):
    """Return what a producer had printed when it was killed, some lines after the line `after`."""
    producer = crew.start("workshop.producer", how, is_piped=True)

    def read_and_kill():
        lines = [producer.process.stdout.readline() for _ in range(after)]
        producer.kill()
        return [line.decode().strip() for line in [*lines, *producer.process.stdout.readlines()]]

    printed = await asyncio.to_thread(read_and_kill)
    assert producer.process.returncode == -9
    assert len(printed) >= after
    return printed


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.parametrize("latest", [1, 400])
async def test_every_id_that_a_killed_producer_was_given_is_there(crew, manager, latest):
    after = random.randint(1, latest)
    print(f"killed after line {after}")  # noqa: T201 - shown when the test fails
    printed = await _killed_in_the_middle(crew, "one", after=after)
    assert len(set(printed)) == len(printed)
    for each in printed:
        assert (await manager.get_task_status(each)).status == "pending"
    # The one that was under way when the kill came may be there too.
    stored = (await manager.get_statistics()).queues["default"].pending
    assert stored - len(printed) in {0, 1}
    crew.check_database()


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.parametrize("latest", [1, 40])
async def test_of_each_batch_of_a_killed_producer_all_is_there_or_nothing(crew, manager, latest):
    after = random.randint(1, latest)
    print(f"killed after line {after}")  # noqa: T201 - shown when the test fails
    printed = await _killed_in_the_middle(crew, "many", after=after)
    found = Counter()
    page = await manager.list_tasks(per_page=1000)
    while page.entries:
        found.update(tag for status in page.entries for tag in status.tags)
        if page.next_cursor is None:
            break
        page = await manager.list_tasks(per_page=1000, cursor=page.next_cursor)
    assert set(found.values()) == {BATCH}
    assert set(printed) <= set(found)
    assert len(set(found) - set(printed)) <= 1
    crew.check_database()
