"""Lock files: a command of root beside an application that runs as another user."""

from __future__ import annotations

from proofs.production.needs import OTHER_USERS
from proofs.production.site import Site
from proofs.production.situation import Situation
from proofs.production.users import ADA, ROOT_USER


def play(site: Site) -> None:
    """Make the store as Ada, migrate as root, then enqueue and work as Ada."""
    site.give_store_to(ADA)
    site.run("migrate", *site.deeper, "migrate", user=ADA)
    site.run("migrate", *site.deeper, "migrate", user=ROOT_USER)
    site.enqueue("nap", user=ADA)
    site.start_worker("worker", user=ADA)
    site.wait_for(lambda: [run for run in site.runs() if run.how == "end"], "run of the job")


SITUATION = Situation(
    name="lock-files",
    plays="root migrates the SQLite file of another user; that user can still enqueue and work",
    needs=(OTHER_USERS,),
    play=play,
)
