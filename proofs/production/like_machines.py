"""Like machines: workers in namespaces of one machine, which all have its host name and its boot id."""

from __future__ import annotations

import signal
from contextlib import ExitStack, nullcontext
from functools import partial

from proofs.production.namespaces import PID_NAMESPACE
from proofs.production.needs import NAMESPACES, POSTGRES
from proofs.production.site import Process, Site
from proofs.production.situation import Situation

_HEARTBEAT, _LEASE = 0.5, 4.0
_PLACES = {
    "machine": (),
    "container": PID_NAMESPACE,
    "its-like": PID_NAMESPACE,
    "foreign-proc": ("unshare", "--pid", "--fork", "--kill-child"),
    "other-clock": ("unshare", "--time", "--boottime", "1000", "--fork", "--kill-child"),
    "other-users": ("unshare", "--user", "--map-root-user"),
}
"""Where the workers are; a container has the host name of the machine, and its process 1 is the worker."""


def play(site: Site, *, on_postgres: bool = False) -> None:
    """Let a worker in each place run a job for longer than a lease, beside another worker of each place."""
    site.settings = {"heartbeat_seconds": _HEARTBEAT, "lease_seconds": _LEASE}
    with ExitStack() as stack:
        stack.enter_context(site.postgres() if on_postgres else nullcontext())
        site.run("migrate", *site.deeper, "migrate")
        workers = {
            name: site.start_worker(name, "--queues", "default:1", within=within) for name, within in _PLACES.items()
        }
        jobs = site.folder / "jobs.jsonl"
        jobs.write_text('{"args": [%g]}\n' % (_LEASE + 2) * len(workers))
        site.enqueue("nap", "--from", str(jobs))
        ended = site.wait_for(lambda: _ended(site, len(workers)), "end of all jobs")
        assert len(site.runs()) == len(workers), f"not each job was started once: {site.runs()}"
        assert {run.worker for run in ended} == set(workers), f"not each worker ran one: {ended}"
        _check_that_none_was_lost(workers)
        _kill_a_container(site, workers)


def _ended(site: Site, number: int) -> list[object]:
    ended = [run for run in site.runs() if run.how == "end"]
    return ended if len(ended) == number else []


def _kill_a_container(site: Site, workers: dict[str, Process]) -> None:
    """Its like, with the same host name and process number, starts anew: its job comes back by the lease."""
    before = len(site.runs())
    for name in [name for name in workers if name != "container"]:
        worker = workers.pop(name)
        worker.send(signal.SIGTERM)
        worker.wait()
    site.enqueue("nap", "60")
    site.wait_for(lambda: site.runs()[before:], "last job")
    workers.pop("container").send(signal.SIGKILL)
    workers["next"] = site.start_worker("next", within=_PLACES["container"])
    rescued = site.wait_for(lambda: site.runs()[before + 1 :], "rescue")[0]
    assert rescued.worker == "next", f"the job was not rescued by the next container: {rescued}"
    _check_that_none_was_lost(workers)


def _check_that_none_was_lost(workers: dict[str, Process]) -> None:
    for name, worker in workers.items():
        assert "was taken for dead" not in worker.said, f"{name} was taken for dead while it lived: {worker.said}"


SITUATIONS = (
    Situation(
        name="like-machines",
        plays="workers in pid, user and time namespaces with one host name and boot id take no job from one another",
        needs=(NAMESPACES,),
        play=play,
    ),
    Situation(
        name="like-machines-postgresql",
        plays="the same on PostgreSQL",
        needs=(NAMESPACES, POSTGRES),
        play=partial(play, on_postgres=True),
    ),
)
