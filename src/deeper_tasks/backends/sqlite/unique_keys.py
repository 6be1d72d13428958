"""The unique keys: which job holds which, in a table of their own, so that no change of a state can fail by one."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.backends.protocol import MAX_BATCH
from deeper_tasks.backends.sqlite.codec import later, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.unique import Unique

Held = tuple[str, JobId]
"""A key, and the job that may hold it."""

TAKE = """
INSERT INTO deeper_unique_key (key, holder, expires_at) VALUES (:key, :holder, :expires_at)
ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE expires_at <= :now
"""
# An expression: a caller's connection may have a converter for columns of type TEXT.
SELECT_HOLDER = "SELECT holder || '' FROM deeper_unique_key WHERE key = ?"
RELEASE = """
DELETE FROM deeper_unique_key
WHERE expires_at IS NULL
    AND key IN (SELECT json_extract(value, '$[0]') FROM json_each(:batch))
    AND holder IN (SELECT json_extract(value, '$[1]') FROM json_each(:batch))
"""
FREE = """
DELETE FROM deeper_unique_key
WHERE key IN (SELECT json_extract(value, '$[0]') FROM json_each(:batch))
    AND holder IN (SELECT json_extract(value, '$[1]') FROM json_each(:batch))
"""
PRUNE = """
DELETE FROM deeper_unique_key
WHERE key IN (SELECT key FROM deeper_unique_key WHERE expires_at <= :now LIMIT :limit)
"""


def take(connection: Statements, unique: Unique, holder: JobId, *, now: int) -> JobId:
    """Take a key for a job if the key is free or has expired; returns the job that holds it now."""
    expires_at = None if unique.period is None else later(now, unique.period)
    connection.execute(TAKE, {"key": unique.key, "holder": holder, "expires_at": expires_at, "now": now})
    return JobId(connection.execute(SELECT_HOLDER, (unique.key,)).fetchone()[0])


def release(connection: Statements, held: Sequence[Held]) -> None:
    """Free the keys that were held until their job's end."""
    if held:
        connection.execute(RELEASE, {"batch": to_json(held)})


def free(connection: Statements, held: Sequence[Held]) -> None:
    """Free the keys, also those that are held for a period."""
    if held:
        connection.execute(FREE, {"batch": to_json(held)})


def prune(connection: Statements, *, now: int) -> int:
    """Delete a batch of keys that have expired; returns how many."""
    return connection.execute(PRUNE, {"now": now, "limit": MAX_BATCH}).rowcount
