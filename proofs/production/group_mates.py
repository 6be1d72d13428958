"""Group mates: users who share a file by their group, with the umask 022 and 077 that services have."""

from __future__ import annotations

import signal
import subprocess

from proofs.production.needs import OTHER_USERS
from proofs.production.site import Site
from proofs.production.situation import Situation
from proofs.production.users import GROUP, MATE_ADA, MATE_BOB, User

_BOTH = (MATE_ADA, MATE_BOB)


def play(site: Site) -> None:
    """Share the store in turn, each being the first to make the locks; then lock one out, and read what that says."""
    site.give_store_to(MATE_ADA, group=GROUP, mode=0o2770)
    site.run("migrate", *site.deeper, "migrate", user=MATE_ADA)
    # Of the file's mode the umask has taken the right of the group to write, as SQLite itself would have.
    refused = site.enqueue("nap", user=MATE_BOB, code=None)
    remedy = f"chmod -R g+rwX {site.database} {site.database}-*"
    assert refused.rstrip().endswith(remedy), f"no way out is named: {refused}"
    subprocess.run(remedy, shell=True, check=True)
    for number, first in enumerate((*_BOTH, *_BOTH)):
        for lock in site.store.glob("tasks.db-*"):
            lock.unlink()
        umask = 0o022 if number < len(_BOTH) else 0o077
        for user in (first, _other(first)):
            site.enqueue("nap", user=user, umask=umask)
    expected = 2 * len(_BOTH) * 2
    workers = [site.start_worker(f"worker-{user.uid}", user=user, umask=0o077) for user in _BOTH]
    site.wait_for(lambda: sum(run.how == "end" for run in site.runs()) == expected, "runs of all jobs")
    assert len({(run.job, run.attempt) for run in site.runs()}) == len(site.runs()), "a job ran twice"
    found = site.run("doctor", *site.deeper, "doctor", user=MATE_BOB, code=None)
    assert "file access" not in found, found
    for worker in workers:
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.said
    # Without setgid SQLite's own log belongs to the group of the user who writes first.
    site.store.chmod(0o770)
    site.start_worker("alone", user=MATE_BOB)
    refused = site.enqueue("nap", user=MATE_ADA, code=None)
    assert f"chgrp {GROUP} {site.store} && chmod g+s {site.store}" in refused, refused


def _other(user: User) -> User:
    return next(each for each in _BOTH if each is not user)


SITUATION = Situation(
    name="group-mates",
    plays="two users of one group share a SQLite file in a setgid folder, with umask 022 and 077; whichever of them "
    "makes the locks first, the other enqueues and works, and a file that keeps one out is named with the command",
    needs=(OTHER_USERS,),
    play=play,
)
