"""The command `soak`: thousands of jobs while processes are killed, and the report of what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from deeper_tasks import BackgroundTaskManager
from proofs.soak.fleet import Fleet
from proofs.soak.raid import Plan, Raid
from proofs.soak.report import Report, log_faults, sum_up
from proofs.soak.trial import Trial

_SLOTS = 4
_HEARTBEAT, _LEASE = 0.5, 4.0
_STOP = (_LEASE, _LEASE + 2)
"""A worker that wakes just when others have begun to run its jobs is the most dangerous."""
_UNIQUE_KEYS = "SELECT count(*) FROM deeper_unique_key"


@click.command()
@click.option("--jobs", type=click.IntRange(min=100), default=10_000, show_default=True, help="Enqueues.")
@click.option("--processes", type=click.IntRange(min=1), default=4, show_default=True, help="Of the workers.")
@click.option("--worker-kills", type=click.IntRange(min=0), default=20, show_default=True)
@click.option("--supervisor-kills", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--stops", type=click.IntRange(min=0), default=0, help="Of workers, for longer than their lease.")
@click.option("--seed", type=int, help="Of the work and of the blows; without it another one each time.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, to be made, for the store, the journal and the logs.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the report.")
def soak(
    *,
    jobs: int,
    processes: int,
    worker_kills: int,
    supervisor_kills: int,
    stops: int,
    seed: int | None,
    keep: Path | None,
    is_json: bool,
) -> None:
    """
    Run jobs of every kind on one SQLite file, while workers and their supervisor are killed with SIGKILL.

    A killed supervisor is started again, as systemd would. In the end every acknowledged job must have ended
    as its task intends, by an attempt whose handler returned; no attempt may have run twice, none at the
    same time as the next; what was run again is bounded by what the killed had in hand; counters, unique
    keys and due times must agree, the database be whole, and no process be left.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    plan = Plan(
        jobs=jobs, worker_kills=worker_kills, supervisor_kills=supervisor_kills, stops=stops, stop_seconds=_STOP
    )
    settings = {"heartbeat_seconds": _HEARTBEAT, "lease_seconds": _LEASE} if stops else {}
    with folder_to_keep(keep) as folder, Progress(console=Console(stderr=True), disable=is_json) as progress:
        fleet = Fleet(folder, processes=processes, slots=_SLOTS, **settings)
        bar = progress.add_task("soaking", total=jobs)
        try:
            report = asyncio.run(
                _run(fleet, plan, seed=seed, on_progress=lambda done: progress.update(bar, completed=done))
            )
        finally:
            fleet.end()
    if is_json:
        click.echo(msgspec.json.encode(report))
    else:
        report.show()
    raise SystemExit(0 if report.is_proved else 1)


@contextmanager
def folder_to_keep(keep: Path | None) -> Iterator[Path]:
    """Give the folder that was asked for, or one that is removed in the end."""
    if keep is not None:
        try:
            keep.mkdir(parents=True)
        except FileExistsError as error:
            raise click.BadParameter(f"{str(keep)!r} is there already; name a folder to be made") from error
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="deeper-soak-") as folder:
        yield Path(folder)


async def _run(fleet: Fleet, plan: Plan, *, seed: int, on_progress: Callable[[int], None]) -> Report:
    async with BackgroundTaskManager(fleet.url) as manager:
        trial = Trial(fleet, manager, jobs=plan.jobs, seed=seed, on_progress=on_progress)
        raid = Raid(plan, fleet, ended=trial.ended, random=Random(f"{seed} blows"))
        await trial.run(raid.run)
        faults = [*trial.faults, *log_faults(fleet.said(), is_dead_expected=plan.stops > 0)]
        with closing(sqlite3.connect(fleet.database)) as connection:
            integrity = [line for (line,) in connection.execute("PRAGMA integrity_check")]
            ((unique_keys,),) = connection.execute(_UNIQUE_KEYS).fetchall()
        evidence = await trial.evidence(blows=raid.blows, unique_keys=unique_keys, integrity=integrity)
        return sum_up(evidence, faults=faults, seed=seed, took=trial.took, plan=plan)
