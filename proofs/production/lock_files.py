"""Lock files: commands and a worker of root in front of an application that runs as another user."""

from __future__ import annotations

import signal

from proofs.production.needs import OTHER_USERS
from proofs.production.site import Site
from proofs.production.situation import Situation
from proofs.production.users import ADA, ROOT_USER


def play(site: Site) -> None:
    """Let root make the store, migrate and work first; then enqueue and work as Ada, who owns the folder."""
    site.give_store_to(ADA)
    site.run("migrate", *site.deeper, "migrate", user=ROOT_USER)
    site.enqueue("nap", user=ADA)
    for command in ("migrate", "stats", "doctor"):
        for lock in site.store.glob("tasks.db-*"):
            lock.unlink()
        site.run(command, *site.deeper, command, user=ROOT_USER, code=None)
        site.enqueue("nap", user=ADA)
    first = site.start_worker("root", user=ROOT_USER)
    _check_owner(site)
    site.wait_for(lambda: _ended(site, "root") == 4, "runs of all jobs by root's worker")
    site.enqueue("nap", user=ADA)
    second = site.start_worker("ada", user=ADA)
    site.wait_for(lambda: _ended(site, "root") + _ended(site, "ada") == 5, "run of a job enqueued beside root's worker")
    first.send(signal.SIGTERM)
    assert first.wait() == 0, first.said
    site.enqueue("nap", user=ADA)
    site.wait_for(lambda: _ended(site, "ada"), "run of a job by Ada's worker")
    second.send(signal.SIGTERM)
    assert second.wait() == 0, second.said
    _check_owner(site)
    _play_without_chown(site)


def _play_without_chown(site: Site) -> None:
    """As in a container whose root has few capabilities: what cannot be given away is named, with the command."""
    for lock in site.store.glob("tasks.db-*"):
        lock.unlink()
    site.run("migrate", *site.deeper, "migrate", within=("setpriv", "--bounding-set=-chown", "--inh-caps=-chown"))
    locks = f"{site.database}-next {site.database}-write"
    remedy = f"chown {ADA.uid}:{ADA.gid} {locks} && chmod 0640 {locks}"
    for said in (
        site.enqueue("nap", user=ADA, code=None),
        site.run("doctor", *site.deeper, "doctor", user=ADA, code=None),
        site.run("doctor", *site.deeper, "doctor", user=ROOT_USER, code=None),
    ):
        assert remedy in " ".join(said.split()), said


def _ended(site: Site, worker: str) -> int:
    return sum(run.how == "end" for run in site.runs() if run.worker == worker)


def _check_owner(site: Site) -> None:
    for path in [*site.store.iterdir(), *site.store.glob("*/*")]:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (ADA.uid, ADA.gid), f"{path.name} belongs to {status.st_uid}"


SITUATION = Situation(
    name="lock-files",
    plays="root makes, migrates, looks at and works on the SQLite file of another user first; that user still enqueues "
    "and works, and owns all that lies there; a root who cannot give files away leaves an error with the command",
    needs=(OTHER_USERS,),
    play=play,
)
