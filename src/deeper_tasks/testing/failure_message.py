"""A failure message: why an assertion failed, and the jobs that came nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.domain.job import Job
from deeper_tasks.testing.expectation import Expectation

_MOST_SHOWN = 3
_NOTHING = "nothing"


def complain(expectation: Expectation, *, jobs: Sequence[Job], matches: Sequence[Job], count: int | None) -> str:
    """Return the conditions, the jobs that fit, and the nearest other jobs, field by field."""
    lines = [_headline(len(matches), count), *_wanted(expectation)]
    if matches:
        lines.append("found:")
        lines += [line for job in matches[:_MOST_SHOWN] for line in _job(expectation, job)]
        lines += _rest(len(matches) - _MOST_SHOWN)
    if count is None or len(matches) < count:
        lines += _nearest(expectation, [job for job in jobs if job not in matches], is_other=bool(matches))
    return "\n".join(lines)


def _headline(found: int, count: int | None) -> str:
    if count is None or (count and not found):
        return "no job like this was enqueued:"
    if count == 0:
        return f"{_jobs(found)} like this {'was' if found == 1 else 'were'} enqueued, and none should be:"
    return f"{_jobs(found)} like this {'was' if found == 1 else 'were'} enqueued, not {count}:"


def _wanted(expectation: Expectation) -> list[str]:
    return [f"    {check.field:<14}{check.wanted}" for check in expectation.checks] or ["    (any job)"]


def _nearest(expectation: Expectation, jobs: Sequence[Job], *, is_other: bool) -> list[str]:
    if not jobs:
        return [] if is_other else ["the store has no job at all"]
    ranked = sorted(jobs, key=lambda job: _distance(expectation, job))
    lines = [f"{_jobs(len(jobs))} {'of another kind' if is_other else 'in the store'}, the nearest first:"]
    lines += [line for job in ranked[:_MOST_SHOWN] for line in _job(expectation, job)]
    return lines + _rest(len(ranked) - _MOST_SHOWN)


def _job(expectation: Expectation, job: Job) -> list[str]:
    lines = [f"  {job.id} ({job.state})"]
    for check, finding in zip(expectation.checks, expectation.findings(job), strict=True):
        if finding.fits:
            lines.append(f"    {finding.field:<14}{finding.found}")
        else:
            lines.append(f"  ! {finding.field:<14}{finding.found or _NOTHING}   (wanted: {check.wanted or _NOTHING})")
    return lines


def _rest(count: int) -> list[str]:
    return [f"  and {count} more"] if count > 0 else []


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _distance(expectation: Expectation, job: Job) -> tuple[bool, int]:
    missed = [finding.field for finding in expectation.findings(job) if not finding.fits]
    # Another task is further off than any number of other fields.
    return ("task" in missed, len(missed))
