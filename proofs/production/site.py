"""A site: a folder with a store and a journal, and processes of several users in it, which end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from proofs.production.journal import JOURNAL, NAME, Run, read_runs
from proofs.production.needs import Missing
from proofs.production.users import User

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

T = TypeVar("T")

_ROOT = Path(__file__).resolve().parents[2]
_APP = "proofs.production.app:manager"
_PATIENCE = 60.0
_LOOK = 0.01


class Process:
    """A process of the site, with all that it has said."""

    def __init__(self, popen: subprocess.Popen[bytes], *, log: Path) -> None:
        self.popen = popen
        self._log = log

    @property
    def said(self) -> str:
        """Its output and its errors."""
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """How it ended: negative for a signal, None while it runs."""
        return self.popen.poll()

    def wait(self, seconds: float = _PATIENCE) -> int:
        """Return the exit code when it has ended."""
        return self.popen.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and, where the command was wrapped in others, to all of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)


class Site:
    """
    A new folder that every user may enter, and what is started there.

    `url` is the store of all processes: the file `store/tasks.db` in the folder, until another is set. The folder
    `store` belongs to `owner`; everyone may write to the journal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.store = folder / "store"
        self.store.mkdir()
        self.database = self.store / "tasks.db"
        self.url = f"sqlite:///{self.database}"
        self.settings: dict[str, object] = {}
        """Settings of the manager in all processes that are started from now on."""
        self.journal = folder / "journal"
        self.journal.touch()
        self.journal.chmod(0o666)
        self._processes: list[Process] = []

    def give_store_to(self, user: User, *, group: int | None = None, mode: int = 0o755) -> None:
        """Make a user the owner of the store's folder."""
        os.chown(self.store, user.uid, user.gid if group is None else group)
        self.store.chmod(mode)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        user: User | None = None,
        within: Sequence[str] = (),
        environment: Mapping[str, str | None] | None = None,
        umask: int = 0o022,
    ) -> Process:
        """
        Start a command in the folder, as a user, `within` a namespace; runs of its handlers are journalled by `name`.

        In `environment` None takes a variable out.
        """
        as_user = () if user is None else user.words
        log = self.folder / f"log-{len(self._processes) + 1:02}-{name}"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [*within, *as_user, *map(str, command)],
                cwd=self.folder,
                env=self._environment(name, environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=umask,
            )
        process = Process(popen, log=log)
        self._processes.append(process)
        return process

    def start_worker(self, name: str, *options: str, app: str = _APP, **how: object) -> Process:
        """Start `deeper worker` with JSON logs, and return when it says that it has started; `how` as for `start`."""
        command = [*self.deeper, "worker", app, *options, "--json"]
        worker = self.start(name, command, **how)  # type: ignore[arg-type]
        self.wait_for(lambda: " started, serving " in worker.said or worker.exit_code is not None, f"start of {name}")
        assert worker.exit_code is None, f"{name} ended by itself with {worker.exit_code}: {worker.said}"
        return worker

    def run(self, name: str, *command: str | Path, code: int | None = 0, **how: object) -> str:
        """Run a command to its end and return what it said; AssertionError if its exit code is not `code`."""
        process = self.start(name, command, **how)  # type: ignore[arg-type]
        found = process.wait()
        assert code in {None, found}, f"{name} ended with {found}: {process.said}"
        return process.said

    def enqueue(self, task: str, *arguments: str, **how: object) -> str:
        """Enqueue by `deeper enqueue` a task of the application, as a user; returns what the command said."""
        return self.run("producer", *self.deeper, "enqueue", f"proofs.production.app.{task}", *arguments, **how)

    @property
    def deeper(self) -> tuple[str, ...]:
        """The words of the command `deeper`."""
        return (sys.executable, "-m", "deeper_tasks.cli")

    def runs(self) -> list[Run]:
        """Return all runs of handlers so far, in the order in which they began."""
        return read_runs(self.journal)

    def wait_for(self, condition: Callable[[], T], what: str, *, seconds: float = _PATIENCE) -> T:
        """Return what `condition` gives as soon as that is true; AssertionError names `what` was waited for."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"after {seconds:g} s still no {what}"
            time.sleep(_LOOK)
        return found

    @contextmanager
    def postgres(self, **settings: str) -> Iterator[PostgresServer]:
        """Start a PostgreSQL that belongs to a user who is not root, and make a database of it the store."""
        # Here, as the servers come from the tests, which an installed package does not have.
        from contextlib import closing

        from servers.installation import installations
        from servers.lifeline import is_open_to_all
        from servers.postgres import PostgresServer

        installation = installations()[0]
        if os.geteuid() == 0 and not is_open_to_all(installation.bin):
            copy = self.folder / "postgres"
            copy.mkdir()
            installation = installation.copy_to(copy)
        with closing(PostgresServer(installation, settings=settings)) as server, server.new_database() as url:
            self.url = url
            yield server

    def install(self, *requirements: str) -> Path:
        """
        Install packages with pip into a folder of the site, for PYTHONPATH; its `bin` has their programs.

        Raises:
            Missing: pip could not.
        """
        target = self.folder / "packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", target]
        done = subprocess.run([*map(str, pip), *requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"pip cannot install {' '.join(requirements)}: {done.stderr.strip().splitlines()[-1]}")
        return target

    def end(self) -> None:
        """Kill all that was started here."""
        for process in self._processes:
            process.send(signal.SIGCONT)
            process.send(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def _environment(self, name: str, changes: Mapping[str, str | None]) -> dict[str, str]:
        environment: dict[str, str | None] = {
            **os.environ,
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "DEEPER_TASKS_URL": self.url,
            **{f"DEEPER_TASKS_{setting.upper()}": str(value) for setting, value in self.settings.items()},
            JOURNAL: str(self.journal),
            NAME: name,
            **changes,
        }
        return {key: value for key, value in environment.items() if value is not None}


@contextmanager
def new_site() -> Iterator[Site]:
    """Make a site in a temporary folder, and end and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="deeper-production-") as folder:
        site = Site(Path(folder))
        try:
            yield site
        finally:
            site.end()
