"""A listing: a page of jobs in an order."""

from __future__ import annotations

from deeper_tasks.backends.postgres.codec import JOB_COLUMNS, moment_text, to_job
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.filters import where
from deeper_tasks.backends.protocol import Cursor, JobList, JobQuery


async def find(transaction: Transaction, query: JobQuery) -> JobList:
    """Return a page of jobs; see `Backend.find`."""
    condition, values = where(query.filter)
    key: str = query.sort_by.value
    [(total,)] = await transaction.rows(f"SELECT count(*) FROM job WHERE {condition}", values)
    op, d = ("<", "DESC") if query.is_descending else (">", "ASC")
    if query.after is not None:
        values |= {"av": moment_text(query.after.value), "aid": query.after.id}
        if query.after.value is None:
            condition += f" AND job.{key} IS NULL AND job.id {op} %(aid)s::uuid"
        else:
            condition += f" AND (job.{key} IS NULL OR (job.{key}, job.id) {op} (%(av)s::timestamptz, %(aid)s::uuid))"
    rows = await transaction.rows(
        f"SELECT {JOB_COLUMNS} FROM job WHERE {condition} ORDER BY job.{key} {d} NULLS LAST, job.id {d} "
        "LIMIT %(limit)s OFFSET %(offset)s",
        {**values, "limit": query.limit + 1, "offset": query.offset},
    )
    jobs = tuple(to_job(row) for row in rows[: query.limit])
    following = None
    if len(rows) > query.limit:
        following = Cursor(value=getattr(jobs[-1], key), id=jobs[-1].id)
    return JobList(jobs=jobs, total=total, total_is_exact=True, next=following)
