"""File names: one file by a symbolic link, a bind mount of its folder, a bind mount of itself, and a hard link."""

from __future__ import annotations

from proofs.production.namespaces import in_mounts
from proofs.production.needs import NAMESPACES
from proofs.production.site import Site
from proofs.production.situation import Situation


def play(site: Site) -> None:
    """Work by the file's own name, enqueue by others, and look at what the doctor says of those that cannot be."""
    site.run("migrate", *site.deeper, "migrate")
    link, elsewhere, alone = site.folder / "link.db", site.folder / "elsewhere", site.folder / "alone"
    link.symlink_to(site.database)
    elsewhere.mkdir()
    alone.mkdir()
    (alone / "tasks.db").touch()
    # Hints are the only way for a job to start at once: a worker that polls looks a minute later.
    site.settings["poll_interval_seconds"] = 60
    site.start_worker("worker")
    mounted = in_mounts(f"mount --bind {site.store} {elsewhere}")
    for url, within in ((f"sqlite:///{link}", ()), (f"sqlite:///{elsewhere}/tasks.db", mounted)):
        before = len(site.runs())
        site.enqueue("nap", within=within, environment={"DEEPER_TASKS_URL": url})
        site.wait_for(lambda before=before: len(site.runs()) > before, f"run of a job enqueued by {url}", seconds=20)  # type: ignore[misc]
    assert sorted(path.name for path in (*site.folder.glob("link*"), *elsewhere.iterdir())) == ["link.db"]
    itself = in_mounts(f"mount --bind {site.database} {alone}/tasks.db")
    answer = site.run(
        "doctor",
        *site.deeper,
        "doctor",
        code=None,
        within=itself,
        environment={"DEEPER_TASKS_URL": f"sqlite:///{alone}/tasks.db"},
    )
    assert "is mounted by itself" in answer, answer
    (site.store / "second.db").hardlink_to(site.database)
    answer = site.run("doctor", *site.deeper, "doctor", code=None)
    assert "has 2 names (hard links)" in answer, answer


SITUATION = Situation(
    name="file-names",
    plays="a SQLite file by a symbolic link and by a bind mount of its folder has the same locks and hints; of a bind "
    "mount of the file itself and of a hard link the doctor warns",
    needs=(NAMESPACES,),
    play=play,
)
