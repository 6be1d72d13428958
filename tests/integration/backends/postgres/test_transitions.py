"""The changes of jobs: written in one module and the hot SQL functions only, and as the kernel decides them."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from itertools import product

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from deeper_tasks.backends import postgres
from deeper_tasks.backends.buckets import bucket_of
from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres import maintenance, settling, transitions
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport
from deeper_tasks.domain.marks import Mark
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import AWAITS_ITS_TIME, State
from deeper_tasks.domain.transitions import (
    CANCEL_REQUEST,
    CANCELLATION,
    EXPIRY,
    MANUAL_RETRY,
    PROMOTION,
    after_rescue,
    after_settlement,
)
from deeper_tasks.testing.conformance.builders import (
    HOUR,
    NOW,
    join,
    new_id,
    only,
    put,
    put_running,
    settle,
)

# What each file may write. A report writes no state: only a sign of the start, progress and log lines.
WRITERS = {
    "transitions.py": {"job", "move", "unique_key"},
    "0002_insert.sql": {"job", "move", "unique_key"},
    "0004_claim.sql": {"job", "move"},
    "0005_settle.sql": {"job", "move", "unique_key"},
    "0006_report.sql": {"job"},
    "0008_promote.sql": {"job", "move"},
    "0009_fold.sql": {"move"},
}
REPORTED = {"attempted_at", "progress", "log"}

WRITE = re.compile(r"\b(?:INSERT\s+INTO|DELETE\s+FROM|UPDATE|TRUNCATE)\s+(?:\{schema\}\.)?(job|move|unique_key)\b")


def files_of(folder):
    for file in folder.iterdir():
        if file.is_dir():
            yield from files_of(file)
        elif file.name.endswith((".py", ".sql")):
            yield file


def test_only_the_transitions_and_the_hot_functions_write_states_counters_and_keys():
    written = {file.name: set(WRITE.findall(file.read_text("utf-8"))) for file in files_of(files(postgres))}
    assert {name: tables for name, tables in written.items() if tables} == WRITERS


def test_a_report_writes_no_state():
    text = files(postgres).joinpath("migrations", "0006_report.sql").read_text("utf-8")
    [columns] = re.findall(r"UPDATE job SET(.*?)\n        WHERE", text, re.DOTALL)
    assert set(re.findall(r"^ {12}(\w+) = ", columns, re.MULTILINE)) == REPORTED


# the hot functions and the kernel

TOKEN, OTHER_TOKEN = "t", "o"
ERROR = ErrorReport(kind="ValueError", message='a "quoted" one')
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
# Whole days only above 100,000: from 2 ** 53 microseconds on the server rounds a delay that has microseconds.
DELAYS = (
    st.timedeltas(timedelta(0), timedelta(days=100_000))
    | st.integers(100_000, 4_000_000).map(timedelta)
    | st.just(timedelta(0))
)

FACTS = st.fixed_dictionaries(
    {
        "state": st.sampled_from([4, 4, 4, 4, *STATES]),
        "queue": st.sampled_from(["default", "emails"]),
        "attempt": st.integers(0, 3),
        "token": st.sampled_from([TOKEN, TOKEN, TOKEN, OTHER_TOKEN, None]),
        "led_to": st.none() | st.integers(1, 9),
        "scheduled_at": MOMENTS,
        "attempted_at": st.none() | MOMENTS,
        "unknown_since": st.none() | MOMENTS,
        "unfit_since": st.none() | MOMENTS,
        "is_quarantined": st.none() | st.just(True),
        "cancel_requested": st.none() | st.just("enough"),
        "errors": st.sampled_from([0, 1, MAX_KEPT_ERRORS - 1, MAX_KEPT_ERRORS]),
        "hold": st.sampled_from(["none", "until the end", "for a period"]),
    }
)
SETTLED = st.fixed_dictionaries(
    {
        "end": st.sampled_from(End),
        "delay": DELAYS,
        "error": st.none() | st.just(ERROR),
        "ran_for": st.none() | st.timedeltas(timedelta(0), timedelta(days=100)),
        "mark": st.sampled_from([None, "is_task_unknown", "is_unfit", "is_process_lost"]),
        "result": st.none() | st.just('{"a":[1]}'),
    }
)

INSERT = """
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts, inserted_at,
    scheduled_at, attempted_at, token, led_to, unknown_since, unfit_since, is_quarantined, cancel_requested, errors,
    unique_key
) VALUES (
    %(id)s, %(state)s, 'send', '[]', %(queue)s, 0, %(attempt)s, 5, 5, now(),
    %(scheduled_at)s, %(attempted_at)s, %(token)s, %(led_to)s, %(unknown_since)s, %(unfit_since)s, %(is_quarantined)s,
    %(cancel_requested)s, %(errors)s, %(unique_key)s
)
"""
HOLD = "INSERT INTO unique_key (key, holder, expires_at) VALUES (%s, %s, %s)"
CLEAR = "DELETE FROM job; DELETE FROM move; DELETE FROM unique_key"


@pytest.fixture
def connection(backend, database_url):
    with psycopg.connect(
        database_url, autocommit=True, options="-c search_path=deeper -c TimeZone=UTC", row_factory=dict_row
    ) as connection:
        yield connection


def stored(facts):
    """Return a row with these facts."""
    job_id = new_id()
    key = None if facts["hold"] == "none" else f"key of {job_id}"
    errors = [f'[{number},"2020-01-01T00:00:00Z",{{}}]' for number in range(facts["errors"])]
    return {**facts, "id": job_id, "unique_key": key, "errors": errors or None}


def insert(connection, rows):
    connection.execute(CLEAR)
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, rows)
        held = [row for row in rows if row["unique_key"] is not None]
        cursor.executemany(
            HOLD,
            [(row["unique_key"], row["id"], NOW + HOUR if row["hold"] == "for a period" else None) for row in held],
        )


def rows_after(connection):
    return {str(row["id"]): row for row in connection.execute("SELECT * FROM job")}


def to_settlement(job_id, fields):
    given = {key: value for key, value in fields.items() if key not in {"mark", "result"}}
    if fields["end"] is End.COMPLETE:
        given |= {"error": None, "result": fields["result"]}
    elif fields["mark"] is not None:
        given[fields["mark"]] = True
    return Settlement(id=job_id, token=TOKEN, **given)


def expected(row, settlement, change):
    """Return the columns of a row after a settlement, as the kernel decides them."""
    code = CODES[change.state]
    marks = {name: row[name] for name in ("unknown_since", "unfit_since", "is_quarantined")}
    if change.clears_marks:
        marks = dict.fromkeys(marks)
    if change.mark is Mark.QUARANTINED:
        marks["is_quarantined"] = True
    elif change.mark is not None:
        name = "unknown_since" if change.mark is Mark.TASK_UNKNOWN else "unfit_since"
        marks[name] = marks[name] or NOW
    errors = row["errors"] or []
    if change.keeps_error and settlement.error is not None:
        entry = f'[{row["attempt"]},"{NOW:%Y-%m-%dT%H:%M:%S.%fZ}",{msgspec.json.encode(ERROR).decode()}]'
        errors = [*errors, entry][-MAX_KEPT_ERRORS:]
    ran_for = timedelta(0) if settlement.end is End.COMPLETE and settlement.ran_for is None else settlement.ran_for
    return marks | {
        "state": code,
        "attempt": change.attempt_after(row["attempt"]),
        "scheduled_at": later(NOW, settlement.delay) if change.is_put_off else row["scheduled_at"],
        "finished_at": NOW if change.finishes else None,
        "attempted_at": row["attempted_at"] if ran_for is None else NOW - ran_for,
        "token": None if change.drops_token else row["token"],
        "led_to": None if change.state is State.COMPLETED else code,
        "cancel_requested": row["cancel_requested"],
        "errors": errors or None,
        "result": settlement.result,
        "unique_key": row["unique_key"],
    }


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FACTS, SETTLED), min_size=1, max_size=12))
def test_a_settlement_changes_a_row_as_the_kernel_decides(connection, drawn):
    rows = [stored(facts) for facts, _ in drawn]
    sent = [to_settlement(row["id"], fields) for row, (_, fields) in zip(rows, drawn, strict=True)]
    insert(connection, rows)
    sent.sort(key=lambda one: one.id)
    by_id = {row["id"]: row for row in rows}

    statement = settling.SETTLE.format(schema="deeper")
    values = settling.values_of(sent, now=NOW.isoformat())
    answered = [(row["place"], row["state"]) for row in connection.execute(statement, values)]

    after = rows_after(connection)
    answers, moves, held = [], Counter(), set()
    for place, one in enumerate(sent, start=1):
        row = by_id[one.id]
        is_held = row["unique_key"] is not None
        if row["state"] == CODES[State.RUNNING] and row["token"] == TOKEN:
            change = after_settlement(one, is_cancel_requested=row["cancel_requested"] is not None)
            wanted = expected(row, one, change)
            answers.append((place, wanted["state"]))
            moves[row["queue"], CODES[State.RUNNING], wanted["state"], bucket_of(NOW)] += 1
            is_held = is_held and not (change.releases_key and row["hold"] == "until the end")
        else:
            wanted = {name: row[name] for name in row if name not in {"id", "hold"}}
            if row["token"] == TOKEN:
                answers.append((place, row["led_to"] or row["state"]))
        if is_held:
            held.add(one.id)
        assert {name: after[one.id][name] for name in wanted} == wanted
    # An accepted place may come twice.
    assert set(answered) == set(answers)
    counted = connection.execute(
        "SELECT queue, before, after, bucket, sum(count) AS count FROM move GROUP BY 1, 2, 3, 4"
    )
    assert {(row["queue"], row["before"], row["after"], row["bucket"]): row["count"] for row in counted} == moves
    assert {str(row["holder"]) for row in connection.execute("SELECT holder FROM unique_key")} == held


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FACTS, min_size=1, max_size=12), MOMENTS)
def test_a_promotion_changes_rows_as_the_kernel_decides(connection, drawn, now):
    rows = [stored(facts) for facts in drawn]
    insert(connection, rows)

    statement = maintenance.PROMOTE.format(schema="deeper")
    answered = connection.execute(statement, {"limit": "500", "now": now.isoformat()}).fetchall()

    after = rows_after(connection)
    due = {row["id"] for row in rows if STATES[row["state"]] in AWAITS_ITS_TIME and row["scheduled_at"] <= now}
    for row in rows:
        wanted = {name: row[name] for name in row if name not in {"id", "hold"}}
        if row["id"] in due:
            wanted["state"] = CODES[PROMOTION.state]
        assert {name: after[row["id"]][name] for name in wanted} == wanted
    promoted = Counter(row["queue"] for row in rows if row["id"] in due)
    assert {row["queue"]: row["count"] for row in answered if row["queue"] is not None} == promoted


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive
def test_a_moment_lies_in_the_same_bucket_for_sql_and_python(connection, moment):
    [row] = connection.execute("SELECT bucket_of(%s::timestamptz) AS bucket", [moment.isoformat()])
    assert row["bucket"] == bucket_of(moment)


# all other changes

RESCUES = [
    after_rescue(attempt=attempt, max_attempts=2, has_started=started, is_cancel_requested=cancel, is_trusted=trusted)
    for attempt, started, cancel, trusted in product((1, 2), *[(True, False)] * 3)
]
CHANGES = [
    *((change, State.RUNNING) for change in [*RESCUES, CANCEL_REQUEST]),
    *((change, before) for change in (CANCELLATION, EXPIRY) for before in (State.PENDING, State.RETRYABLE)),
    *((MANUAL_RETRY, before) for before in (State.FAILED, State.CANCELLED)),
]


async def test_every_change_of_the_kernel_is_written_as_it_says(backend, connection):
    facts = {
        "queue": "default",
        "attempt": 1,
        "token": TOKEN,
        "led_to": 5,
        "scheduled_at": NOW,
        "attempted_at": NOW,
        "unknown_since": NOW,
        "unfit_since": NOW,
        "is_quarantined": None,
        "cancel_requested": None,
        "errors": 1,
        "hold": "until the end",
    }
    rows = [stored({**facts, "state": CODES[before]}) for _, before in CHANGES]
    insert(connection, rows)
    given = [
        transitions.Transition(row["id"], row["queue"], row["state"], row["unique_key"], change, max_attempts=7)
        for row, (change, _) in zip(rows, CHANGES, strict=True)
    ]
    now = NOW + HOUR

    await backend._run(
        partial(transitions.write, transitions=given, now=now.isoformat(), error=ERROR, cancel_reason="enough")
    )

    after = rows_after(connection)
    for row, (change, _) in zip(rows, CHANGES, strict=True):
        kept = {name: row[name] for name in ("unknown_since", "unfit_since", "scheduled_at")}
        wanted = {
            "state": CODES[change.state],
            "attempt": change.attempt_after(1),
            "max_attempts": 7,
            "finished_at": now if change.finishes else None,
            "token": None if change.drops_token else TOKEN,
            "is_quarantined": True if change.mark is Mark.QUARANTINED else None,
            "cancel_requested": None if change.starts_anew else "enough",
            **({"unknown_since": None, "unfit_since": None, "scheduled_at": now} if change.starts_anew else kept),
        }
        assert {name: after[row["id"]][name] for name in wanted} == wanted
        assert len(after[row["id"]]["errors"]) == 1 + change.keeps_error
    held = {str(row["holder"]) for row in connection.execute("SELECT holder FROM unique_key")}
    assert held == {row["id"] for row, (change, _) in zip(rows, CHANGES, strict=True) if not change.is_end}


LOG_ENDS = """
CREATE TABLE ended (id uuid, state smallint, ended_at timestamptz);
CREATE OR REPLACE FUNCTION jobs_ended(_ids uuid[], _states smallint[], _keys text[], _moment timestamptz) RETURNS void
LANGUAGE sql AS 'INSERT INTO deeper.ended SELECT id, state, _moment FROM unnest(_ids, _states) AS job (id, state)'
"""


async def test_every_end_of_a_job_passes_one_function(backend, connection):
    connection.execute(LOG_ENDS)
    ends = {}
    worker, node = await join(backend), await join(backend)
    for end in (End.COMPLETE, End.FAIL, End.DISCARD, End.CANCEL):
        job = await put_running(backend, worker)
        [settled] = await settle(backend, [job], end)
        ends[job.id] = settled.state
    ends[await put(backend)] = State.CANCELLED
    await backend.cancel(only(*list(ends)[-1:]), reason="enough", now=NOW)
    ends[await put(backend, expires_in=HOUR)] = State.FAILED
    await backend.expire(now=NOW + HOUR)
    lost, cancelled = [await put_running(backend, node, max_attempts=1) for _ in range(2)]
    await backend.cancel(only(cancelled.id), reason="enough", now=NOW)
    await backend.rescue(node, beat=0, now=NOW)
    ends |= {lost.id: State.DISCARDED, cancelled.id: State.CANCELLED}
    ends[await put(backend)] = None
    await backend.delete(only(*list(ends)[-1:]))
    transaction = await backend.begin(is_async=True)
    job = await put_running(backend, worker)
    await transaction.complete(Settlement(id=job.id, token=job.token, end=End.COMPLETE))
    ends[job.id] = State.COMPLETED
    others = "SELECT ended.id FROM ended JOIN job USING (id) WHERE ended_at <> finished_at"
    assert connection.execute(others).fetchall() == []

    # Neither the deletion of an ended job nor an attempt that is followed by another is an end.
    await backend.delete(only(job.id))
    await settle(backend, [await put_running(backend, worker)], End.RETRY)

    logged = connection.execute("SELECT id, state FROM ended").fetchall()
    assert sorted((str(row["id"]), row["state"]) for row in logged) == sorted(
        (job_id, None if state is None else CODES[state]) for job_id, state in ends.items()
    )
