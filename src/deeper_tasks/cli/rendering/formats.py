"""Formats: counts, shares, sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deeper_tasks.manager import Overview

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def jobs(count: int) -> str:
    """Return a number of jobs: `1 job`, `2,000 jobs`."""
    return f"{count:,} {'job' if count == 1 else 'jobs'}"


def share(fraction: float | None) -> str:
    """Return a share in per cent, such as `2.5 %`; a hyphen for None."""
    return "-" if fraction is None else f"{100 * fraction:.3g} %"


def size(count: float) -> str:
    """Return a number of bytes in its fitting unit: `1.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 - units of bytes
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def safe(text: object) -> str:
    """Return a text without control characters: a job's text could rewrite the terminal with them."""
    whole = str(text)
    return (
        whole
        if whole.isprintable()
        else "".join(each if each.isprintable() or each in "\n\t" else "�" for each in whole)
    )


def first_line(text: object) -> str:
    """Return the first line of a text, with an ellipsis if there are more."""
    first, *more = safe(text).strip().splitlines() or [""]
    return f"{first} …" if more else first


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def is_past(moment: datetime) -> bool:
    """Whether a time has passed by this machine's clock."""
    return moment < now()


def local_time(moment: datetime) -> str:
    """Return a time in the local zone, with its distance from now."""
    return f"{_localized(moment):%Y-%m-%d %H:%M:%S %Z} ({ago(moment)})"


def local_clock(moment: datetime) -> str:
    """Return a time of today in the local zone."""
    return f"{_localized(moment):%H:%M:%S}"


def _localized(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except (OverflowError, ValueError):
        # The local time would lie beyond the first or last day that a datetime can hold.
        return moment


def ago(moment: datetime) -> str:
    """Return the distance of a time from now by this machine's clock: `5 s ago`, `in 3 h`."""
    away = moment - now()
    if abs(away) < timedelta(seconds=1):
        return "now"
    size = abs(away.total_seconds())
    seconds, unit = next((each for each in _UNITS if size >= 1.5 * each[0]), (1, "s"))
    text = f"{round(size / seconds)} {unit}"
    return f"in {text}" if away > timedelta(0) else f"{text} ago"


def failed_today(overview: Overview) -> str:
    """Return how many jobs failed today, with the error rates of the day and of the last hour if any job has ended."""
    text = f"failed today {sum(queue.failed_today for queue in overview.queues):,}"
    if overview.error_rate_today is None:
        return text
    return f"{text} ({share(overview.error_rate_today)}, last hour {share(overview.error_rate_last_hour)})"
