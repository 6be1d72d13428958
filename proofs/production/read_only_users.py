"""Read-only users: they look at a file that is not theirs, while others write to it and while no process does."""

from __future__ import annotations

from proofs.production.namespaces import in_mounts
from proofs.production.needs import NAMESPACES, OTHER_USERS
from proofs.production.site import Site
from proofs.production.situation import Situation
from proofs.production.users import ADA, BOB

_LOOKS = (("stats",), ("list",), ("queues",), ("schedules",))


def play(site: Site) -> None:
    """Look as Bob at Ada's file, then on a mount that is read-only; enqueues there say what keeps them out."""
    site.give_store_to(ADA)
    site.run("migrate", *site.deeper, "migrate", user=ADA)
    site.enqueue("nap", user=ADA)
    site.database.chmod(0o644)
    for look in _LOOKS:
        site.run("look", *site.deeper, *look, user=BOB)
    refused = site.enqueue("nap", user=BOB, code=None)
    assert f"cannot be written by user {BOB.uid}" in refused, refused
    read_only = in_mounts(f"mount --bind {site.store} {site.store}; mount -o remount,ro,bind {site.store}")
    for look in _LOOKS:
        site.run("look", *site.deeper, *look, within=read_only)
    refused = site.enqueue("nap", within=read_only, code=None)
    assert "mounted read-only" in refused, refused
    site.start_worker("worker", user=ADA)
    site.wait_for(lambda: [run for run in site.runs() if run.how == "end"], "run of the job")
    for look in _LOOKS:
        said = site.run("look", *site.deeper, *look, user=BOB)
    assert sorted(path.name for path in site.store.iterdir() if path.stat().st_uid != ADA.uid) == []
    answer = site.run("look", *site.deeper, "stats", "--json", user=BOB)
    assert '"completed":1' in answer.replace(" ", ""), f"the look at a file in use is an old one: {answer}{said}"


SITUATION = Situation(
    name="read-only-users",
    plays="a user who may only read the SQLite file, and root on a read-only mount, look at it with and without a "
    "worker; an enqueue says what keeps it out",
    needs=(OTHER_USERS, NAMESPACES),
    play=play,
)
