"""The unique keys: who holds which, apart from the jobs, so that no change of state can fail because of one."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.backends.postgres.codec import array, text_array
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.protocol import MAX_BATCH

RELEASE = """
DELETE FROM unique_key
USING unnest(%(keys)s::text[], %(holders)s::uuid[]) AS held (key, holder)
WHERE unique_key.key = held.key AND unique_key.holder = held.holder AND unique_key.expires_at IS NULL
"""
FREE = """
DELETE FROM unique_key
USING unnest(%(keys)s::text[], %(holders)s::uuid[]) AS held (key, holder)
WHERE unique_key.key = held.key AND unique_key.holder = held.holder
"""
TAKE_AGAIN = """
INSERT INTO unique_key (key, holder)
SELECT wanted.key, wanted.holder
FROM unnest(%(keys)s::text[], %(holders)s::uuid[]) WITH ORDINALITY AS wanted (key, holder, place)
ORDER BY wanted.key, wanted.place
ON CONFLICT (key) DO NOTHING
"""
SELECT_HOLDERS = """
SELECT unique_key.key, unique_key.holder::text
FROM unique_key
WHERE unique_key.key = ANY (%(keys)s::text[])
"""
DELETE_EXPIRED = """
DELETE FROM unique_key
WHERE key = ANY (%(keys)s::text[]) AND expires_at <= coalesce(%(now)s::timestamptz, now())
"""
PRUNE = """
DELETE FROM unique_key
WHERE key = ANY (ARRAY (
    SELECT key FROM unique_key
    WHERE expires_at IS NOT NULL AND expires_at <= coalesce(%(now)s::timestamptz, now())
    ORDER BY expires_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
"""

Held = tuple[str, str]
"""A key and the id of a job."""


async def release(transaction: Transaction, held: Sequence[Held]) -> None:
    """Let go of the keys, each with its holder, that were held until the job's end."""
    if held:
        await transaction.execute(RELEASE, _columns(sorted(held)))


async def free(transaction: Transaction, held: Sequence[Held]) -> None:
    """Let go of the keys, each with its holder, also of those held for a period."""
    if held:
        await transaction.execute(FREE, _columns(sorted(held)))


async def take_again(transaction: Transaction, wanted: Sequence[Held], *, now: str | None) -> frozenset[Held]:
    """Take keys that are free or have expired, each for its first job; returns those who hold theirs now."""
    keys = text_array(sorted({key for key, _ in wanted}))
    await transaction.execute(DELETE_EXPIRED, {"keys": keys, "now": now})
    await transaction.execute(TAKE_AGAIN, _columns(wanted))
    return frozenset((key, holder) for key, holder in await transaction.rows(SELECT_HOLDERS, {"keys": keys}))


async def prune(transaction: Transaction, *, now: str | None) -> int:
    """Delete a batch of keys that have expired; returns how many."""
    return await transaction.execute(PRUNE, {"now": now, "limit": MAX_BATCH})


def _columns(held: Sequence[Held]) -> dict[str, str]:
    return {"keys": text_array(key for key, _ in held), "holders": array(holder for _, holder in held)}
