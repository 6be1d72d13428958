"""The manager: the one object that an application makes. It puts the parts together."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

import msgspec

from deeper_tasks import native
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.config import Settings, load_settings, redacted
from deeper_tasks.domain.redactor import Redact
from deeper_tasks.errors import ConfigError, HookError, UnsupportedError
from deeper_tasks.integrations.events import Event
from deeper_tasks.integrations.logs import LogSubscriber
from deeper_tasks.manager.areas import Queues
from deeper_tasks.manager.blocking import BlockingFacade
from deeper_tasks.manager.facade import Facade
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.unawaited import watch_calls
from deeper_tasks.manager.worker_settings import worker_settings
from deeper_tasks.tasks import Task, TaskOptions, check_patterns, make_task
from deeper_tasks.worker.collaborators import Collaborators, Declare, Middleware
from deeper_tasks.worker.home import Home, NoHomeError, find_place
from deeper_tasks.worker.hooks.hooks import Hook, check_hook
from deeper_tasks.worker.process.exits import confined_exits
from deeper_tasks.worker.process.stop_signals import stopped_by_signals, warn_without_init
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Hook)


class BackgroundTaskManager(Facade):
    """
    Enqueue work and forget it; watch it, cancel it, retry it.

    `url` names the store; further settings are those of `Settings`, by name. No
    file and no environment is read: `from_settings` does that. The store is
    opened at the first use, or by `async with manager:`, which also closes
    it. A manager may be used from several event loops and threads, and after a fork.

    Raises:
        ConfigError: a setting cannot be used; several at once as an ExceptionGroup.
    """

    def __init__(
        self, url: str | None = None, *, settings: Settings | None = None, backend: Backend | None = None, **values: Any
    ) -> None:
        super().__init__(
            settings=settings or load_settings(path=os.devnull, environ={}, url=url, **values), backend=backend
        )
        watch_calls(BackgroundTaskManager)
        watch_calls(Queues, prefix="queues.")
        LogSubscriber(tracebacks=self.settings.log_tracebacks).subscribe_to(self.events)
        self.redactor = self.core.redactor
        """Takes secrets out of texts, as its workers do with errors and logs; your code may call it too."""
        self._sync = BlockingFacade(self)
        self.place: str | None = None
        """Where it was imported from, `module:attribute`, if the command knows; child processes import it there."""
        for module in self.settings.include:
            self.include(module)

    def __repr__(self) -> str:
        return f"<BackgroundTaskManager {redacted(self.settings.url)}>"

    @classmethod
    def from_settings(cls, path: str | os.PathLike[str] | None = None, **values: Any) -> Self:
        """
        Return a manager with settings from a TOML file, then the environment, then `values`.

        The file is `deeper_tasks.toml`, or `[tool.deeper_tasks]` of `pyproject.toml`, in the working folder.

        Raises:
            ConfigError: a setting is unknown or cannot be used; several at once as an ExceptionGroup.
        """
        return cls(settings=load_settings(path=path, **values))

    def use_store(self, url: str, *, listen_url: str | None = None) -> None:
        """
        Work on another store than the one this manager was made with, before its first use.

        It is what `deeper worker --url` does: the tasks stay, the store changes, and with it its `listen_url`.

        Raises:
            ConfigError: the URL cannot be used, or this manager's store is open.
            UnsupportedError, InvalidOptionError: a task is transactional, and there it cannot be.
        """
        if self.core.parts.store.is_in_use:
            raise ConfigError(f"{self!r} has its store open; call use_store before its first use, or close it first")
        checked = load_settings(path=os.devnull, environ={}, url=url, listen_url=listen_url)
        self.core.move_to(msgspec.structs.replace(self.settings, url=checked.url, listen_url=checked.listen_url))

    @property
    def sync(self) -> BlockingFacade:
        """
        The same facade, blocking: for code that is not async. It works inside a running loop too.

        It has `open` and `close` (or `with manager.sync:`), `migrate`, and each function and namespace that enqueues,
        controls or reads, with the same arguments, results and errors. The calls run in a thread of its own, which the
        first call starts. They can be made from any other thread.
        """
        return self._sync

    # tasks

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """
        Register a function as a task: `@manager.task`, or `@manager.task(queue="emails", max_attempts=5)`.

        With `cron="0 3 * * *", timezone="Europe/Berlin"` the workers enqueue it by themselves.

        Raises:
            TaskError: the function cannot be a task.
            InvalidOptionError: names the option, its value and the way out.
            UnsupportedError: it is transactional, and the store has no transactions for jobs.
        """
        if function is not None:
            return self.core.tasks.register(make_task(function, **options))
        return lambda function: self.core.tasks.register(make_task(function, **options))

    def include(self, module: str | ModuleType, *, task_modules: str | Iterable[str] | None = None) -> list[AnyTask]:
        """
        Take in the tasks that `@task` marks in a module, or in a package; returns them.

        Of a package, `manager.include("shop")`, these are its own and those of the modules below it that are named as
        tasks': one part of the name fits one of `task_modules`, by default those of the settings, `tasks` and
        `*_tasks`. So `shop.mails.tasks` and `shop.tasks.mails` are imported, and `shop.views` is not. A pattern with a
        dot is for the whole name: `shop.work.*`. Tests, migrations and `__main__` are never taken below a package.

        Raises:
            InvalidOptionError: a pattern is none.
            TaskNotFoundError: a module cannot be imported.
            TaskError: another function has one of the names.
            UnsupportedError: a task is transactional, and the store has no transactions for jobs.
        """
        patterns = self.settings.task_modules if task_modules is None else check_patterns(task_modules)
        taken = self.registry.include(module, patterns=patterns)
        for task in taken:
            self.core.tasks.bind(task)
        return taken

    def middleware(self, function: Middleware) -> Middleware:
        """
        Have code run around each attempt in this manager's workers: the last added is the innermost.

        It is `async def around(job, proceed)`, where `job` is the `CurrentJob`; it
        awaits `proceed()` and returns what that returns. An exception from it fails the attempt.

        A timeout, a cancel, the end of a worker's grace period and a lost job interrupt it where it awaits, by a
        `CancelledError`. Before `proceed()` the attempt ends as that stop says, and its handler does not begin. After
        it the handler's end counts as `proceed()` gave it, and a WARNING names the middleware: what that would have
        made of it is not known. While the handler runs it is the handler that is interrupted; the middleware has 3
        seconds to tidy up after that, before it is interrupted too. In a quarantined child the process is killed.
        """
        self.core.middleware.append(function)
        return function

    def on_worker_start(self, function: H) -> H:
        """
        Have a function called by each worker of this manager at its start, before it claims.

        It is where pools and clients are opened. It may be async or not, and takes the `WorkerState` that jobs see as
        `current_job().state`, or nothing; a mapping that it returns is put into that state. Several run in the order
        in which they were added. A plain `def` runs in a thread, and what it blocks is not the worker.

        Each child process for jobs (`executor="process"`) calls it too, for itself, and finds it as it finds tasks: at
        the top level of a module. A hook that raises ends the start of the worker with HookError; in a child process
        it fails the attempt, which is tried again.

        Raises:
            ConfigError: it takes other arguments.
        """
        self.core.hooks.starts.append(check_hook(function))
        return function

    def on_worker_stop(self, function: H) -> H:
        """
        Have a function called by each worker of this manager at its end, after its last job.

        Called as those of `on_worker_start` are, and the last added first; what it returns means nothing. All
        together get ten seconds; one that raises or takes longer is logged.

        Raises:
            ConfigError: it takes other arguments.
        """
        self.core.hooks.stops.append(check_hook(function))
        return function

    def redact_with(self, function: Redact) -> Redact:
        """
        Have a function take secrets out of the texts that this manager's workers store and log.

        It is given a text (the message or traceback of an error, a line of a job's log, a log record's message)
        after the names and patterns of the settings have been applied, and returns it without its secrets; the last
        added comes last. Where it raises, or returns no text, the whole text is withheld.

        It is called in any thread, and for errors on the worker's event loop: it must not wait, for a slow one delays
        all jobs there, and one that hangs stops the worker. Child processes for jobs (`executor="process"`) find it
        as they find hooks: at the top level of a module.

        Raises:
            ConfigError: it is no plain function.
        """
        given: object = function
        if not callable(given) or inspect.iscoroutinefunction(function):
            raise ConfigError(f"a redacting function is a plain function of one text, not {function!r}")
        self.redactor.functions.append(function)
        return function

    def subscribe(self, subscriber: Callable[[Any], None], *kinds: type[Event]) -> Callable[[], None]:
        """
        Call `subscriber` with the events of these kinds, or of all; returns what ends it.

        It is called in the thread where the event happened and must not wait. The
        first error it raises is logged; other subscribers are called all the same.
        """
        return self.events.subscribe(subscriber, *kinds)

    # run

    async def run_worker(
        self,
        queues: Mapping[str, int] | None = None,
        *,
        name: str = "worker",
        handle_signals: bool = True,
        shutdown_grace_seconds: float | None = None,
        on_start: Callable[[Worker], None] | None = None,
    ) -> Worker:
        """
        Run jobs here until SIGTERM, SIGINT or SIGHUP, then finish what runs; a second signal gives it back at once.

        `queues` maps queues, or patterns of them such as `tenant-*`, to how many of their jobs run at once; by default
        those of the settings. `name` is what the lists of workers call it; `shutdown_grace_seconds` too takes the place
        of the setting. Signals are handled in the main thread only: elsewhere say `handle_signals=False`, and stop it
        by the `Worker.stop` of the worker that `on_start` is given. SIGHUP is left alone where it is ignored, as by
        `nohup`, or where your program handles it. Where they are blocked, they are unblocked until the worker has
        stopped. A SystemExit in a task that a job has started fails that job; in a callback, by `call_soon` or
        `call_later`, it ends your loop, as always in asyncio. Under `deeper worker` the loop goes on then too. A
        coroutine that blocks the loop for good holds up the stop of this worker too: only under `deeper worker` the
        process, which is the worker's own, is ended then. Returns the stopped worker. Its `stuck_because` is None if it
        was asked to stop; otherwise it says why the worker stopped: jobs that ignore their timeouts kept its slots, a
        part of it ended again and again, or its heartbeat did not work any more.

        Raises:
            HookError: a start hook failed; nothing was claimed.
        """
        if native.is_patched():
            raise UnsupportedError(
                f"a worker cannot run in a process where {native.patched_by()} has replaced threads by "
                "greenlets: start `deeper worker` in its own process, and patch only the process that serves requests"
            )
        await self.core.parts.store.ready_for_worker()
        settings = worker_settings(self.settings, queues, name=name, shutdown_grace_seconds=shutdown_grace_seconds)
        collaborators = self._collaborators(lambda: self.declare_recurring_tasks(queues=settings.queues))
        worker = Worker(collaborators, settings)
        warn_without_init()
        with (
            stopped_by_signals(worker) if handle_signals else nullcontext(),
            confined_exits(asyncio.get_running_loop()),
        ):
            if on_start is not None:
                on_start(worker)
            try:
                await worker.run()
            except HookError as error:
                # Its words are those of the application's exception.
                error.args = (self.redactor(str(error)),)
                raise
        return worker

    # inside

    def _home(self) -> Home:
        """Return where another process can import this manager. Raises NoHomeError."""
        if not self.backend.capabilities.is_shared:
            raise NoHomeError(f"{redacted(self.settings.url)} lives inside one process")
        modules = dict.fromkeys(task.module for task in self.registry if task.module is not None)
        place = self.place or find_place(self, first=modules)
        if place is None:
            raise NoHomeError("its manager is no attribute of a module that another process can import")
        return Home(place=place, url=self.settings.url, listen_url=self.settings.listen_url)

    def _collaborators(self, declare: Declare | None = None) -> Collaborators:
        """Return what a worker of this manager works with."""
        return Collaborators(
            backend=self.backend,
            registry=self.registry,
            bus=self.events,
            manager=self.identity,
            middleware=tuple(self.core.middleware),
            hooks=self.core.hooks,
            declare=declare,
            home=self._home,
            redactor=self.redactor,
            availability=self.availability,
        )

    def _enter_child(self, home: Home) -> tuple[Collaborators, WorkerSettings]:
        """Return what a child process, which has imported this manager from `home`, needs to run a job."""
        if (self.settings.url, self.settings.listen_url) != (home.url, home.listen_url):
            self.use_store(home.url, listen_url=home.listen_url)
        return self._collaborators(), worker_settings(self.settings)
