"""
Consume: register, settle, report, beat. The claim is in `claiming.py`.

Rows go in and come out as one JSON document for each statement: a step to the next row releases the interpreter's
lock, and to take it back from a busy event loop costs milliseconds (decision 0001).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.hints import Hints, after_settle
from deeper_tasks.backends.protocol import Beat, Node
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.codec import duration, plain, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.backends.sqlite.row_changes import RowChange
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES
from deeper_tasks.domain.settlement import End, Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import after_settlement
from deeper_tasks.errors import NodeLostError

_COMPLETE, _COMPLETED_STATE = End.COMPLETE, State.COMPLETED
_RUNNING = CODES[State.RUNNING]

REGISTER = """
INSERT INTO deeper_node (id, document, registered_at, beat_at) VALUES (:node, :document, :now, :now)
ON CONFLICT (id) DO NOTHING
"""
PUT_TASKS = "INSERT OR REPLACE INTO deeper_node_tasks (node, tasks) VALUES (:node, :tasks)"
DELETE_TASKS = "DELETE FROM deeper_node_tasks WHERE node = :node"
DEREGISTER = """
DELETE FROM deeper_node
WHERE id = :node AND NOT EXISTS (SELECT 1 FROM deeper_job WHERE state = 4 AND node = :node)
"""
SELECT_SETTLED = """
SELECT json_group_array(json_array(
    sent.key, job.rowid, job.id, job.queue,
    CASE job.state WHEN 4 THEN NULL WHEN 6 THEN 6 ELSE coalesce(job.led_to, job.state) END,
    job.attempt, job.unique_key, job.cancel_requested IS NOT NULL
))
FROM json_each(?) AS sent
JOIN deeper_job AS job ON job.id = json_extract(sent.value, '$[0]')
WHERE job.token = json_extract(sent.value, '$[1]')
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


class _SentJob(Struct, frozen=True, array_like=True, gc=False):
    """
    A job whose token is that of a settlement: the settlement's place in the call, and the job as it is now.

    `led_to` is the state that an earlier settle with this token led to; None: the attempt runs.
    """

    place: int
    rowid: int
    id: JobId
    queue: str
    led_to: int | None
    attempt: int
    unique_key: str | None
    is_cancel_requested: bool

    @property
    def state(self) -> int:
        """The state that the settlement ends."""
        return _RUNNING


class Settling(NamedTuple):
    """The answer to settlements, and the hints to send after the commit."""

    settled: list[Settled]
    hints: Hints


_sent_jobs = msgspec.json.Decoder(list[_SentJob], strict=False)
_held = msgspec.json.Decoder(list[tuple[JobId, ClaimToken | None, str | None]])


def register(connection: sqlite3.Connection, node: Node, *, tasks: frozenset[str] | None, now: int) -> None:
    """Make a worker known, and its tasks; see `Backend.register`."""
    connection.execute(REGISTER, {"node": node.id, "document": to_json(node), "now": now})
    if tasks is None:
        connection.execute(DELETE_TASKS, {"node": node.id})
    else:
        connection.execute(PUT_TASKS, {"node": node.id, "tasks": to_json(sorted(map(plain, tasks)))})


def deregister(connection: sqlite3.Connection, node: NodeId) -> None:
    """Remove a worker that holds nothing; see `Backend.deregister`."""
    connection.execute(DEREGISTER, {"node": node})


def settle(connection: Statements, settlements: Sequence[Settlement], *, now: int) -> Settling:
    """Write the ends of attempts; see `Backend.settle`."""
    sent = to_json([(settlement.id, settlement.token) for settlement in settlements])
    jobs = _sent_jobs.decode(connection.execute(SELECT_SETTLED, (sent,)).fetchone()[0])
    settled: list[Settled] = []
    completed: list[_SentJob] = []
    without_result: dict[int, int] = {}
    with_result: list[transitions.Completion] = []
    changes: list[RowChange] = []
    states: dict[int, State] = {}
    for job in jobs:
        settlement = settlements[job.place]
        if job.led_to is not None:
            if job.led_to in STATES:
                settled.append(Settled(id=settlement.id, state=STATES[job.led_to]))
            continue
        if job.rowid in states:
            settled.append(Settled(id=settlement.id, state=states[job.rowid]))
            continue
        # A completion leads to one state only, and nearly all ends are one.
        if settlement.end is _COMPLETE:
            state = _COMPLETED_STATE
            completed.append(job)
            ran_for = 0 if settlement.ran_for is None else duration(settlement.ran_for)
            if settlement.result is None and settlement.result_omitted is None:
                without_result[job.rowid] = ran_for
            else:
                omitted = None if settlement.result_omitted is None else plain(settlement.result_omitted)
                with_result.append((job.rowid, ran_for, settlement.result, omitted))
        else:
            change = after_settlement(settlement, is_cancel_requested=job.is_cancel_requested)
            assert change.state is not None
            state = change.state
            changes.append(RowChange(job, change, settlement.delay, settlement.error, settlement.ran_for))
        states[job.rowid] = state
        settled.append(Settled(id=settlement.id, state=state))
    transitions.complete(connection, completed, without_result=without_result, with_result=with_result, now=now)
    transitions.change(connection, changes, now=now)
    hints = after_settle((one.job.queue, states[one.job.rowid], one.delay) for one in changes) if changes else []
    return Settling(settled, hints)


def report(connection: Statements, reports: Sequence[Report], *, now: int) -> list[JobId]:
    """Write the reports of running attempts; see `Backend.report`."""
    held = []
    for each in reports:
        progress = None if each.progress is None else to_json(each.progress)
        lines = to_json([plain(line) for line in each.lines]) if each.lines else None
        values = {
            "id": each.id,
            "token": each.token,
            "has_started": each.has_started,
            "now": now,
            "progress": progress,
            "lines": lines,
        }
        cursor = connection.execute(REPORT, values)
        if cursor.rowcount:
            held.append(each.id)
    return held


def beat(connection: sqlite3.Connection, node: NodeId, *, busy: int, now: int) -> Beat:
    """Count a beat; see `Backend.beat`."""
    if connection.execute(BEAT, {"node": node, "busy": busy, "now": now}).rowcount == 0:
        raise NodeLostError(f"the node {node!r} is not registered or was taken for dead")
    held = _held.decode(connection.execute(SELECT_HELD, (node,)).fetchone()[0])
    return Beat(
        cancels={job_id: reason for job_id, _, reason in held if reason is not None},
        held={job_id: token for job_id, token, _ in held if token is not None},
        paused=frozenset(row[0] for row in connection.execute(SELECT_PAUSED)),
    )
