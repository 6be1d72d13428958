"""The transitions: one module of the store changes states, counters and unique keys, and each end passes one place."""

import ast
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.protocol import JobFilter, Node, Retention
from deeper_tasks.backends.sqlite import (
    backend,
    claiming,
    consuming,
    control,
    diagnosis,
    insert,
    maintenance,
    pruning,
    schema,
    transitions,
)
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ErrorReport, JobSpec, NewJob
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.unique import Unique

PACKAGE = Path(backend.__file__).parent
JOB, COUNTERS, KEYS = "deeper_job", "deeper_counter", "deeper_unique_key"

# Where each table's states, counts and keys may be written.
WRITERS = {
    JOB: {"transitions.py", "row_changes.py"},
    COUNTERS: {"counters.py"},
    KEYS: {"unique_keys.py"},
}
# Which modules may use those parts, and of which functions: all others leave the changes to the transitions.
USERS = {
    # The others only make values of its type.
    "row_changes": {"transitions.py": None, "consuming.py": set(), "maintenance.py": set()},
    "counters": {"transitions.py": None, "pruning.py": {"mend", "prune"}},
    "unique_keys": {"transitions.py": None, "pruning.py": {"prune"}},
}
WRITES = re.compile(
    r"\b(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|REPLACE\s+INTO|DELETE\s+FROM|UPDATE(?:\s+OR\s+\w+)?)\s+(\w+)(.*)", re.DOTALL
)
OF_THE_STATE = re.compile(r"(?:\bSET\b|,)\s*(?:state|finished_at|unique_key)\s*=", re.DOTALL)


def texts(path):
    """Return the texts in a module that are not docstrings; of an f-string the fixed parts, joined."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def tables_written(text):
    """Return the tables whose states, counts or keys a statement writes."""
    for statement in text.split(";"):
        written = WRITES.search(statement)
        if written is None or written[1] not in WRITERS:
            continue
        if written[0].startswith("UPDATE") and written[1] == JOB and not OF_THE_STATE.search(written[2]):
            continue  # other columns: the progress, the node, a request to cancel
        yield written[1]


def test_no_other_module_of_the_store_writes_states_counters_or_keys():
    found = {
        (path.name, table)
        for path in PACKAGE.glob("*.py")
        for text in texts(path)
        if text != diagnosis.MEND  # shown to the user, who may run it by hand
        for table in tables_written(text)
    }
    assert found == {(module, table) for table, modules in WRITERS.items() for module in modules}


def test_no_trigger_of_the_schema_writes_states_counters_or_keys():
    triggers = [
        part
        for path in PACKAGE.glob("migrations/*.sql")
        for part in re.findall(r"CREATE TRIGGER.*?END;", path.read_text(), re.DOTALL)
    ]
    assert triggers
    assert not [table for trigger in triggers for table in tables_written(trigger)]


def test_only_the_transitions_use_what_writes_them():
    for path in PACKAGE.glob("*.py"):
        module = ast.parse(path.read_text())
        imported = {
            alias.name for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names
        } | {
            node.module.rpartition(".")[2]
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom) and node.module
        }
        for part in imported & USERS.keys():
            assert path.name in USERS[part], f"{path.name} uses {part}: leave it to transitions.py"
            used = {
                node.attr
                for node in ast.walk(module)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == part
            }
            allowed = USERS[part][path.name]
            assert allowed is None or used <= allowed


# Each way in which a job ends, and the state that it ends in; None: it is deleted.

NODE, TOKEN = NodeId("node"), ClaimToken("token")
LATER = 10**15
ERROR = ErrorReport(kind="ValueError", message="no")


def settling(end, **fields):
    return lambda database, job: consuming.settle(
        database, [Settlement(id=job, token=TOKEN, end=end, ran_for=timedelta(0), **fields)], now=LATER
    )


def cancelled_while_it_runs(database, job):
    control.cancel(database, JobFilter(ids=(job,)), reason="enough", now=LATER)
    settling(End.RETRY, error=ERROR)(database, job)


def rescued(database, job):
    maintenance.rescue(database, NODE, beat=0, trusted=(), now=LATER)


def rescued_after_a_cancel(database, job):
    control.cancel(database, JobFilter(ids=(job,)), reason="enough", now=LATER)
    rescued(database, job)


RUNNING = {
    "completed": (settling(End.COMPLETE), 6),
    "completed with a result": (settling(End.COMPLETE, result="1"), 6),
    "failed": (settling(End.FAIL, error=ERROR), 7),
    "discarded": (settling(End.DISCARD, error=ERROR), 8),
    "cancelled by itself": (settling(End.CANCEL), 9),
    "cancelled while it runs": (cancelled_while_it_runs, 9),
    "rescued after its last attempt": (rescued, 8),
    "rescued after a cancel": (rescued_after_a_cancel, 9),
}
WAITING = {
    "cancelled": (lambda database, job: control.cancel(database, JobFilter(ids=(job,)), reason="no", now=LATER), 9),
    "expired": (lambda database, job: maintenance.expire(database, now=LATER), 7),
    "deleted": (lambda database, job: control.delete(database, JobFilter(ids=(job,)), now=LATER), None),
}
NO_ENDS = {
    "snoozed": settling(End.SNOOZE, delay=timedelta(seconds=5)),
    "retried": settling(End.RETRY, delay=timedelta(seconds=5)),
    "released": settling(End.RELEASE),
}


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    schema.migrate(connection)
    node = Node(id=NODE, name="n", host="h", scope="s", pid=1, pid_started="1", queues={"default": 1})
    consuming.register(connection, node, tasks=None, now=0)
    yield connection
    connection.close()


@pytest.fixture
def ends(monkeypatch):
    """What passes the one place of the ends: the id and the queue of each job, and the state that it ended in."""
    seen, end = [], transitions._end

    def watched(connection, jobs, after, *, now):
        seen.extend((job.id, job.queue, after.state and CODES[after.state]) for job in jobs)
        end(connection, jobs, after, now=now)

    monkeypatch.setattr(transitions, "_end", watched)
    return seen


def begun(database, *, is_running):
    spec = JobSpec(
        task="shop.send", arguments="[[],{}]", queue="default", max_attempts=1, expires_in=timedelta(seconds=1)
    )
    job = NewJob(request_id=JobId(str(UUID(int=0))), spec=spec, unique=Unique(key="the one"))
    insert.insert(database, [job], now=0)
    if is_running:
        claiming.claim(database, "default", limit=1, slots=1, node=NODE, token=TOKEN, now=0)
    return job.request_id


@pytest.mark.parametrize("way", [*RUNNING, *WAITING])
def test_each_way_in_which_a_job_ends_passes_the_one_place(database, ends, way):
    act, state = (RUNNING | WAITING)[way]
    job = begun(database, is_running=way in RUNNING)
    act(database, job)
    assert ends == [(job, "default", state)]
    rows = database.execute("SELECT state FROM deeper_job").fetchall()
    assert [row[0] for row in rows] == ([] if state is None else [state])
    assert database.execute("SELECT count(*) FROM deeper_unique_key").fetchone()[0] == 0


@pytest.mark.parametrize("act", NO_ENDS.values(), ids=NO_ENDS)
def test_what_ends_an_attempt_and_not_the_job_does_not_pass_it(database, ends, act):
    act(database, begun(database, is_running=True))
    assert ends == []
    assert database.execute("SELECT count(*) FROM deeper_unique_key").fetchone()[0] == 1


def test_the_deletion_of_ended_jobs_does_not_pass_it_again(database, ends):
    job = begun(database, is_running=True)
    settling(End.FAIL, error=ERROR)(database, job)
    del ends[:]
    assert pruning.prune(database, Retention(failed=timedelta(0)), now=LATER + 1).jobs == 1
    assert ends == []
