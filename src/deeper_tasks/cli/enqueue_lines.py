"""Jobs from a file: each line an object of JSON, all of them checked before the first is enqueued."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from typing import IO, Any, TypeVar

import click
import msgspec
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager, EnqueueOptions, Task, TaskCall, TaskId
from deeper_tasks.cli.output import jobs
from deeper_tasks.cli.progress import progress_bar
from deeper_tasks.cli.target import Target
from deeper_tasks.domain.view import View
from deeper_tasks.errors import BackendUnavailableError, DeeperTasksError, InvalidOptionError
from deeper_tasks.tasks import parse_moment, unknown_option

T = TypeVar("T")

_AT_ONCE = 1_000
"""Lines that become jobs in one transaction."""
_LONGEST_LINE = 16 * 1024 * 1024
_OPTIONS = sorted(EnqueueOptions.__annotations__.keys() - {"connection"})
_KEYS = ["task", "args", "kwargs", "scheduled_at", *_OPTIONS]


class _Line(Struct):
    """The fields that a line may have beside options."""

    task: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    scheduled_at: datetime | None = None


class Defaults(Struct, frozen=True, kw_only=True):
    """The options of the command line, for every line that has none of its own."""

    task: str | None
    options: dict[str, Any]
    scheduled_at: datetime | None


class Enqueued(View, frozen=True, kw_only=True):
    """The answer: `enqueued` jobs are new, `existing` were there already."""

    enqueued: int
    existing: int


class LineReader:
    """
    The calls that the lines of a file ask for. Only one line is in memory at a time; blank lines are left out.

    Raises, for a line that asks for none:
        DeeperTasksError: of the kind of what is wrong; the message begins with the file and the line.
    """

    def __init__(
        self, file: IO[bytes], name: str, *, defaults: Defaults, find: Callable[[str], Task[..., Any]]
    ) -> None:
        self._file = file
        self._name = name
        self._defaults = defaults
        self._find = find
        self._tasks: dict[str, Task[..., Any]] = {}

    def calls(self, *, first: int, last: int | None = None) -> Iterator[tuple[int, TaskCall]]:
        """Yield the calls of the lines from `first` to `last`, each with the number of its line."""
        self._file.seek(0)
        number = 0
        while number != last and (line := self._file.readline(_LONGEST_LINE + 1)):
            number += 1
            with self.at(number):
                if len(line) > _LONGEST_LINE:
                    raise InvalidOptionError(f"the line is longer than {_LONGEST_LINE // 1024**2} MiB")
                if number >= first and (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
                    yield number, self._call(text)

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Have an error inside the `with` name a line."""
        try:
            yield
        except DeeperTasksError as error:
            # Its class stays, which decides about the exit code.
            error.args = (f"{self._name}:{number}: {error}",)
            raise

    def _call(self, text: bytes) -> TaskCall:
        said = _read(text, dict[str, Any])
        line = _read(text, _Line)
        options = {key: value for key, value in said.items() if key not in _Line.__struct_fields__}
        for key in options:
            if key not in _OPTIONS:
                raise InvalidOptionError(unknown_option(key, dict.fromkeys(_KEYS)))
        if line.scheduled_at is not None and options.get("delay_seconds") is not None:
            raise InvalidOptionError("'scheduled_at' and 'delay_seconds' exclude each other; leave one of them out")
        name = line.task or self._defaults.task
        if name is None:
            raise InvalidOptionError(
                'the line names no task; add "task": "myapp.tasks.send", or name one for all lines'
            )
        bound = self._task(name).with_options(**self._defaults.options).with_options(**options)
        call = bound.call(*line.args, **line.kwargs)
        moment = line.scheduled_at
        if moment is None and options.get("delay_seconds") is None:
            moment = self._defaults.scheduled_at
        return call if moment is None else msgspec.structs.replace(call, scheduled_at=parse_moment(moment))

    def _task(self, name: str) -> Task[..., Any]:
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._find(name)
        return task


class LineEnqueuer:
    """Enqueues the calls of all lines from `first` on, in transactions of a thousand, once all of them were checked."""

    def __init__(self, target: Target, manager: BackgroundTaskManager, reader: LineReader, *, first: int) -> None:
        self._target = target
        self._manager = manager
        self._reader = reader
        self._first = first
        self._next = first
        """The line that follows on those that are jobs by now."""

    def run(self) -> Enqueued:
        """
        Check, then enqueue.

        Raises:
            DeeperTasksError: a line is wrong, and nothing was enqueued; or the store refused a batch, or did not
                answer, and the message says which lines are jobs by now.
        """
        count, last = self._check()
        new = done = 0
        with progress_bar(self._target, "enqueuing", total=lambda: count) as tell:
            for batch in _batches(self._reader.calls(first=self._first, last=last)):
                ids = self._enqueue(batch)
                self._next = batch[-1][0] + 1
                new, done = new + sum(each.is_new for each in ids), done + len(ids)
                tell(done)
        return Enqueued(enqueued=new, existing=done - new)

    def _check(self) -> tuple[int, int]:
        """Return how many calls there are, and the line of the last."""
        count = last = 0
        with progress_bar(self._target, "checking") as tell:
            for number, call in self._reader.calls(first=self._first):
                with self._reader.at(number):
                    self._manager.check_call(call)
                count, last = count + 1, number
                if count % _AT_ONCE == 0:
                    tell(count)
        return count, last

    def _enqueue(self, batch: list[tuple[int, TaskCall]]) -> list[TaskId]:
        last = batch[-1][0]
        try:
            return self._manager.sync.enqueue_many([call for _, call in batch])
        except DeeperTasksError as error:
            unsure = last if isinstance(error, BackendUnavailableError) else None
            error.args = (f"{error}; {self._state(unsure)}",)
            raise
        except KeyboardInterrupt:
            click.echo(f"deeper: {self._state(last)}", err=True)
            raise

    def _state(self, unsure: int | None) -> str:
        """Return which lines are jobs; those up to `unsure` may be."""
        done = (
            f"lines {self._first} to {self._next - 1} are enqueued"
            if self._next > self._first
            else "nothing is enqueued"
        )
        if unsure is None:
            return f"{done}; go on with --start-line {self._next}"
        return (
            f"{done}, and lines {self._next} to {unsure} may be; look before you go on with --start-line {self._next}"
        )


@contextmanager
def opened_lines(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """
    Yield a file that can be read twice, and its name in messages; `-` is the standard input.

    A source that cannot be read twice, such as a pipe, is copied to a temporary file.

    Raises:
        InvalidOptionError: it cannot be read.
    """
    name = "stdin" if path == "-" else path
    with ExitStack() as files:
        try:
            file: IO[bytes] = sys.stdin.buffer if path == "-" else files.enter_context(open(path, "rb"))  # noqa: PTH123 - /dev/fd/… too
            if path == "-" or not file.seekable():
                copy = files.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, copy)
                file = copy
        except OSError as error:
            raise InvalidOptionError(
                f"{name} cannot be read: {error.strerror}; name a file of lines of JSON"
            ) from error
        yield file, name


def _batches(calls: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(calls, _AT_ONCE)):
        yield batch


def _read(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidOptionError(f'the line cannot be read: {error}; write {{"args": [42]}}, for example') from error


def told(answer: Enqueued) -> str:
    """Return an answer in words."""
    if not answer.existing:
        return f"{jobs(answer.enqueued)} enqueued"
    return f"{jobs(answer.enqueued)} enqueued; {jobs(answer.existing)} there already"
