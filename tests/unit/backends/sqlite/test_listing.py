"""The listing: the same page by whatever way it is found, and none of the ways reads what it need not."""

import random
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.protocol import Cursor, JobFilter, JobQuery, Retention, SortKey
from deeper_tasks.backends.sqlite import control, listing, pruning, schema
from deeper_tasks.backends.sqlite.codec import moment
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import DEAD_LETTER, TERMINAL, WAITING, State

INSERT = """
INSERT INTO deeper_job (
    id, state, task, arguments, queue, priority, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, finished_at, options
)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), '[[],{}]',
    json_extract(value, '$[3]'), 0, 5, 5,
    json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), json_extract(value, '$[7]')
FROM json_each(?)
"""
COUNT = "INSERT INTO deeper_counter SELECT queue, state, 0, count(*) FROM deeper_job GROUP BY queue, state"


def filled_with(rows):
    """Return a database of these jobs, and the counters that they come to."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    schema.migrate(connection)
    connection.execute(INSERT, [listing.to_json(rows)])
    connection.execute(COUNT)
    return connection


# The same page by whatever way.


def some_jobs(seed):
    """Return 900 jobs whose states, queues and times are unevenly spread and often equal."""
    dice = random.Random(seed)
    common = dice.choice([State.COMPLETED, State.PENDING, State.SCHEDULED])
    rows = []
    for number in range(900):
        state = common if dice.random() < 0.8 else dice.choice(list(State))
        inserted = number // 7
        scheduled = inserted + (dice.randrange(200) if dice.random() < 0.3 else 0)
        finished = scheduled + dice.randrange(50) if state.is_terminal else None
        task = dice.choice(["shop.send", "shop.pack", "shop.deep.send", "shopping.send"])
        tags = '{"tags":["red"]}' if dice.random() < 0.1 else None
        queue = dice.choice(["emails", "default", "default", "default", "slow"])
        job_id = str(UUID(int=dice.getrandbits(128)))
        rows.append([job_id, CODES[state], task, queue, inserted, scheduled, finished, tags])
    return rows


def meant(rows, condition):
    for job_id, state, task, queue, inserted, scheduled, finished, options in rows:
        if (
            (condition.states is None or STATES[state] in condition.states)
            and condition.queue in {None, queue}
            and condition.task in {None, task}
            and (condition.worker_module is None or task.startswith(condition.worker_module + "."))
            and (condition.tag is None or options is not None)
            and (condition.ids is None or job_id in condition.ids)
        ):
            yield job_id, {"inserted_at": inserted, "scheduled_at": scheduled, "finished_at": finished}


def in_order(rows, query):
    places = [(times[query.sort_by.value], job_id) for job_id, times in meant(rows, query.filter)]
    timed = sorted((place for place in places if place[0] is not None), reverse=query.is_descending)
    untimed = sorted((place for place in places if place[0] is None), reverse=query.is_descending)
    return timed + untimed


def conditions(dice, rows):
    return JobFilter(
        states=dice.choice(
            [
                None,
                TERMINAL,
                DEAD_LETTER,
                WAITING,
                frozenset({dice.choice([*State])}),
                frozenset(dice.sample([*State], 3)),
            ]
        ),
        queue=dice.choice([None, None, "emails", "default", "slow", "none"]),
        task=dice.choice([None, None, None, None, "shop.send", "none"]),
        worker_module=dice.choice([None, None, None, None, "shop", "shop.deep"]),
        tag=dice.choice([None, None, None, None, "red"]),
        ids=dice.choice([None] * 7 + [tuple(row[0] for row in dice.sample(rows, 60))]),
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_list_is_what_sorting_all_jobs_gives(seed, monkeypatch):
    dice, rows = random.Random(seed), some_jobs(seed)
    monkeypatch.setattr(listing, "_SCANNED_PER_GATHERED", dice.choice([1, 3, 1000]))
    monkeypatch.setattr(listing, "_HOP", dice.choice([10, 10_000]))
    database = filled_with(rows)
    for _ in range(120):
        query = JobQuery(
            filter=conditions(dice, rows),
            sort_by=dice.choice(list(SortKey)),
            is_descending=dice.random() < 0.5,
            limit=dice.choice([1, 7, 50, 1000]),
        )
        expected = in_order(rows, query)
        start = dice.randrange(len(expected) + 1)
        if start and dice.random() < 0.5:
            value, job_id = expected[start - 1]
            query = query.__class__(**{**fields(query), "after": Cursor(value=at(value), id=JobId(job_id))})
        else:
            query = query.__class__(**{**fields(query), "offset": start})
        page = listing.find(database, query)
        rest = expected[start:]
        assert [job.id for job in page.jobs] == [job_id for _, job_id in rest[: query.limit]], query
        assert (page.total, page.total_is_exact) == (len(expected), True)
        following = rest[query.limit - 1] if len(rest) > query.limit else None
        assert page.next == (None if following is None else Cursor(value=at(following[0]), id=JobId(following[1])))
    database.close()


def fields(query):
    return {name: getattr(query, name) for name in query.__struct_fields__}


def at(value):
    return None if value is None else moment(value)


# The ways.

MANY, FEW = 30_000, 3


def aged_jobs():
    """Return a file as it looks after weeks: nearly all is completed, and little waits."""
    rows = []

    def add(number, state, queue, *, delay=0):
        for _ in range(number):
            inserted = len(rows)
            finished = inserted + delay + 2 if state.is_terminal else None
            rows.append(
                [f"{len(rows):032x}", CODES[state], "shop.send", queue, inserted, inserted + delay, finished, None]
            )

    add(MANY // 2, State.COMPLETED, "default")
    for state in (State.FAILED, State.DISCARDED, State.CANCELLED):
        add(FEW, state, "emails")
    add(200, State.DISCARDED, "default")
    add(MANY // 4, State.COMPLETED, "default", delay=5)
    add(MANY // 4, State.COMPLETED, "emails")
    for state in (State.SCHEDULED, State.RETRYABLE, State.PENDING, State.RUNNING):
        add(FEW, state, "emails", delay=10)
    return rows


STATISTICS_OF_FIVE_MILLIONS = [
    ("sqlite_autoindex_deeper_job_1", "5000000 1"),
    ("deeper_job_inserted", "5000000 2500000 1 1"),
    ("deeper_job_ended", "5000000 2500000 2500000 1 1"),
    ("deeper_job_dead", "200 100 100 1 1"),
    ("deeper_job_moved", "1000000 500000 1 1"),
    ("deeper_job_due", "6 1 1"),
    ("deeper_job_pending", "1 1 1 1 1"),
    ("deeper_job_running", "1 1 1"),
]


@pytest.fixture(scope="module", params=["without statistics", "analyzed", "analyzed with five million jobs"])
def aged(request):
    """An aged database, with the statistics that it may have."""
    connection = filled_with(aged_jobs())
    if request.param != "without statistics":
        connection.execute("ANALYZE")
    if "million" in request.param:
        connection.execute("DELETE FROM sqlite_stat1 WHERE tbl = 'deeper_job'")
        connection.executemany("INSERT INTO sqlite_stat1 VALUES ('deeper_job', ?, ?)", STATISTICS_OF_FIVE_MILLIONS)
        connection.execute("ANALYZE sqlite_master")
    yield connection
    connection.close()


class Watched:
    """A connection that notes the plan of every statement, and how much SQLite did for it."""

    def __init__(self, connection):
        self._connection = connection
        self.plans = []
        self.hundreds = 0

    def executemany(self, statement, rows):
        return self._connection.executemany(statement, rows)

    def execute(self, statement, values=()):
        steps = [row[3] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        self.plans.append((statement, values, steps))
        self._connection.set_progress_handler(self._count, 100)
        try:
            return self._connection.execute(statement, values)
        finally:
            self._connection.set_progress_handler(None, 0)

    def _count(self):
        self.hundreds += 1
        return 0


LISTS = {
    "all": JobFilter(),
    "completed": JobFilter(states=frozenset({State.COMPLETED})),
    "dead letters": JobFilter(states=DEAD_LETTER),
    "cancelled": JobFilter(states=frozenset({State.CANCELLED})),
    "ended": JobFilter(states=TERMINAL),
    "waiting": JobFilter(states=WAITING),
    "pending": JobFilter(states=frozenset({State.PENDING})),
    "scheduled": JobFilter(states=frozenset({State.SCHEDULED})),
    "running": JobFilter(states=frozenset({State.RUNNING})),
    "completed and failed": JobFilter(states=frozenset({State.COMPLETED, State.FAILED})),
    "a queue": JobFilter(queue="emails"),
    "a queue's completed": JobFilter(queue="emails", states=frozenset({State.COMPLETED})),
    "a queue's dead letters": JobFilter(queue="emails", states=DEAD_LETTER),
    "a queue's pending": JobFilter(queue="emails", states=frozenset({State.PENDING})),
    "a queue that nobody knows": JobFilter(queue="none"),
    "a task": JobFilter(task="shop.send"),
    "a module's dead letters": JobFilter(worker_module="shop", states=DEAD_LETTER),
}
SOMEWHERE = Cursor(value=moment(MANY // 3), id=JobId("5"))
MOST_GATHERED = 1000


@pytest.mark.parametrize("after", [None, SOMEWHERE], ids=["from the start", "after a cursor"])
@pytest.mark.parametrize("is_descending", [True, False], ids=["down", "up"])
@pytest.mark.parametrize("sort_by", list(SortKey))
@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_read_along_indexes_and_sorts_only_what_is_little(aged, name, sort_by, is_descending, after):
    watched = Watched(aged)
    query = JobQuery(filter=LISTS[name], sort_by=sort_by, is_descending=is_descending, after=after)
    listing.find(watched, query)
    counts = dict(aged_counts(aged))
    for statement, values, steps in watched.plans:
        read = [step for step in steps if re.match(r"(SCAN|SEARCH) deeper_job\b", step)]
        assert all("USING" in step for step in read), steps
        if any("TEMP B-TREE" in step for step in steps):
            assert gathered(counts, statement, values) <= MOST_GATHERED, (statement, values)
        elif any(step.startswith("SCAN deeper_job") for step in read):
            assert re.search(r"deeper_job_(due|running)", read[0]), steps


@pytest.mark.parametrize("after", [None, SOMEWHERE], ids=["from the start", "after a cursor"])
@pytest.mark.parametrize("is_descending", [True, False], ids=["down", "up"])
@pytest.mark.parametrize("sort_by", list(SortKey))
@pytest.mark.parametrize("name", [name for name, condition in LISTS.items() if condition.task is None])
def test_a_list_costs_no_more_than_a_small_part_of_the_jobs(aged, name, sort_by, is_descending, after):
    watched = Watched(aged)
    listing.find(watched, JobQuery(filter=LISTS[name], sort_by=sort_by, is_descending=is_descending, after=after))
    # Reading all takes some 10 steps of SQLite's machine for each job.
    assert watched.hundreds * 100 < MANY * 10 / 6


def aged_counts(database):
    for queue, state, count in database.execute("SELECT queue, state, count FROM deeper_counter"):
        yield (queue, state), count


def gathered(counts, statement, values):
    fixed = re.search(r"\bstate = (\d)", statement)
    state_meant = int(fixed[1]) if fixed else values["range_state"]
    return sum(
        count
        for (queue, state), count in counts.items()
        if state == state_meant and values.get("range_queue", queue) == queue
    )


def test_a_page_far_down_is_the_same_as_by_its_cursor(aged):
    last = listing.find(aged, JobQuery(limit=1, offset=25_000 - 1)).next
    by_offset = listing.find(aged, JobQuery(limit=20, offset=25_000))
    assert by_offset.jobs == listing.find(aged, JobQuery(limit=20, after=last)).jobs
    assert len(by_offset.jobs) == 20


def test_counting_what_no_index_knows_gives_up_after_so_many_jobs(aged, monkeypatch):
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 5_000)
    page = listing.find(aged, JobQuery(filter=JobFilter(task="shop.send"), limit=10))
    assert page.total_is_exact is False
    assert 10 <= page.total <= 10_000
    missed = listing.find(aged, JobQuery(filter=JobFilter(task="none"), limit=10))
    assert (missed.jobs, missed.total, missed.total_is_exact) == ((), 0, False)


def test_the_time_of_a_cursor_may_be_of_any_zone_and_age(aged):
    page = listing.find(aged, JobQuery(after=Cursor(value=datetime(2999, 1, 1, tzinfo=UTC), id=JobId("a")), limit=1))
    assert page.jobs == listing.find(aged, JobQuery(limit=1)).jobs


# What is changed in bulk is found by the same lines.


@pytest.fixture
def changed(aged):
    """The aged database, in a transaction that is taken back."""
    aged.execute("BEGIN")
    yield Watched(aged)
    aged.execute("ROLLBACK")


CHANGES = {
    "cancel what waits in a queue": (
        lambda database: control.cancel(database, JobFilter(queue="emails"), reason="enough", now=MANY),
        4 * FEW,
    ),
    "retry the dead letters of a queue": (
        lambda database: control.retry(database, JobFilter(queue="emails", states=DEAD_LETTER), now=MANY),
        2 * FEW,
    ),
    "retry all that may be": (lambda database: control.retry(database, JobFilter(), now=MANY), 200 + 3 * FEW),
    "delete the cancelled": (
        lambda database: control.delete(database, JobFilter(states=frozenset({State.CANCELLED})), now=MANY),
        FEW,
    ),
    "delete of a module what waits": (
        lambda database: control.delete(database, JobFilter(worker_module="shop", states=WAITING), now=MANY),
        3 * FEW,
    ),
    "delete a batch of all": (lambda database: control.delete(database, JobFilter(), now=MANY), 500),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_bulk_change_costs_by_what_it_means_and_not_by_what_is_there(changed, name):
    change, expected = CHANGES[name]
    assert len(change(changed)) == expected
    for _, _, steps in changed.plans:
        assert all("USING" in step for step in steps if re.match(r"(SCAN|SEARCH) deeper_job\b", step)), steps
        assert not any("TEMP B-TREE" in step for step in steps)
        assert not any(
            re.match(r"SCAN deeper_job USING INDEX deeper_job_(inserted|ended|dead|moved)", step) for step in steps
        )
    # Reading and changing a row takes some hundred steps of SQLite's machine, and looking at all of them far more.
    assert changed.hundreds * 100 < expected * 1500 + 3000 < MANY * 30


def test_a_batch_is_pruned_from_many_queues_without_reading_more_than_a_few_batches():
    rows = [
        [f"{number:032x}", 6, "shop.send", f"queue-{number % 40}", number, number, number, None]
        for number in range(40_000)
    ]
    with closing(filled_with(rows)) as database:
        watched = Watched(database)
        pruned = pruning.prune(watched, Retention(completed=timedelta(0)), now=50_000)
        [left] = watched.execute("SELECT min(finished_at) FROM deeper_job").fetchone()
    assert pruned.jobs == 500
    assert left == 500
    read = [values for statement, values, _ in watched.plans if statement == pruning.SELECT_OLD]
    assert len(read) == 40
    # Each queue is read no further than the oldest batch of those before it reaches.
    assert sum(values["before"] for values in read[1:]) / 40 < 20_000 / 3
