"""Web servers: those that fork in C, and those whose threads are greenlets, with a manager used before the fork."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from deeper_tasks import BackgroundTaskManager
from proofs.production.needs import GCC, POSTGRES
from proofs.production.site import Process, Site
from proofs.production.situation import Situation
from proofs.production.wsgi import USED

_APPLICATION = "proofs.production.wsgi:application"
_REQUESTS = 8
_SECONDS = 15
_UWSGI = (
    (),
    ("--lazy-apps",),
    ("--enable-threads",),
    ("--threads", "2"),
    ("--enable-threads", "--py-call-osafterfork"),
    ("--enable-threads", "--py-call-uwsgi-fork-hooks"),
    ("--gevent", "10", "--gevent-monkey-patch"),
)
_GUNICORN = (
    ("-k", "sync", "--preload"),
    ("-k", "gthread", "--threads", "2", "--preload"),
    ("-k", "gevent"),
    ("-k", "gevent", "--preload"),
)


def play_uwsgi(site: Site) -> None:
    """Request jobs of uWSGI as it forks by default, and as its options have it."""
    packages = site.install("uwsgi", "gevent")
    command = [packages / "bin" / "uwsgi", "--home", sys.prefix, "--master", "--processes", "2", "--need-app"]
    command += ["--die-on-term", "--module", _APPLICATION]
    _play(site, packages, [[*command, *options] for options in _UWSGI], bind="--http-socket")


def play_gunicorn(site: Site) -> None:
    """Request jobs of gunicorn, with threads and with greenlets."""
    packages = site.install("gunicorn", "gevent")
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--no-control-socket"]
    _play(site, packages, [[*command, *options, _APPLICATION] for options in _GUNICORN], bind="--bind")


def play_greenlets(site: Site) -> None:
    """Call a manager from greenlets, of each library, patched before and after its import, with a worker beside."""
    packages = site.install("gevent", "eventlet")
    for store in (nullcontext(), site.postgres()):
        with store, _worker(site):
            for library in ("gevent", "eventlet"):
                for order in ("before", "after"):
                    said = site.run(
                        f"{library}-{order}",
                        *(sys.executable, "-W", "ignore", "-m", "proofs.production.greenlets", library, order),
                        environment=_environment(packages),
                    )
                    assert "all is well" in said, said


def _play(site: Site, packages: Path, commands: Sequence[Sequence[str | Path]], *, bind: str) -> None:
    for store in (nullcontext(), site.postgres()):
        with store, _worker(site):
            for command in commands:
                _request_all(site, packages, command, bind=bind)


@contextmanager
def _worker(site: Site) -> Iterator[None]:
    """Have a worker beside, which hears of each job and runs it."""
    worker = site.start_worker("worker")
    yield
    worker.popen.terminate()
    assert worker.wait() == 0, worker.said


def _request_all(site: Site, packages: Path, command: Sequence[str | Path], *, bind: str) -> None:
    port = _free_port()
    manager = BackgroundTaskManager(site.url)
    before = _count(manager)
    address = f"127.0.0.1:{port}"
    server = site.start("server", [*command, bind, address], environment=_environment(packages) | {USED: "1"})
    site.wait_for(lambda: _answers(server, port), "server")
    answers = [json.loads(_request(port, server)) for _ in range(_REQUESTS)]
    jobs = {answer["job"] for answer in answers}
    assert len(jobs) == _REQUESTS, answers
    for job in jobs:
        manager.sync.result(job, timeout=_SECONDS)
    assert _count(manager) > before + _REQUESTS, server.said
    manager.sync.close()
    server.popen.terminate()
    server.wait()


def _request(port: int, server: Process) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=_SECONDS) as response:
            return bytes(response.read())
    except OSError as error:
        raise AssertionError(f"{' '.join(map(str, server.popen.args))}: {error}: {server.said}") from error


def _answers(server: Process, port: int) -> bool:
    assert server.exit_code is None, server.said
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _count(manager: BackgroundTaskManager) -> int:
    return manager.sync.list_tasks(per_page=1).total_entries


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(packages: Path) -> dict[str, str | None]:
    return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(packages)])}


UWSGI = Situation(
    name="uwsgi",
    plays="a manager is used, then uWSGI forks without hooks, with each of its options; every job of a request is run",
    needs=(GCC, POSTGRES),
    play=play_uwsgi,
)
GUNICORN = Situation(
    name="gunicorn",
    plays="a manager is used, then gunicorn forks workers with threads or greenlets; every job of a request is run",
    needs=(POSTGRES,),
    play=play_gunicorn,
)
GREENLETS = Situation(
    name="greenlets",
    plays="gevent or eventlet patches before or after the import, beside a worker: calls work, and workers are refused",
    needs=(POSTGRES,),
    play=play_greenlets,
)
