"""The suite of PostgreSQL: a raw loop, this engine, and the libraries that are installed."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

from msgspec.structs import replace

from benchmarks import engine
from benchmarks.figures import Competitor, Figure, Rival, Sample, Target
from benchmarks.plan import Plan
from benchmarks.postgres import peer, raw_loop
from benchmarks.postgres.peer import Peer
from benchmarks.postgres.site import DatabaseSite
from benchmarks.suite import Measure, Suite
from servers.server import Server

_TARGETS = {
    Figure.DRAIN: (Target(limit=0.5, of=Rival.RAW), Target(limit=1.5, of=Rival.FASTEST_PEER)),
    Figure.LATENCY_P99: (Target(limit=5),),
}
_PEERS = {
    Competitor.PGQUEUER: Peer(
        name="pgqueuer",
        title="PgQueuer",
        setting="batches of 1,000, asyncpg, durable",
        environment={"BENCHMARK_PGQUEUER_BATCH": "1000"},
        unfinished="""
        SELECT EXISTS (SELECT FROM pgqueuer WHERE status = 'queued')
            OR EXISTS (SELECT FROM pgqueuer WHERE status = 'picked')
        """,
    ),
    Competitor.PROCRASTINATE: Peer(
        name="procrastinate",
        title="Procrastinate",
        setting="concurrency 5, psycopg",
        environment={"BENCHMARK_PROCRASTINATE_CONCURRENCY": "5"},
        unfinished="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        share=0.1,
    ),
    Competitor.OBAN: Peer(
        name="oban",
        title="Oban",
        setting="limit 200",
        environment={"BENCHMARK_OBAN_LIMIT": "200"},
        unfinished="""
        SELECT EXISTS (SELECT FROM oban_jobs WHERE state = 'available')
            OR EXISTS (SELECT FROM oban_jobs WHERE state = 'executing')
        """,
    ),
}


def postgres_suite(server: Server, *, oban_python: str | None) -> Suite:
    """
    Return the suite of a server.

    `oban_python` is a Python in which Oban is installed, if that is not this one.

    Raises:
        LookupError: Oban is not installed in `oban_python`.
    """
    site = DatabaseSite(server)
    measures: dict[Competitor, Measure] = {
        Competitor.RAW: lambda plan, _: raw_loop.measure(plan, site),
        Competitor.DEEPER_TASKS: lambda plan, _: engine.measure(plan, site),
    }
    versions = {"PostgreSQL": str(server.execute("SHOW server_version")[0][0]), "psycopg": version("psycopg")}
    remarks = {}
    for who, each in _PEERS.items():
        given = oban_python if who is Competitor.OBAN else None
        found = _version(each.name, given)
        if found is None:
            remarks[who] = f"{each.title}: not measured, it is not installed{_how_to_have(who)}."
            continue
        versions[each.title] = found
        measures[who] = partial(_measure, replace(each, python=given or sys.executable), site)
        less = f", {each.share:g} of the jobs" if each.share < 1 else ""
        remarks[who] = f"{each.title}: {each.setting}{less}."
    return Suite(
        store="postgres",
        measures=measures,
        targets=_TARGETS,
        versions=versions,
        remarks=remarks,
        notes=(_note_on_wal(server),),
    )


def _measure(each: Peer, site: DatabaseSite, plan: Plan, _: int) -> Sample:
    return peer.measure(each, plan, site)


def _version(package: str, python: str | None) -> str | None:
    """Return which version of the package is installed, in another Python if one is given."""
    if python is None:
        return version(package) if find_spec(package) is not None else None
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        return subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError(f"{python!r} is no Python in which {package} is installed") from error


def _how_to_have(who: Competitor) -> str:
    if who is not Competitor.OBAN:
        return ""
    return "; it needs Python 3.12: name one that has it by --oban-python"


def _note_on_wal(server: Server) -> str:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    said = ", ".join(f"{name} {server.execute(f'SHOW {name}')[0][0]}" for name in names)
    return (
        f"{said}. WAL: no checkpoint between the insert and the end of the drain, so it holds no images of whole pages"
        " but those that are counted. Dead tuples are all versions of rows that were replaced or deleted."
    )
