"""The command `outage`: thousands of jobs on PostgreSQL while all that it stands on fails, and the report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import click
import msgspec
import psycopg
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendUnavailableError
from proofs.outage.faults import Outages, Site
from proofs.outage.report import Report, sum_up, unstored
from proofs.soak.command import folder_to_keep
from proofs.soak.fleet import Fleet
from proofs.soak.raid import Plan, Raid
from proofs.soak.report import log_faults
from proofs.soak.trial import Trial

_SECONDS = (1.0, 6.0)
_SETTINGS = {"heartbeat_seconds": 0.5, "lease_seconds": 4.0}
"""A fault may last longer than a lease."""
_TIMEOUT = 2
_SERVER = {
    # A committed transaction outlives the server's processes, as on any server that is set up as it ought to be.
    "synchronous_commit": "on",
    # Few enough to be used up in a moment.
    "max_connections": "80",
}
_UNIQUE_KEYS = "SELECT count(*) FROM deeper.unique_key"
_EXPECTED = ("the store does not answer", "no hints from", "another transaction holds")


@click.command()
@click.option("--jobs", type=click.IntRange(min=100), default=20_000, show_default=True, help="Enqueues.")
@click.option("--workers", type=click.IntRange(min=1), default=3, show_default=True, help="Processes.")
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, help="Jobs of a worker at once.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often each fault comes.")
@click.option("--worker-kills", type=click.IntRange(min=0), default=12, show_default=True)
@click.option("--seconds", type=float, default=_SECONDS[1], show_default=True, help="The longest that a fault lasts.")
@click.option("--seed", type=int, help="Of the work and of the faults; without it another one each time.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, to be made, for the journal and the logs.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the report.")
def outage(
    *,
    jobs: int,
    workers: int,
    slots: int,
    rounds: int,
    worker_kills: int,
    seconds: float,
    seed: int | None,
    keep: Path | None,
    is_json: bool,
) -> None:
    """
    Run jobs of every kind on a PostgreSQL of its own, behind a network that breaks, while workers are killed.

    The server is restarted, stopped at once and killed, its sessions are terminated, its connections used up,
    rows held by an idle transaction; the network hangs, both ways and each. In the end every acknowledged job
    must have ended as its task intends, by an attempt whose handler returned; no attempt may have run twice, none
    at the same time as the next; no worker that lived may have been taken for dead; what was over may have run
    again only where its worker was killed before that could be stored; counters, unique keys and due times must
    agree, and no process be left.
    """
    # Here, as the servers come from the tests, which an installed package does not have.
    from servers.installation import installations
    from servers.postgres import PostgresServer
    from servers.proxy import Proxy

    seed = Random().randrange(1_000_000) if seed is None else seed
    with (
        folder_to_keep(keep) as folder,
        closing(PostgresServer(installations()[0], settings=_SERVER)) as server,
        closing(Proxy(server.url)) as proxy,
        Progress(console=Console(stderr=True), disable=is_json) as progress,
    ):
        url = f"{proxy.url}?timeout={_TIMEOUT}"
        fleet = Fleet(folder, processes=workers, slots=slots, url=url, **_SETTINGS)
        bar = progress.add_task("working", total=jobs)
        running = _run(
            fleet,
            Site(server=server, proxy=proxy, url=server.url),
            Plan(jobs=jobs, worker_kills=worker_kills, supervisor_kills=0),
            rounds=rounds,
            seconds=(min(_SECONDS[0], seconds), seconds),
            seed=seed,
            on_progress=lambda done: progress.update(bar, completed=done),
        )
        try:
            report = asyncio.run(running)
        finally:
            fleet.end()
    if is_json:
        click.echo(msgspec.json.encode(report))
    else:
        report.show()
    raise SystemExit(0 if report.is_proved else 1)


async def _run(
    fleet: Fleet,
    site: Site,
    plan: Plan,
    *,
    rounds: int,
    seconds: tuple[float, float],
    seed: int,
    on_progress: Callable[[int], None],
) -> Report:
    """Do all of it, and look at the store past the network that breaks."""
    async with BackgroundTaskManager(f"{site.url}?timeout={_TIMEOUT}") as manager:
        trial = Trial(fleet, manager, jobs=plan.jobs, seed=seed, on_progress=on_progress)
        raid = Raid(plan, fleet, ended=trial.ended, random=Random(f"{seed} blows"))
        outages = Outages(
            site,
            rounds=rounds,
            seconds=seconds,
            jobs=plan.jobs,
            ended=trial.ended,
            moved=trial.moved,
            random=Random(f"{seed} faults"),
        )
        await trial.run(raid.run, outages.run)
        faults = [*trial.faults, *unexpected(fleet.said())]
        with psycopg.connect(site.url) as session:
            [(unique_keys,)] = session.execute(_UNIQUE_KEYS).fetchall()
        found = await trial.evidence(blows=raid.blows, unique_keys=unique_keys)
        evidence = replace(
            found,
            excused=frozenset(unstored(found.runs, outages.faults, raid.blows)),
            interruptions=frozenset({BackendUnavailableError.__name__}),
        )
        return sum_up(evidence, outages.faults, faults=faults, seed=seed, took=trial.took)


def unexpected(said: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what was logged as an error and is none that the faults, the kills or the tasks explain."""
    for fault in log_faults(said, is_dead_expected=False):
        if not any(each in fault for each in _EXPECTED):
            yield fault
