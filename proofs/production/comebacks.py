"""Comebacks: how soon after an outage the first job has run, how seldom the store is asked, what is logged."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random

import click
import psycopg

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.manager.blocking import BlockingFacade
from proofs.production.needs import Missing
from proofs.production.site import Process, Site
from proofs.production.situation import Situation

_SOON = 0.5
"""Seconds from the first answer of the store to the end of the first job."""
_APP = "proofs.production.app"
_QUEUES = ("--queues", "default:4,slow:2")
_LOOK = 0.01
_WORKERS, _FLEET_SECONDS, _MOST_A_SECOND = 20, 10.0, 8.0
"""A fleet, how long its server is away, and the questions a second that each of its workers may ask meanwhile."""

Outage = Callable[[float], None]


def _play_postgresql(site: Site) -> None:
    """Take the server away ten times, five ways, from a worker with idle and busy slots."""
    from servers.proxy import Proxy

    with site.postgres(synchronous_commit="on") as server, closing(Proxy(site.url)) as proxy:
        direct, site.url = site.url, proxy.url
        with BackgroundTaskManager(direct).sync as producer:
            worker = site.start_worker("worker", *_QUEUES)

            def stopped(mode: str) -> Outage:
                def play(seconds: float) -> None:
                    server.stop(mode)
                    time.sleep(seconds)
                    threading.Thread(target=server.start, daemon=True).start()

                return play

            def silent(seconds: float) -> None:
                proxy.hang()
                time.sleep(seconds)
                proxy.resume()

            def silent_and_broken(seconds: float) -> None:
                proxy.hang()
                time.sleep(seconds)
                proxy.reset()
                proxy.resume()

            def refused(seconds: float) -> None:
                proxy.refuse()
                proxy.reset()
                time.sleep(seconds)
                proxy.accept()

            outages: dict[str, Outage] = {
                "server killed": stopped("kill"),
                "server stopped at once": stopped("immediate"),
                "network silent": silent,
                "network silent, then broken": silent_and_broken,
                "network refused": refused,
            }
            _come_back(site, producer, outages, rounds=2, answers=lambda: _selects(proxy.url))
            _check_log(worker, outages=10)


def _play_pgbouncer(site: Site) -> None:
    """Take the pooler away, and the server behind it."""
    from servers.pgbouncer import PgBouncer, pgbouncer_program

    if pgbouncer_program() is None:
        raise Missing("PgBouncer is not installed")
    settings = {"server_login_retry": "0"}
    with (
        site.postgres(synchronous_commit="on") as server,
        closing(PgBouncer(site.url, settings=settings)) as pooler,
    ):
        direct, site.url = site.url, f"{pooler.url}?pooler=transaction"
        site.settings["listen_url"] = direct
        with BackgroundTaskManager(direct).sync as producer:
            worker = site.start_worker("worker", *_QUEUES)

            def pooler_gone(seconds: float) -> None:
                pooler.stop()
                time.sleep(seconds)
                pooler.start()

            def server_gone(seconds: float) -> None:
                server.stop("immediate")
                time.sleep(seconds)
                server.start()

            outages: dict[str, Outage] = {"pooler gone": pooler_gone, "server behind it gone": server_gone}
            _come_back(site, producer, outages, rounds=2, answers=lambda: _selects(pooler.url))
            _check_log(worker, outages=4)


def _play_sqlite(site: Site) -> None:
    """Lock the file for longer than its timeout, and take it away."""
    site.url = f"sqlite:///{site.database}?timeout=2"
    away = site.database.with_suffix(".away")
    with BackgroundTaskManager(site.url).sync as producer:
        worker = site.start_worker("worker", *_QUEUES)

        def locked(seconds: float) -> None:
            with closing(sqlite3.connect(site.database, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                other.execute("ROLLBACK")

        def gone(seconds: float) -> None:
            site.database.rename(away)
            time.sleep(seconds)
            away.rename(site.database)

        outages: dict[str, Outage] = {"file locked": locked, "file away": gone}
        _come_back(site, producer, outages, rounds=2, answers=site.database.exists)
        _check_log(worker, outages=4)


def _play_fleet(site: Site) -> None:
    """Take the server away from twenty workers, and count how often they knock."""
    from servers.proxy import Proxy

    with site.postgres(synchronous_commit="on") as server, closing(Proxy(site.url)) as proxy:
        direct, site.url = site.url, proxy.url
        with BackgroundTaskManager(direct).sync as producer:
            for number in range(_WORKERS):
                site.start_worker(f"worker-{number}", *_QUEUES)
            server.stop("immediate")
            before, moments = proxy.accepted, []
            until = time.monotonic() + _FLEET_SECONDS
            while time.monotonic() < until:
                time.sleep(1.0)
                moments.append(proxy.accepted - before)
                before = proxy.accepted
            server.start()
            answered = time.monotonic()
            late = _first_job(site, producer) - answered
    # The first second has the roles that all notice.
    worst = max(moments[1:]) / _WORKERS
    click.echo(f"  {_WORKERS} workers asked {moments} times a second; the first job ended after {late:.2f} s")
    assert worst <= _MOST_A_SECOND, f"each worker asked up to {worst:.1f} times a second"


def _come_back(
    site: Site, producer: BlockingFacade, outages: dict[str, Outage], *, rounds: int, answers: Callable[[], bool]
) -> None:
    """Play each outage so often, and measure from the first answer to the end of the first job."""
    late = {}
    random = Random(12)
    for number in range(rounds):
        for name, outage in outages.items():
            seconds = random.uniform(5, 20)
            # The first call ends in the outage, the second outlasts it.
            for busy in (seconds / 2, seconds + 2):
                _enqueue(producer, busy, queue="slow")
            site.wait_for(lambda: len([run for run in site.runs() if run.ended_at is None]) == 2, "busy slots")
            outage(seconds)
            site.wait_for(answers, f"answer after {name}")
            answered = time.monotonic()
            took = late[f"{name}, {number}"] = _first_job(site, producer) - answered
            click.echo(f"  {name} for {seconds:.1f} s: the first job ended {took:.2f} s after the first answer")
            site.wait_for(lambda: all(run.ended_at is not None for run in site.runs()), "end of all jobs")
    slow = {name: round(took, 2) for name, took in late.items() if took > _SOON}
    assert not slow, f"later than {_SOON:g} s: {slow}"
    starts = Counter(run.job for run in site.runs())
    assert set(starts.values()) == {1}, f"jobs that ran more than once: {starts}"


def _first_job(site: Site, producer: BlockingFacade) -> float:
    job = _enqueue(producer, 0)
    site.wait_for(lambda: any(run.job == job and run.ended_at for run in site.runs()), "run of the first job")
    return next(run.ended_at for run in site.runs() if run.job == job)


def _enqueue(producer: BlockingFacade, seconds: float, *, queue: str = "default") -> str:
    """Enqueue a nap, past an outage that the caller's own connections have not noticed."""
    while True:
        try:
            return str(producer.enqueue_task(_APP, "nap", [seconds], queue=queue))
        except BackendUnavailableError:
            time.sleep(_LOOK)


def _selects(url: str) -> bool:
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _check_log(worker: Process, *, outages: int) -> None:
    """Each outage is one WARNING and one INFO at most, of the whole process; nothing else is worth a warning."""
    lines = list(_lines(worker))
    logged = [line["message"] for line in lines if line["level"] not in {"debug", "info"}]
    gone = [message for message in logged if message.startswith("the store does not answer")]
    back = [line for line in lines if line["message"].startswith("the store answers again")]
    assert 1 <= len(gone) <= outages, gone
    assert len(back) <= len(gone), back
    assert logged == gone, logged


def _lines(worker: Process) -> Iterator[dict[str, str]]:
    for line in worker.said.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            yield {
                "message": entry.get("message", entry.get("event", "")),
                "level": str(entry.get("level", "")).lower(),
            }


SITUATIONS = (
    Situation(
        name="comeback-postgresql",
        plays="ten outages of 5 to 20 s; half a second after the first answer of the store the first job has run",
        play=_play_postgresql,
    ),
    Situation(
        name="comeback-pgbouncer",
        plays="a pooler that goes, and a server behind it that goes; the same",
        play=_play_pgbouncer,
    ),
    Situation(
        name="comeback-sqlite",
        plays="a file that is locked for long, and one that is away; the same",
        play=_play_sqlite,
    ),
    Situation(
        name="comeback-fleet",
        plays="a server that is away from twenty workers is asked for a few times a second by each, and in no step",
        play=_play_fleet,
    ),
)
