"""
Consume: register, settle, report, beat. What takes jobs is in `claiming.py`.

Rows go in and come out as one JSON document a statement: stepping through
rows lets go of the interpreter's lock at each, and taking it back from a busy
event loop costs milliseconds (decision 0001).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from deeper_tasks.backends.codes import CODES, STATES, mark_of
from deeper_tasks.backends.protocol import Beat, Node
from deeper_tasks.backends.sqlite import counters, ends, unique_keys
from deeper_tasks.backends.sqlite.codec import duration, later, plain, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.backends.sqlite.ends import JobEnd, error_document
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES
from deeper_tasks.domain.settlement import UNCOUNTED, End, Report, Settled, Settlement, state_after
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError

_COMPLETE, _COMPLETED_STATE = End.COMPLETE, State.COMPLETED
_PENDING, _RUNNING, _COMPLETED = CODES[State.PENDING], CODES[State.RUNNING], CODES[State.COMPLETED]

REGISTER = """
INSERT INTO deeper_node (id, document, registered_at, beat_at) VALUES (:node, :document, :now, :now)
ON CONFLICT (id) DO NOTHING
"""
TELL_TASKS = "INSERT OR REPLACE INTO deeper_node_tasks (node, tasks) VALUES (:node, :tasks)"
TELL_NO_TASKS = "DELETE FROM deeper_node_tasks WHERE node = :node"
DEREGISTER = """
DELETE FROM deeper_node
WHERE id = :node AND NOT EXISTS (SELECT 1 FROM deeper_job WHERE state = 4 AND node = :node)
"""
SELECT_SETTLED = """
SELECT json_group_array(json_array(
    sent.key, job.rowid, job.queue,
    CASE job.state WHEN 4 THEN NULL WHEN 6 THEN 6 ELSE coalesce(job.led_to, job.state) END,
    job.attempt, job.unique_key, job.cancel_requested IS NOT NULL
))
FROM json_each(?) AS sent
JOIN deeper_job AS job ON job.id = json_extract(sent.value, '$[0]')
WHERE job.token = json_extract(sent.value, '$[1]')
"""
COMPLETE = """
UPDATE deeper_job SET
    state = 6,
    finished_at = :now,
    attempted_at = :now - json_extract(sent.value, '$[1]'),
    result = json_extract(sent.value, '$[2]'),
    result_omitted = json_extract(sent.value, '$[3]')
FROM json_each(:batch) AS sent
WHERE deeper_job.rowid = json_extract(sent.value, '$[0]')
"""
COMPLETE_WITHOUT_RESULT = """
UPDATE deeper_job SET state = 6, finished_at = :now, attempted_at = :now - sent.value
FROM json_each(:batch) AS sent
WHERE deeper_job.rowid = CAST(sent.key AS INTEGER)
"""
REPORT = f"""
UPDATE deeper_job SET
    attempted_at = CASE WHEN :has_started THEN coalesce(attempted_at, :now) ELSE attempted_at END,
    progress = coalesce(:progress, progress),
    log = CASE WHEN :lines IS NULL THEN log ELSE (
        SELECT json_group_array(line) FROM (
            SELECT line FROM (
                SELECT * FROM (
                    SELECT 0 AS part, key, value AS line
                    FROM json_each(CASE
                        WHEN NOT json_valid(log) THEN '[]' WHEN json_type(log) = 'array' THEN log ELSE '[]'
                    END)
                    UNION ALL SELECT 1, key, value FROM json_each(:lines)
                )
                ORDER BY part DESC, key DESC LIMIT {MAX_KEPT_LOG_LINES}
            )
            ORDER BY part, key
        )
    ) END
WHERE id = :id AND token = :token AND state = 4
"""
BEAT = """
UPDATE deeper_node SET beat = iif(beat < 9223372036854775807, beat + 1, 0), busy = :busy, beat_at = :now
WHERE id = :node AND NOT is_lost
"""
SELECT_HELD = """
SELECT json_group_array(json_array(id, token, cancel_requested)) FROM deeper_job WHERE state = 4 AND node = ?
"""
SELECT_PAUSED = "SELECT name FROM deeper_queue WHERE paused_at IS NOT NULL"


class _Found(Struct, frozen=True, array_like=True, gc=False):
    """
    A job whose token matches a settlement's: where that stands in the call, and what the job is now.

    `led_to` is what an earlier settle with this token led to; None: the attempt runs.
    """

    place: int
    rowid: int
    queue: str
    led_to: int | None
    attempt: int
    unique_key: str | None
    is_cancel_requested: bool


_found = msgspec.json.Decoder(list[_Found], strict=False)
_held = msgspec.json.Decoder(list[tuple[JobId, ClaimToken | None, str | None]])


def register(connection: sqlite3.Connection, node: Node, *, tasks: frozenset[str] | None, now: int) -> None:
    """Make a worker known, and its tasks; see `Backend.register`."""
    connection.execute(REGISTER, {"node": node.id, "document": to_json(node), "now": now})
    if tasks is None:
        connection.execute(TELL_NO_TASKS, {"node": node.id})
    else:
        connection.execute(TELL_TASKS, {"node": node.id, "tasks": to_json(sorted(map(plain, tasks)))})


def deregister(connection: sqlite3.Connection, node: NodeId) -> None:
    """Remove a worker that holds nothing; see `Backend.deregister`."""
    connection.execute(DEREGISTER, {"node": node})


def settle(connection: Statements, settlements: Sequence[Settlement], *, now: int) -> list[Settled]:
    """Write the ends of attempts; see `Backend.settle`."""
    sent = to_json([(settlement.id, settlement.token) for settlement in settlements])
    found = _found.decode(connection.execute(SELECT_SETTLED, (sent,)).fetchone()[0])
    settled: list[Settled] = []
    completed: list[tuple[int, int, str | None, str | None]] = []
    completed_without_result: dict[int, int] = {}
    ended: list[JobEnd] = []
    released: list[tuple[str, str]] = []
    moves: Counter[counters.Move] = Counter()
    states: dict[int, State] = {}
    for job in found:
        settlement = settlements[job.place]
        if job.led_to is not None:
            if job.led_to in STATES:
                settled.append(Settled(id=settlement.id, state=STATES[job.led_to]))
            continue
        if job.rowid in states:
            settled.append(Settled(id=settlement.id, state=states[job.rowid]))
            continue
        # A completion leads to one state only, and nearly all ends are one.
        state = (
            _COMPLETED_STATE
            if settlement.end is _COMPLETE
            else state_after(settlement.end, delay=settlement.delay, is_cancel_requested=job.is_cancel_requested)
        )
        states[job.rowid] = state
        code = CODES[state]
        if code == _COMPLETED:
            ran_for = 0 if settlement.ran_for is None else duration(settlement.ran_for)
            if settlement.result is None and settlement.result_omitted is None:
                completed_without_result[job.rowid] = ran_for
            else:
                omitted = None if settlement.result_omitted is None else plain(settlement.result_omitted)
                completed.append((job.rowid, ran_for, settlement.result, omitted))
        else:
            ended.append(_ended(job, settlement, state, now))
        if job.unique_key is not None and state.is_terminal:
            released.append((job.unique_key, settlement.id))
        moves[job.queue, _RUNNING, code] += 1
        settled.append(Settled(id=settlement.id, state=state))
    if completed_without_result:
        connection.execute(COMPLETE_WITHOUT_RESULT, {"now": now, "batch": to_json(completed_without_result)})
    if completed:
        connection.execute(COMPLETE, {"now": now, "batch": to_json(completed)})
    ends.write(connection, ended, now=now)
    unique_keys.release(connection, released)
    counters.count_moves(connection, moves, now=now)
    return settled


def _ended(job: _Found, settlement: Settlement, state: State, now: int) -> JobEnd:
    is_put_off = not state.is_terminal and (settlement.end is not End.RELEASE or bool(settlement.delay))
    is_uncounted = settlement.end in UNCOUNTED and not state.is_terminal
    return JobEnd(
        rowid=job.rowid,
        state=CODES[state],
        attempts_taken_back=1 if is_uncounted else 0,
        finished_at=now if state.is_terminal else None,
        scheduled_at=later(now, settlement.delay) if is_put_off else None,
        ran_for=None if settlement.ran_for is None else duration(settlement.ran_for),
        error=None if settlement.error is None else error_document(settlement.error, attempt=job.attempt, now=now),
        mark=mark_of(settlement),
        led_to=CODES[state],
    )


def report(connection: Statements, reports: Sequence[Report], *, now: int) -> list[JobId]:
    """Write news of running attempts; see `Backend.report`."""
    held = []
    for news in reports:
        progress = None if news.progress is None else to_json(news.progress)
        lines = to_json([plain(line) for line in news.lines]) if news.lines else None
        values = {
            "id": news.id,
            "token": news.token,
            "has_started": news.has_started,
            "now": now,
            "progress": progress,
            "lines": lines,
        }
        cursor = connection.execute(REPORT, values)
        if cursor.rowcount:
            held.append(news.id)
    return held


def beat(connection: sqlite3.Connection, node: NodeId, *, busy: int, now: int) -> Beat:
    """Count a sign of life; see `Backend.beat`."""
    if connection.execute(BEAT, {"node": node, "busy": busy, "now": now}).rowcount == 0:
        raise NodeLostError(f"the node {node!r} is not registered or was taken for dead")
    held = _held.decode(connection.execute(SELECT_HELD, (node,)).fetchone()[0])
    return Beat(
        cancels={job_id: reason for job_id, _, reason in held if reason is not None},
        held={job_id: token for job_id, token, _ in held if token is not None},
        paused=frozenset(row[0] for row in connection.execute(SELECT_PAUSED)),
    )
