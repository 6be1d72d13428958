"""Failovers: a standby takes over, and the old primary goes on as a server that only reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendUnavailableError
from proofs.production.needs import POSTGRES
from proofs.production.site import Site
from proofs.production.situation import Situation

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

_TASK = "proofs.production.app.nap"
_SOON = 5.0
"""Seconds after the failover within which a producer and a worker of before have to be at work again."""


@contextmanager
def _standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Start a standby that follows a server by streaming replication."""
    from servers.postgres import PostgresServer
    from servers.waiting import PATIENCE

    class Standby(PostgresServer):
        def _initialise(self) -> None:
            copying = self._lifeline.start(
                [self.installation.bin / "pg_basebackup", "-R", "-c", "fast", "-d", primary.url, "-D", self._data],
                log=self._log,
            )
            assert not self._lifeline.wait(copying, seconds=PATIENCE), self.log

    with closing(Standby(primary.installation)) as standby:
        yield standby


def _fail_over(site: Site, primary: PostgresServer, standby: PostgresServer) -> None:
    """Promote the standby, and have the old primary only read, with all the sessions that it has."""
    primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.execute("SELECT pg_reload_conf()")
    lag = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    [(written,)] = primary.execute("SELECT pg_current_wal_lsn()::text")
    site.wait_for(lambda: standby.execute(lag, written) == [(True,)], "standby that has all of the primary")
    standby.execute("SELECT pg_promote()")


def _play(site: Site, *, url_of: Callable[[str, str], str], lead_to: Callable[[str], None]) -> None:
    with site.postgres() as primary, _standby_of(primary) as standby:
        database = urlsplit(site.url).path.removeprefix("/")
        site.url = url_of(site.url, standby.url_of(database))
        worker = site.start_worker("worker")
        try:
            asyncio.run(_outlive(site, partial(_fail_over, site, primary, standby), partial(lead_to, standby.url)))
        finally:
            primary.execute("ALTER SYSTEM RESET default_transaction_read_only")
            primary.execute("SELECT pg_reload_conf()")
        # None at all, where each call that was refused found the new primary at its second try.
        begins, ends = "the store does not answer", "the store answers again"
        site.wait_for(lambda: worker.said.count(begins) == worker.said.count(ends), "end of the outage in the log")
        assert worker.said.count(begins) <= 1, worker.said
        with psycopg.connect(standby.url_of(database)) as connection:
            states = connection.execute("SELECT state, count(*) FROM deeper.job GROUP BY state").fetchall()
        assert [state for state, _ in states] == [6], states


async def _outlive(site: Site, fail_over: Callable[[], None], lead: Callable[[], None]) -> None:
    """Enqueue before the failover and after it, by one producer, and wait for the jobs."""
    async with BackgroundTaskManager(site.url) as producer:
        task = producer.task(name=_TASK)(_nap)
        await asyncio.gather(*(task.enqueue() for _ in range(5)))
        await asyncio.to_thread(site.wait_for, lambda: len(site.runs()) == 5, "runs before the failover")
        await asyncio.to_thread(fail_over)
        with suppress(BackendUnavailableError):
            await task.enqueue()
        await asyncio.to_thread(lead)
        began = time.monotonic()
        job = None
        while job is None:
            assert time.monotonic() - began < _SOON, "the producer stays with the server that only reads"
            with suppress(BackendUnavailableError):
                job = await task.enqueue()
            await asyncio.sleep(0.05)
        await asyncio.to_thread(
            site.wait_for, lambda: any(run.job == job for run in site.runs()), "run after the failover", seconds=_SOON
        )


async def _nap(seconds: float = 0) -> None:
    """Stand for the task of the application."""


def play_proxy(site: Site) -> None:
    """Play it behind a proxy that leads new connections to the new primary and leaves the old ones where they are."""
    from servers.proxy import Proxy

    with ExitStack() as proxies:
        ahead: list[Proxy] = []

        def behind_proxy(primary: str, _standby: str) -> str:
            ahead.append(proxies.enter_context(closing(Proxy(primary))))
            return ahead[0].url

        def lead_to(url: str) -> None:
            ahead[0].lead_to(url)

        _play(site, url_of=behind_proxy, lead_to=lead_to)


def play_hosts(site: Site) -> None:
    """Play it with both servers in the URL, which asks for the one that may write."""

    def both(primary: str, standby: str) -> str:
        parts, other = urlsplit(primary), urlsplit(standby)
        hosts = f"{parts.netloc},{other.hostname}:{other.port}"
        return parts._replace(netloc=hosts, query="target_session_attrs=read-write").geturl()

    _play(site, url_of=both, lead_to=lambda _: None)


SITUATIONS = (
    Situation(
        name="failover-behind-a-proxy",
        plays="a standby takes over and the proxy leads there; workers and producers leave the old primary",
        needs=(POSTGRES,),
        play=play_proxy,
    ),
    Situation(
        name="failover-of-several-hosts",
        plays="a standby takes over; by target_session_attrs=read-write workers and producers find it",
        needs=(POSTGRES,),
        play=play_hosts,
    ),
)
