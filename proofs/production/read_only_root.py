"""A read-only root: a container whose file system cannot be written, but for the volume that the store is on."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

from proofs.production.namespaces import in_mounts
from proofs.production.needs import NAMESPACES
from proofs.production.site import Site
from proofs.production.situation import Situation

_TASKS = ("nap", "nap_in_thread", "nap_in_process")


def play(site: Site) -> None:
    """Migrate, work with two processes, diagnose and compact where not even a temporary folder can be written."""
    kept = "".join(f"mount --bind {path} {path}; " for path in (site.store, site.journal))
    within = in_mounts(f"{kept}mount -o remount,ro,bind /; mount -t tmpfs -o ro none /dev/shm")
    refused = site.run("touch", "touch", "/tmp/deeper", within=within, code=None)
    assert "Read-only" in refused, f"the root can be written: {refused}"
    site.run("migrate", *site.deeper, "migrate", within=within)
    worker = site.start_worker("worker", "--processes", "2", within=within)
    for task in _TASKS:
        site.enqueue(task, within=within)
    site.wait_for(lambda: sum(run.how == "end" for run in site.runs()) == len(_TASKS), "runs of all jobs")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.said
    site.run("compact", *site.deeper, "cleanup", "--compact", within=within)
    site.run("doctor", *site.deeper, "doctor", "--deep", within=within)
    # More than SQLite keeps in memory.
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute("CREATE TABLE filler AS SELECT zeroblob(50000000)")
    said = site.run("compact", *site.deeper, "cleanup", "--compact", within=within, code=None)
    assert "SQLITE_TMPDIR" in said, said
    elsewhere = {"SQLITE_TMPDIR": str(site.store)}
    site.run("compact", *site.deeper, "cleanup", "--compact", within=within, environment=elsewhere)


SITUATION = Situation(
    name="read-only-root",
    plays="where nothing but the folder of the SQLite file can be written, no temporary folder either, workers work, "
    "and a small file is compacted; for a large one the error says how",
    needs=(NAMESPACES,),
    play=play,
)
