"""The checks: whether everything happened, by what lies in the mailbox, the files, the rows and the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from deeper_tasks import RecurringTask, State, Statistics, TaskStatus
from demo.mail_server import read_mailbox
from demo.product_api import read_record
from demo.session import BROKEN_PRODUCT, KEPT_DAYS, OLD_SESSIONS, RECENT_SESSIONS, DemoSession
from demo.video import CLIP_SECONDS, FRAMES_PER_SECOND, FfmpegError, probe

_INSIDE = {"mp4": "mov, h264, aac", "webm": "matroska, vp9, opus"}
_JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold: what was expected, and what was found."""

    use_case: str
    what: str
    expected: str
    found: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """
    The jobs that the demo asked for, and their ends as the manager reports them.

    `mails`, `videos` and `products` tell by job what it was for; `interrupted`
    names the jobs that certainly ran in the worker when it was killed.
    """

    session: DemoSession
    mails: Mapping[str, str]
    videos: Mapping[str, str]
    products: Mapping[str, int]
    clean_up: str
    recurring: RecurringTask
    dead_letter: TaskStatus
    interrupted: frozenset[str]
    statuses: Mapping[str, TaskStatus]
    statistics: Statistics
    sync_attempts: int
    sync_delay_seconds: float

    def was_lost(self, job_id: str) -> bool:
        """Whether a worker died while it held this job for a run."""
        status = self.statuses.get(job_id)
        return status is not None and any(error.kind == "WorkerLost" for error in status.errors)


def examine(evidence: Evidence) -> list[Check]:
    """Return all checks; the demo succeeds if every one holds."""
    return [
        *_mails(evidence),
        *_videos(evidence),
        *_clean_up(evidence),
        *_products(evidence),
        *_dead_letter(evidence),
        *_kill(evidence),
        *_manager(evidence),
    ]


def _mails(evidence: Evidence) -> Iterator[Check]:
    name, letters = "welcome mails", read_mailbox(evidence.session.mailbox)
    wanted, reached = set(evidence.mails.values()), {letter.recipient for letter in letters}
    yield _equal(name, "customers who have their mail", len(wanted), len(reached & wanted))
    yield _equal(name, "mails that no job explains", 0, len(_strays(evidence)))
    copies = Counter(letter.job_id for letter in letters)
    twice = {job_id for job_id, count in copies.items() if count > 1}
    unexplained = {job_id for job_id in twice if not evidence.was_lost(job_id)}
    yield Check(
        use_case=name,
        what="mails sent twice",
        expected="by interrupted jobs only",
        found=f"{len(twice)}, {len(unexplained)} of them by others",
        holds=not unexplained and len(letters) - len(copies) <= len(twice),
    )


def _strays(evidence: Evidence) -> list[str]:
    letters = read_mailbox(evidence.session.mailbox)
    return [letter.job_id for letter in letters if evidence.mails.get(letter.job_id) != letter.recipient]


def _videos(evidence: Evidence) -> Iterator[Check]:
    folder = evidence.session.site.videos
    frames = CLIP_SECONDS * FRAMES_PER_SECOND
    for job_id, kind in evidence.videos.items():
        status = evidence.statuses[job_id]
        try:
            found = str(probe(folder / f"{status.result}"))
        except FfmpegError as error:
            found = str(error)
        yield _equal("video", f"decoded {kind} file", f"{_INSIDE[kind]}, {frames} frames", found)
        progress = "none" if status.progress is None else f"{status.progress.fraction:.0%}"
        yield _equal("video", f"progress of the {kind} job", "100%", progress)
    yield _equal("video", "files left half-written", 0, len(list(folder.glob("*.part"))))


def _clean_up(evidence: Evidence) -> Iterator[Check]:
    name, shop = "nightly clean-up", evidence.session.shop
    left = shop.count_sessions()
    old = shop.count_sessions(before=datetime.now(UTC) - timedelta(days=KEPT_DAYS))
    yield _equal(name, "sessions deleted", OLD_SESSIONS, evidence.statuses[evidence.clean_up].result)
    yield _equal(name, "sessions left, and old ones", f"{RECENT_SESSIONS}, 0", f"{left}, {old}")
    zone = evidence.recurring.timezone
    runs = [run.astimezone(ZoneInfo(zone)) for run in evidence.recurring.next_runs]
    days = [(later.date() - earlier.date()).days for earlier, later in pairwise(runs)]
    yield Check(
        use_case=name,
        what=f"next runs, {zone}",
        expected="each day at 03:00",
        found=", ".join(f"{run:%a %H:%M}" for run in runs),
        holds=bool(days) and set(days) == {1} and all(f"{run:%H:%M:%S}" == "03:00:00" for run in runs),
    )


def _products(evidence: Evidence) -> Iterator[Check]:
    name, session = "product sync", evidence.session
    wanted, got = session.catalogue.products, session.shop.products()
    right = sum(got.get(product_id) == product for product_id, product in wanted.items())
    yield _equal(name, "products as the API has them", len(wanted), right)
    sound = [(job_id, product_id) for job_id, product_id in evidence.products.items() if product_id != BROKEN_PRODUCT]
    planned = sum(session.catalogue.failures(product_id) for _, product_id in sound)
    records = {job_id: read_record(session.record, product_id) for job_id, product_id in sound}
    unavailable = sum(record.unavailable for record in records.values())
    yield _equal(name, "503 to the other products", planned, unavailable)
    # A worker may be killed between the API's answer and the shop's row: then it is asked once more.
    strange = [
        job_id
        for job_id, record in records.items()
        if not 1 <= record.delivered <= 1 + evidence.was_lost(job_id)
    ]  # fmt: skip
    yield _equal(name, "products asked for too often", 0, len(strange))


def _dead_letter(evidence: Evidence) -> Iterator[Check]:
    name, dead = "dead letter", evidence.dead_letter
    record = read_record(evidence.session.record, BROKEN_PRODUCT)
    lost = sum(error.kind == "WorkerLost" for error in dead.errors)
    attempts = evidence.sync_attempts
    yield _equal(name, "the failing product's end", f"{State.DISCARDED}, {attempts} errors", _end_of(dead))
    yield Check(
        use_case=name,
        what="503 in the API's record",
        expected=f"{attempts}" if not lost else f"{attempts - lost} to {attempts}",
        found=f"{record.unavailable}",
        holds=attempts - lost <= record.unavailable <= attempts,
    )
    if not lost:
        yield _waits(evidence, record.asked_at[:attempts])
    status = evidence.statuses[dead.id]
    yield _equal(name, "after mending and a retry", State.COMPLETED, status.status)
    yield _equal(name, "requests that it took then", 1, record.delivered)


def _end_of(dead: TaskStatus) -> str:
    return f"{dead.status}, {len(dead.errors)} errors"


def _waits(evidence: Evidence, asked_at: Sequence[float]) -> Check:
    waits = [later - earlier for earlier, later in pairwise(asked_at)]
    least = [(1 - _JITTER) * evidence.sync_delay_seconds * 2**n for n in range(evidence.sync_attempts - 1)]
    return Check(
        use_case="dead letter",
        what="seconds between its attempts",
        expected="at least " + ", ".join(f"{wait:.1f}" for wait in least),
        found=", ".join(f"{wait:.1f}" for wait in waits),
        holds=len(waits) == len(least) and all(wait >= enough for wait, enough in zip(waits, least, strict=True)),
    )


def _kill(evidence: Evidence) -> Iterator[Check]:
    name = "killed worker"
    yield _equal(name, "how it ended", "-9", ", ".join(_ends(evidence, was_killed=True)))
    again = [job_id for job_id in evidence.interrupted if evidence.was_lost(job_id)]
    yield _equal(name, "jobs it held, run again", len(evidence.interrupted), len(again))
    done = [job_id for job_id in again if evidence.statuses[job_id].status is State.COMPLETED]
    yield _equal(name, "of these, completed", len(evidence.interrupted), len(done))
    yield _equal(
        name,
        "how the others ended",
        ", ".join("0" for _ in _ends(evidence, was_killed=False)),
        ", ".join(_ends(evidence, was_killed=False)),
    )


def _ends(evidence: Evidence, *, was_killed: bool) -> list[str]:
    return [f"{worker.exit_code}" for worker in evidence.session.crew.members if worker.was_killed is was_killed]


def _manager(evidence: Evidence) -> Iterator[Check]:
    name = "the manager"
    asked = {*evidence.mails, *evidence.videos, *evidence.products, evidence.clean_up}
    # At 03:00 in the zone of the clean-up its own time has come too.
    fired = {evidence.recurring.last_task_id} - {None}
    yield _equal(name, "jobs it lists", len(asked | fired), len(evidence.statuses))
    by_list = Counter(str(status.status) for status in evidence.statuses.values())
    yield _equal(name, "jobs by state, listed", _states({"completed": len(asked | fired)}), _states(by_list))
    by_count = {
        state.value: sum(getattr(queue, state.value) for queue in evidence.statistics.queues.values())
        for state in State
    }  # fmt: skip
    yield _equal(name, "jobs by state, counted", _states({"completed": len(asked | fired)}), _states(by_count))
    yield _equal(name, "workers it still knows", 0, evidence.statistics.workers_summary.workers)


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "none"


def _equal(use_case: str, what: str, expected: object, found: object) -> Check:
    return Check(
        use_case=use_case, what=what, expected=f"{expected}", found=f"{found}", holds=f"{expected}" == f"{found}"
    )
