"""The story: what happens in the demo, in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from zoneinfo import ZoneInfo

from deeper_tasks import RecurringTask, State, TaskId, TaskStatus
from demo import product_api, video
from demo.checks import Check, Evidence, examine
from demo.screen import Screen, Snapshot
from demo.session import BROKEN_PRODUCT, CLIP, KEPT_DAYS, PRODUCTS, DemoSession
from demo.tasks import (
    SYNC_ATTEMPTS,
    SYNC_DELAY_SECONDS,
    delete_old_sessions,
    manager,
    send_welcome,
    sync_product,
    transcode_video,
)
from demo.workers import WorkerProcess

MAILS = 200
WORKERS = 3
NIGHTLY, ZONE = "nightly clean-up", "America/Sao_Paulo"

_T = TypeVar("_T")
_LOOK_SECONDS = 0.05
_REFRESH_SECONDS = 0.2
_PATIENCE_SECONDS = 120
_PAGE = 500
_EXPECTED = {"emails": MAILS, "media": 2, "maintenance": 1, "sync": PRODUCTS}
_OPEN = (State.SCHEDULED, State.BLOCKED, State.PENDING, State.RUNNING, State.RETRYABLE)


class StoryError(Exception):
    """The story cannot go on; the message says why."""


class Story:
    """Enqueues the work of the four use cases, kills a worker, mends the API, and looks at what came of it."""

    def __init__(self, session: DemoSession, screen: Screen) -> None:
        self._session = session
        self._screen = screen
        self._mails: dict[str, str] = {}
        self._videos: dict[str, str] = {}
        self._products: dict[str, int] = {}
        self._clean_up = TaskId("", is_new=False)

    async def run(self) -> list[Check]:
        """Return the checks at the end. Raises StoryError."""
        say, session = self._screen.say, self._session
        say(f"an SMTP server at port {session.site.smtp_port}, a product API at {session.site.api_url}")
        async with manager, self._watching():
            self._start_workers()
            await self._enqueue()
            recurring = await self._register()
            interrupted = await self._kill_a_worker()
            dead_letter = await self._see_dead_letter()
            await self._mend_and_retry(dead_letter)
            await session.crew.stop()
            say("the workers were asked to stop, and have; now everything is checked")
            evidence = Evidence(
                session=session,
                mails=self._mails,
                videos=self._videos,
                products=self._products,
                clean_up=self._clean_up,
                recurring=recurring,
                dead_letter=dead_letter,
                interrupted=interrupted,
                statuses={status.id: status for status in await _list()},
                statistics=await manager.get_statistics(),
                sync_attempts=SYNC_ATTEMPTS,
                sync_delay_seconds=SYNC_DELAY_SECONDS,
            )
            return await asyncio.to_thread(examine, evidence)

    def _start_workers(self) -> None:
        started = [self._session.crew.start() for _ in range(WORKERS)]
        self._screen.say(f"{WORKERS} worker processes: {', '.join(f'{worker.pid}' for worker in started)}")

    async def _enqueue(self) -> None:
        await asyncio.to_thread(video.make_clip, self._session.site.videos / CLIP)
        for kind in ("mp4", "webm"):
            self._videos[await transcode_video.enqueue(CLIP, kind)] = kind
        addresses = {f"Customer {n}": f"customer-{n}@example.com" for n in range(1, MAILS + 1)}
        calls = [send_welcome.call(name, address) for name, address in addresses.items()]
        ids = await manager.enqueue_many(calls)
        self._mails = dict(zip(ids, addresses.values(), strict=True))
        products = list(self._session.catalogue.products)
        ids = await manager.enqueue_many([sync_product.call(product_id) for product_id in products])
        self._products = dict(zip(ids, products, strict=True))
        self._screen.say(
            f"enqueued: {len(self._mails)} welcome mails, {len(self._videos)} transcodes, "
            f"{len(self._products)} products to sync (number {BROKEN_PRODUCT} always fails)"
        )

    async def _register(self) -> RecurringTask:
        await manager.schedule_recurring_task(
            NIGHTLY, delete_old_sessions, args=[KEPT_DAYS], cron_expression="0 3 * * *", timezone=ZONE
        )
        recurring = await manager.get_recurring_task(NIGHTLY, next_runs=3)
        runs = ", ".join(f"{run.astimezone(ZoneInfo(ZONE)):%a %d %b %H:%M %Z}" for run in recurring.next_runs)
        self._screen.say(f"recurring: {NIGHTLY!r} at {recurring.cron_expression!r} in {ZONE}, next {runs}")
        self._clean_up = await manager.run_recurring_task(NIGHTLY)
        self._screen.say("and run once now")
        return recurring

    async def _kill_a_worker(self) -> frozenset[str]:
        """Kill a worker while it certainly runs jobs; returns those, once they are rescued."""
        mail, crew = self._session.mail, self._session.crew
        victim = await self._until("a worker has jobs under way", self._find_victim)
        held = frozenset(job_id for job_id, pid in mail.held.items() if pid == victim.pid)
        had = [status for status in await _list(State.RUNNING) if victim.runs_as(status.node)]
        victim.kill()
        killed_at = time.monotonic()
        mail.release()
        lost = Counter(status.queue for status in had)
        self._screen.say(
            f"[bold red]SIGKILL[/bold red] for {victim.name} ({victim.pid}), "
            f"which ran {', '.join(f'{count} {queue}' for queue, count in sorted(lost.items()))} jobs"
        )
        replacement = crew.start()

        async def is_rescued() -> bool:
            return not any(victim.runs_as(status.node) for status in await _list(State.RUNNING))

        await self._until("the killed worker's jobs are rescued", is_rescued)
        self._screen.say(
            f"its jobs were given to others after {time.monotonic() - killed_at:.1f} s; "
            f"{replacement.name} ({replacement.pid}) takes its place"
        )
        return held

    async def _find_victim(self) -> WorkerProcess | None:
        """Return a worker that waits for the mail server, and if possible is at a transcode too."""
        waiting = set(self._session.mail.held.values()) if self._session.mail.is_holding else set()
        candidates = [worker for worker in self._session.crew.living() if worker.pid in waiting]
        open_videos = await _list(*_OPEN, queue="media")
        for worker in candidates:
            if any(worker.runs_as(status.node) and status.progress is not None for status in open_videos):
                return worker
        return candidates[0] if candidates and not open_videos else None

    async def _see_dead_letter(self) -> TaskStatus:
        await self._until("all jobs have ended", self._is_quiet)
        dead = await _list(State.FAILED, State.DISCARDED)
        if [self._products.get(status.id) for status in dead] != [BROKEN_PRODUCT]:
            raise StoryError(
                f"one dead letter was expected, the failing product's, and there are {len(dead)}: "
                + "; ".join(f"{status.function}{tuple(status.args)}: {status.last_error}" for status in dead)
            )
        self._screen.say("all else is done, and one job has used up its attempts")
        self._screen.show_dead_letter(dead[0])
        return dead[0]

    async def _mend_and_retry(self, dead_letter: TaskStatus) -> None:
        await asyncio.to_thread(product_api.mend, self._session.site.api_url, BROKEN_PRODUCT)
        await manager.retry_task(dead_letter.id)
        self._screen.say("the API is mended, and the dead letter retried by hand")
        await self._until("the retried job has ended", self._is_quiet)
        status = await manager.get_task_status(dead_letter.id)
        self._screen.say(f"it is {status.status} now, in attempt {status.attempts}")

    async def _is_quiet(self) -> bool:
        statistics = await manager.get_statistics()
        return not any(getattr(queue, state.value) for queue in statistics.queues.values() for state in _OPEN)

    async def _until(self, what: str, look: Callable[[], Awaitable[_T | None]]) -> _T:
        """Wait until a look gives something; raises StoryError when nothing came, or a worker ended."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := await look():
                return found
            for worker in self._session.crew.lost():
                raise StoryError(f"{worker.name} ended by itself, with {worker.exit_code}")
            await asyncio.sleep(_LOOK_SECONDS)
        raise StoryError(f"after {_PATIENCE_SECONDS} s it is still not so that {what}")

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        while True:
            self._screen.show(
                Snapshot(
                    statistics=await manager.get_statistics(),
                    running=await _list(State.RUNNING),
                    workers=self._session.crew.members,
                    expected=_EXPECTED,
                )
            )
            await asyncio.sleep(_REFRESH_SECONDS)


async def _list(*states: State, queue: str | None = None) -> list[TaskStatus]:
    """Return all jobs in these states, or all there are."""
    found: list[TaskStatus] = []
    cursor: str | None = None
    while True:
        page = await manager.list_tasks(status=states or None, queue=queue, per_page=_PAGE, cursor=cursor)
        found += page.entries
        cursor = page.next_cursor
        if cursor is None:
            return found
