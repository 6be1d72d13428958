"""The plans of the statements: each finds its jobs by the index meant for it, whatever the statistics say."""

import re
import sqlite3

import pytest

from deeper_tasks.backends.sqlite import (
    claimable_jobs,
    claiming,
    consuming,
    control,
    counters,
    index_ranges,
    index_scan,
    insert,
    listing,
    maintenance,
    pruning,
    reads,
    row_changes,
    schedules,
    schema,
    transitions,
    unique_keys,
    waiting_queues,
)

MODULES = (
    insert,
    claiming,
    claimable_jobs,
    waiting_queues,
    consuming,
    maintenance,
    pruning,
    transitions,
    row_changes,
    unique_keys,
    counters,
    schedules,
    control,
    index_ranges,
    listing,
    index_scan,
    reads,
)

BY_ID = "deeper_job USING INDEX sqlite_autoindex_deeper_job_1 (id=?)"
BY_ID_AS_JOB = "job USING INDEX sqlite_autoindex_deeper_job_1 (id=?)"
BY_ID_COVERED = "deeper_job USING COVERING INDEX sqlite_autoindex_deeper_job_1 (id=?)"
BY_NEWEST = "deeper_schedule_run USING INDEX deeper_schedule_run_newest (name=?"
BY_ROWID = "deeper_job USING INTEGER PRIMARY KEY (rowid=?)"
BY_NODE = "deeper_job USING INDEX deeper_job_running (node=?)"
BY_STATE = "deeper_job USING INDEX deeper_job_ended (queue=? AND state=? AND finished_at>?)"
BY_END = "deeper_job USING INDEX deeper_job_ended (queue=? AND state=? AND (finished_at,id)>(?,?) AND finished_at<?)"
BY_CLAIM = "deeper_job USING INDEX deeper_job_running (node=? AND token=?)"

# What each statement that reads jobs finds them by.
BY_INDEX = {
    "insert.SELECT_KNOWN": f"SEARCH {BY_ID_AS_JOB}",
    "consuming.DEREGISTER": f"SEARCH {BY_NODE}",
    "claiming.SELECT_CLAIMANT": f"SEARCH {BY_CLAIM}",
    "claimable_jobs.SELECT_CLAIMABLE": "SEARCH deeper_job USING INDEX deeper_job_pending (queue=?)",
    "claimable_jobs.SELECT_CLAIMABLE_ROWS": "SEARCH deeper_job USING INDEX deeper_job_pending (queue=?)",
    "waiting_queues.SELECT_WAITING_QUEUES": "SEARCH deeper_job USING INDEX deeper_job_pending (queue>? AND queue<?)",
    "claimable_jobs.SELECT_FIRST_OF_EACH": "SEARCH deeper_job USING INDEX deeper_job_pending (queue=?)",
    "claimable_jobs.SELECT_CHOSEN": f"SEARCH {BY_ROWID}",
    "claimable_jobs.SELECT_CHOSEN_ROWS": f"SEARCH {BY_ROWID}",
    "transitions.CLAIM": f"SEARCH {BY_ROWID}",
    "claimable_jobs.SELECT_CLAIMED": f"SEARCH {BY_CLAIM}",
    "claimable_jobs.SELECT_CLAIMED_ROWS": f"SEARCH {BY_CLAIM}",
    "consuming.SELECT_SETTLED": f"SEARCH {BY_ID_AS_JOB}",
    "transitions.COMPLETE": f"SEARCH {BY_ROWID}",
    "transitions.COMPLETE_WITHOUT_RESULT": f"SEARCH {BY_ROWID}",
    "consuming.REPORT": f"SEARCH {BY_ID}",
    "consuming.SELECT_HELD": f"SEARCH {BY_NODE}",
    "maintenance.SELECT_DUE": "SEARCH deeper_job USING INDEX deeper_job_due (scheduled_at<?)",
    "transitions.PROMOTE": f"SEARCH {BY_ROWID}",
    "maintenance.SELECT_NEXT_DUE": "SCAN deeper_job USING INDEX deeper_job_due",
    "maintenance.SELECT_ABANDONED": f"SEARCH {BY_NODE}",
    "maintenance.SELECT_EXPIRED": "SEARCH deeper_job USING INDEX deeper_job_expiring (expires_at>? AND expires_at<?)",
    "pruning.SELECT_OLD": "SEARCH deeper_job USING INDEX deeper_job_ended (queue=? AND state=? AND finished_at<?)",
    "pruning.DELETE_SILENT_NODES": f"SEARCH {BY_NODE}",
    "pruning.SELECT_MISSING_NODES": "SEARCH deeper_job USING INDEX deeper_job_running (node>?)",
    "pruning.GIVE_JOBS": f"SEARCH {BY_NODE}",
    "transitions.DELETE": f"SEARCH {BY_ROWID}",
    "row_changes.WRITE": f"SEARCH {BY_ROWID}",
    "schedules.SELECT_KNOWN_JOBS": f"SEARCH {BY_ID_COVERED}",
    "schedules.SELECT_UNDER_WAY": f"SEARCH {BY_ID}",
    "schedules.SELECT_RUNS": f"SEARCH {BY_ID_AS_JOB} LEFT-JOIN",
    "control.SELECT_ALONG_INDEX": f"SEARCH {BY_STATE}",
    "control.SELECT_NAMED": f"SEARCH {BY_ID}",
    "transitions.CANCEL": f"SEARCH {BY_ROWID}",
    "transitions.REQUEST_CANCEL": f"SEARCH {BY_ROWID}",
    "transitions.RETRY": f"SEARCH {BY_ROWID}",
    "transitions.DROP_KEY": f"SEARCH {BY_ROWID}",
    "control.SELECT_WAITING": f"SEARCH {BY_ID}",
    "transitions.RESCHEDULE": f"SEARCH {BY_ROWID}",
    "reads.GET": f"SEARCH {BY_ID}",
    "reads.FIND_IDS": f"SEARCH {BY_ID_COVERED.replace('id=?', 'id>? AND id<?')}",
    "reads.SELECT_HELD": "SCAN deeper_job USING INDEX deeper_job_running",
    "reads.WALK": "SEARCH deeper_job USING INDEX sqlite_autoindex_deeper_job_1 (id>?)",
    "index_ranges.SELECT_QUEUES": "SEARCH deeper_job USING COVERING INDEX deeper_job_inserted (queue>?)",
    "index_ranges.RECOUNT": "SEARCH deeper_job USING INDEX deeper_job_inserted (queue=?)",
    "index_scan.SELECT_POSITIONS": f"SEARCH {BY_END}",
    "index_scan.SELECT_POSITIONS_SCANNING": f"SEARCH {BY_END}",
    "index_scan.SELECT_IS_LONGER": f"SEARCH {BY_END.replace('USING', 'USING COVERING')}",
    "index_scan.SELECT_NAMED": f"SEARCH {BY_ID}",
    "listing.SELECT_JOBS": f"SEARCH {BY_ROWID}",
    "listing.COUNT": f"SEARCH {BY_STATE}",
    "listing.COUNT_NAMED": f"SEARCH {BY_ID}",
}
# What the other statements find theirs by; None: they only insert.
OF_OTHER_TABLES = {
    "consuming.REGISTER": None,
    "consuming.PUT_TASKS": None,
    "consuming.DELETE_TASKS": "SEARCH deeper_node_tasks USING PRIMARY KEY (node=?)",
    "consuming.BEAT": "SEARCH deeper_node USING PRIMARY KEY (id=?)",
    "consuming.SELECT_PAUSED": "SCAN deeper_queue",
    "maintenance.MARK_LOST": "SEARCH deeper_node USING PRIMARY KEY (id=?)",
    "pruning.STAND_IN_FOR_NODE": None,
    "maintenance.DELETE_NODE": "SEARCH deeper_node USING PRIMARY KEY (id=?)",
    "counters.DELETE_OLD_COUNTS": "SEARCH deeper_counter USING PRIMARY KEY (bucket<?)",
    "counters.DELETE_COUNTS": "SEARCH deeper_counter USING PRIMARY KEY (bucket=? AND queue=?)",
    "unique_keys.TAKE": None,
    "unique_keys.SELECT_HOLDER": "SEARCH deeper_unique_key USING PRIMARY KEY (key=?)",
    "unique_keys.RELEASE": "SEARCH deeper_unique_key USING PRIMARY KEY (key=?)",
    "unique_keys.FREE": "SEARCH deeper_unique_key USING PRIMARY KEY (key=?)",
    "unique_keys.PRUNE": "SEARCH deeper_unique_key USING COVERING INDEX deeper_unique_key_expiring (expires_at<?)",
    "counters.ADD": None,
    "schedules.SELECT_ENTRY": "SEARCH deeper_schedule USING PRIMARY KEY (name=?)",
    "schedules.SELECT_ENTRIES": "SCAN deeper_schedule",
    "schedules.WRITE": None,
    "schedules.REMOVE": "SEARCH deeper_schedule USING PRIMARY KEY (name=?)",
    "schedules.REMEMBER": None,
    "schedules.FORGET": "SEARCH deeper_removed_schedule USING PRIMARY KEY (name=?)",
    "schedules.SELECT_REMOVED": "SCAN deeper_removed_schedule",
    "schedules.ADD_RUNS": None,
    "schedules.TRIM_RUNS": f"SEARCH {BY_NEWEST} AND number<?)",
    "schedules.DROP_RUNS": f"SEARCH {BY_NEWEST})",
    "control.PUT_QUEUE": None,
    "index_ranges.SELECT_COUNTS": "SEARCH deeper_counter USING PRIMARY KEY (bucket=?)",
    "reads.SELECT_COUNTERS": "SEARCH deeper_counter USING PRIMARY KEY (bucket>? AND bucket<?)",
    "reads.SELECT_QUEUES": "SCAN deeper_queue",
    "reads.SELECT_NODES": "SCAN deeper_node",
    "reads.SELECT_KNOWING": "SCAN deeper_node_tasks",
}
EXPECTED = BY_INDEX | OF_OTHER_TABLES

# A repeated claim sorts what it has claimed, one by a pattern what it claims, a report the lines of one job's log, a
# firing its runs: at most a batch.
# A recount sorts nothing but the states that it counts, and is made only where counters are damaged. The statistics
# sort the counts of ends by queue, and what the workers hold by worker and queue.
MAY_SORT = {
    "claimable_jobs.SELECT_CLAIMED",
    "claimable_jobs.SELECT_CLAIMED_ROWS",
    "claimable_jobs.SELECT_CHOSEN",
    "claimable_jobs.SELECT_CHOSEN_ROWS",
    "consuming.REPORT",
    "schedules.ADD_RUNS",
    "index_ranges.RECOUNT",
    "reads.SELECT_COUNTERS",
    "reads.SELECT_HELD",
}
# The first of a partial index that holds only what waits; and one that holds only what the workers do.
MAY_WALK_THE_INDEX = {"maintenance.SELECT_NEXT_DUE", "reads.SELECT_HELD"}

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|REPLACE)\b", value)
}


def connect(*, finished: int, analyze: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection)
    connection.execute(
        """
        INSERT INTO deeper_job (
            id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
            inserted_at, scheduled_at, finished_at, node, token
        )
        WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < :finished)
        SELECT printf('%036d', i), 6, 'shop.send', '[[],{}]', 'default', 0, 1, 5, 5, i, i, i, 'node', i / 100
        FROM number WHERE :finished > 0
        """,
        {"finished": finished},
    )
    if analyze:
        connection.execute("ANALYZE")
    return connection


@pytest.fixture(scope="module", params=["without statistics", "analyzed empty", "analyzed with 50,000 finished jobs"])
def database(request):
    """A database whose statistics, where it has any, say that nothing waits and nothing runs."""
    finished = 50_000 if "50,000" in request.param else 0
    connection = connect(finished=finished, analyze="analyzed" in request.param)
    yield connection
    connection.close()


def plan_of(database, statement, values=None):
    if values is None:
        named = re.findall(r":([a-z_]+)", statement)
        values = dict.fromkeys(named) if named else [None] * statement.count("?")
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def is_sorted(plan):
    return any(step.startswith("USE TEMP B-TREE") for step in plan)


def is_scan_of_jobs(step):
    return re.match(r"SCAN (deeper_job|job)\b", step) is not None


def test_every_statement_has_an_expected_plan():
    assert STATEMENTS.keys() == EXPECTED.keys(), "add the new statement to BY_INDEX or OF_OTHER_TABLES"


ENDED = next(iter(index_ranges.ranges_of({("default", 6): 1}, {6}, queue=None)))
# What a template is filled with where it stands alone: the ended jobs of a queue, in the order of their index.
PARTS = {
    "{index}": ENDED.index,
    "{scope}": ENDED.scope,
    "{range}": "(finished_at, id) > (:at, :after_id) AND finished_at <= :bound",
    "{order}": "finished_at, id",
    "{key}": "finished_at",
    "{columns}": "finished_at, id, rowid, task",
    "{condition}": "task = :task",
    "{is_open}": "TRUE",
}


def filled(statement):
    for part, text in PARTS.items():
        statement = statement.replace(part, text)
    return statement


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_uses_its_index(database, name):
    plan = plan_of(database, filled(STATEMENTS[name]))
    expected = EXPECTED.get(name)
    assert expected is None or expected in plan
    assert name in MAY_SORT or not is_sorted(plan)
    assert name in MAY_WALK_THE_INDEX or not any(map(is_scan_of_jobs, plan))


def test_an_insert_reads_no_jobs(database):
    statement = transitions.insert_statement(2)
    assert "SCAN deeper_job" not in plan_of(database, statement)
    assert "SCAN deeper_job" not in plan_of(database, transitions.insert_statement(500))


@pytest.mark.parametrize(
    "statement",
    [name for name in STATEMENTS if name.startswith(("consuming.", "maintenance.", "transitions.", "row_changes."))],
)
def test_a_statement_on_the_hot_path_touches_no_other_index_of_jobs(database, statement):
    text = STATEMENTS[statement]
    used = {match for step in plan_of(database, text) for match in re.findall(r"deeper_job_\w+", step)}
    meant = set(re.findall(r"deeper_job_(?!1\b)\w+", BY_INDEX.get(statement, "")))
    assert used - {"deeper_job_1"} == meant - {"deeper_job_1"}


def test_the_sizes_of_lists_by_state_and_queue_are_read_from_the_counters():
    assert "deeper_job" not in reads.SELECT_COUNTERS + index_ranges.SELECT_COUNTS
