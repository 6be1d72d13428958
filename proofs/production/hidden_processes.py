"""Hidden processes: workers of two users on one machine, where none sees the other's processes."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from functools import partial

from proofs.production.namespaces import with_hidden_processes
from proofs.production.needs import NAMESPACES, OTHER_USERS, POSTGRES
from proofs.production.site import Process, Site
from proofs.production.situation import Situation
from proofs.production.users import GROUP, MATE_ADA, MATE_BOB

_HEARTBEAT, _LEASE = 0.5, 4.0


def play(site: Site, *, level: int, on_postgres: bool = False) -> None:
    """Let a job run for longer than a lease beside the other user's worker; then kill its worker."""
    site.settings = {"heartbeat_seconds": _HEARTBEAT, "lease_seconds": _LEASE}
    site.give_store_to(MATE_ADA, group=GROUP, mode=0o2775)
    with site.postgres() if on_postgres else nullcontext():
        site.run("migrate", *site.deeper, "migrate", user=MATE_ADA, umask=0o002)
        workers = {
            name: site.start_worker(name, user=user, within=with_hidden_processes(level), umask=0o002)
            for name, user in (("ada", MATE_ADA), ("bob", MATE_BOB))
        }
        site.enqueue("nap", f"{_LEASE + 2}", user=MATE_ADA, umask=0o002)
        site.wait_for(lambda: [run for run in site.runs() if run.how == "end"], "end of the job")
        assert len(site.runs()) == 1, f"the job was started {len(site.runs())} times: {site.runs()}"
        _check_that_none_was_lost(workers)
        _kill_one_that_works(site, workers)


def _kill_one_that_works(site: Site, workers: dict[str, Process]) -> None:
    """The other user's worker cannot know that it has ended, so the lease decides."""
    site.enqueue("nap", "60", user=MATE_ADA, umask=0o002)
    first = site.wait_for(lambda: site.runs()[1:], "second job")[0]
    workers.pop(first.worker).send(signal.SIGKILL)
    rescued = site.wait_for(lambda: site.runs()[2:], "rescue")[0]
    assert rescued.worker in workers, f"{rescued} is not of the worker that lives"
    _check_that_none_was_lost(workers)


def _check_that_none_was_lost(workers: dict[str, Process]) -> None:
    for name, worker in workers.items():
        assert "was taken for dead" not in worker.said, f"{name} was taken for dead while it lived: {worker.said}"


SITUATIONS = (
    *(
        Situation(
            name=f"hidden-processes-{level}",
            plays=f"/proc with hidepid={level}: the workers of two users take no job from one another while they live",
            needs=(OTHER_USERS, NAMESPACES),
            play=partial(play, level=level),
        )
        for level in (1, 2)
    ),
    Situation(
        name="hidden-processes-postgresql",
        plays="the same on PostgreSQL",
        needs=(OTHER_USERS, NAMESPACES, POSTGRES),
        play=partial(play, level=2, on_postgres=True),
    ),
)
