"""Jobs from a file: reads a JSON object from each line, checks all lines, then enqueues the jobs."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from typing import IO, Any, TypeVar

import click
import msgspec
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager, EnqueueOptions, Task, TaskCall, TaskId
from deeper_tasks.cli.parameters import moment
from deeper_tasks.cli.rendering.formats import jobs
from deeper_tasks.cli.rendering.progress import progress_bar
from deeper_tasks.cli.target import Target
from deeper_tasks.domain.view import View
from deeper_tasks.errors import BackendUnavailableError, DeeperTasksError, DuplicateJobError, InvalidOptionError
from deeper_tasks.manager.given_ids import GivenIds
from deeper_tasks.tasks import parse_moment, unknown_option
from deeper_tasks.tasks.quoting import quoted

T = TypeVar("T")

_AT_ONCE = 1_000
"""Lines that become jobs in one transaction."""
_LONGEST_LINE = 16 * 1024 * 1024
_LONGEST_QUOTE = 120
_MOST_FAULTS = 20
"""The number of wrong lines that get a message of their own."""
_HALF_CHARACTER = re.compile(
    rb"(?<!\\)(?:\\\\)*"
    rb"(\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..)"
)
_BYTE = re.compile(r" \(byte (\d+)\)")
_OPTIONS = sorted(EnqueueOptions.__annotations__.keys() - {"connection", "enqueue_patience_seconds"})
_KEYS = ["task", "args", "kwargs", "scheduled_at", *_OPTIONS]


class _Line(Struct):
    """The fields of a line besides the options."""

    task: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    scheduled_at: str | None = None


class Defaults(Struct, frozen=True, kw_only=True):
    """The task, the options and the due time of the command line, which a line may override."""

    task: str | None
    options: dict[str, Any]
    scheduled_at: datetime | None


class Enqueued(View, frozen=True, kw_only=True):
    """The answer: the number of jobs that are new, and the number that existed already."""

    enqueued: int
    existing: int


class LineReader:
    """Reads the lines of a file and turns them into calls; holds one line in memory, and skips blank ones."""

    def __init__(
        self, file: IO[bytes], name: str, *, defaults: Defaults, find: Callable[[str], Task[..., Any]]
    ) -> None:
        self._file = file
        self.name = name
        self._defaults = defaults
        self._find = find
        self._tasks: dict[str, Task[..., Any]] = {}
        self.length = 0
        """The number of lines that were read so far."""

    def lines(self, *, first: int, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the lines from `first` to `last`, each with its number. A line that is too long is cut."""
        self._file.seek(0)
        self.length = 0
        while self.length != last and (line := self._file.readline(_LONGEST_LINE + 1)):
            rest = line
            while len(rest) > _LONGEST_LINE and not rest.endswith(b"\n"):
                rest = self._file.readline(_LONGEST_LINE + 1)
            self.length += 1
            if self.length >= first and (text := line.removeprefix(b"\xef\xbb\xbf").rstrip()):
                yield self.length, text

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Add the file and the line to the message of an error inside the `with`."""
        try:
            yield
        except DeeperTasksError as error:
            # The same exception, not a new one: its class decides the exit code.
            error.args = (f"{self.name}:{number}: {error}",)
            raise

    def call(self, number: int, text: bytes) -> TaskCall:
        """
        Return the call that a line describes.

        Raises:
            DeeperTasksError: the line is wrong; the message begins with the file and the line.
        """
        with self.at(number):
            if len(text) > _LONGEST_LINE:
                raise InvalidOptionError(f"the line is longer than {_LONGEST_LINE // 1024**2} MiB")
            return self._call(text)

    def _call(self, text: bytes) -> TaskCall:
        fields = _read(text, dict[str, Any])
        line = _read(text, _Line)
        options = {key: value for key, value in fields.items() if key not in _Line.__struct_fields__}
        for key in options:
            if key not in _OPTIONS:
                raise InvalidOptionError(unknown_option(key, dict.fromkeys(_KEYS)))
        if line.scheduled_at is not None and options.get("delay_seconds") is not None:
            raise InvalidOptionError("'scheduled_at' and 'delay_seconds' exclude each other; leave one of them out")
        name = line.task or self._defaults.task
        if name is None:
            raise InvalidOptionError(
                'the line names no task; add "task": "myapp.tasks.send", or name a TASK for all lines'
            )
        bound = self._task(name).with_options(**self._defaults.options)
        with _values_as_json(options):
            bound = bound.with_options(**options)
        call = bound.call(*line.args, **line.kwargs)
        due = None if line.scheduled_at is None else _moment(line.scheduled_at)
        if due is None and options.get("delay_seconds") is None:
            due = self._defaults.scheduled_at
        return call if due is None else msgspec.structs.replace(call, scheduled_at=parse_moment(due))

    def _task(self, name: str) -> Task[..., Any]:
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._find(name)
        return task


class LineEnqueuer:
    """Checks the calls of all lines from `first` on, then enqueues them in transactions of a thousand."""

    def __init__(self, target: Target, manager: BackgroundTaskManager, reader: LineReader, *, first: int) -> None:
        self._target = target
        self._manager = manager
        self._reader = reader
        self._first = first
        self._next = self._unsure = first
        """The line after those that are enqueued for certain, and the line after those that may be enqueued."""
        self._faults: list[DeeperTasksError] = []
        self._wrong = 0

    def run(self) -> Enqueued:
        """
        Check all lines, then enqueue their jobs.

        Raises:
            ExceptionGroup: several lines are wrong, and no job was enqueued; it has the first 20 errors, and the number
                of the others.
            DeeperTasksError: one line is wrong, and no job was enqueued; or the store refused a batch or did not
                answer, and the message says which lines are enqueued.
            KeyboardInterrupt: Ctrl-C; its message says which lines are enqueued.
        """
        try:
            count, last = self._check()
            return self._enqueue_all(count, last)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (self._state(),)
            raise

    def _enqueue_all(self, count: int, last: int) -> Enqueued:
        new = done = 0
        with progress_bar(self._target, "enqueuing", total=lambda: count) as on_progress:
            for lines in _batches(self._reader.lines(first=self._first, last=last)):
                ids = self._enqueue(lines)
                new, done = new + sum(each.is_new for each in ids), done + len(ids)
                on_progress(done)
        return Enqueued(enqueued=new, existing=done - new)

    def _check(self) -> tuple[int, int]:
        """Check all lines; return the number of calls, and the line of the last."""
        count = last = 0
        ids = GivenIds(name=lambda number: f"line {number}")
        with progress_bar(self._target, "checking") as on_progress:
            for number, text in self._reader.lines(first=self._first):
                try:
                    self._check_line(number, text, ids)
                except DeeperTasksError as error:
                    self._note(error)
                count, last = count + 1, number
                if count % _AT_ONCE == 0:
                    on_progress(count)
        self._refuse_wrong_lines()
        if self._first > max(self._reader.length, 1):
            raise InvalidOptionError(
                f"--start-line {self._first} is beyond the end of {self._reader.name}; "
                f"its last line is {self._reader.length}"
            )
        return count, last

    def _check_line(self, number: int, text: bytes, ids: GivenIds) -> None:
        call = self._reader.call(number, text)
        with self._reader.at(number):
            self._manager.check_call(call)
            if (job_id := call.request.task_id) is not None:
                ids.add(job_id, call.task.name, _content(call, self._manager), place=number)

    def _note(self, error: DeeperTasksError) -> None:
        self._wrong += 1
        if self._wrong <= _MOST_FAULTS:
            # Its traceback would keep the line and its call in memory.
            self._faults.append(error.with_traceback(None))

    def _refuse_wrong_lines(self) -> None:
        if self._wrong == 1:
            [fault] = self._faults
            fault.args = (f"{fault}; {self._state()}",)
            raise fault
        if self._wrong:
            more = f"{self._wrong - _MOST_FAULTS} more, " if self._wrong > _MOST_FAULTS else ""
            summary = InvalidOptionError(f"{more}{self._wrong} lines of {self._reader.name} are wrong; {self._state()}")
            raise ExceptionGroup("wrong lines", [*self._faults, summary])

    def _enqueue(self, lines: list[tuple[int, bytes]]) -> list[TaskId]:
        batch: list[tuple[int, TaskCall]] = []
        try:
            batch.extend((number, self._reader.call(number, text)) for number, text in lines)
            self._unsure = lines[-1][0] + 1
            ids = self._manager.sync.enqueue_many([call for _, call in batch])
        except DeeperTasksError as error:
            if not isinstance(error, BackendUnavailableError):
                self._unsure = self._next
            error.args = (f"{_in_lines(error, batch, self._reader.name)}; {self._state()}",)
            raise
        self._next = self._unsure
        return ids

    def _state(self) -> str:
        """Return the sentence that says which lines are enqueued, which may be, and with which line to continue."""
        unsure = f"lines {self._next} to {self._unsure - 1}"
        way_on = f"continue with --start-line {self._next}"
        if self._next == self._first:
            if self._unsure == self._next:
                return "no job was enqueued"
            return f"it is unknown whether {unsure} are enqueued; check that before you {way_on}"
        done = f"lines {self._first} to {self._next - 1} are enqueued"
        if self._unsure == self._next:
            return f"{done}; {way_on}"
        return f"{done}, and {unsure} may be; check that before you {way_on}"


@contextmanager
def _values_as_json(options: dict[str, Any]) -> Iterator[None]:
    """Inside the `with`, let an error about an option quote its value in JSON, as in the line, not in Python."""
    try:
        yield
    except InvalidOptionError as error:
        for name, value in options.items():
            before, found, after = str(error).partition(f"option {name!r} cannot be {quoted(value)}")
            if found and not before and isinstance(value, bool | list | dict):
                written = msgspec.json.encode(value).decode()
                error.args = (f"option {name!r} cannot be {textwrap.shorten(written, _LONGEST_QUOTE)}{after}",)
        raise


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except click.BadParameter as error:
        raise InvalidOptionError(f"option 'scheduled_at': {error.message}") from error


def _content(call: TaskCall, manager: BackgroundTaskManager) -> str:
    """Return the arguments of a checked call in the form in which the store would keep them."""
    return call.task.signature.encode(
        call.args, call.kwargs, max_bytes=manager.settings.max_argument_bytes, are_compared=False
    )


def _in_lines(error: DeeperTasksError, batch: list[tuple[int, TaskCall]], name: str) -> str:
    """Return the message about a batch; if one line is the cause, with that line in it."""
    if isinstance(error, DuplicateJobError):
        for index, (number, call) in enumerate(batch):
            if call.request.task_id == error.request_id:
                return f"{name}:{number}: {str(error).removeprefix(f'calls[{index}]: ')}; correct that line first"
    return str(error)


@contextmanager
def opened_lines(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """
    Yield a file that can be read twice, and its name for messages; the path `-` is the standard input.

    A source that can be read only once, such as a pipe, is copied to a temporary file.

    Raises:
        InvalidOptionError: the file cannot be read.
    """
    name = "stdin" if path == "-" else path
    with ExitStack() as files:
        try:
            file: IO[bytes] = sys.stdin.buffer if path == "-" else files.enter_context(open(path, "rb"))  # noqa: PTH123 - /dev/fd/… too
            if path == "-" or not file.seekable():
                copy = files.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, copy)
                file = copy
        except KeyboardInterrupt as interrupt:
            interrupt.args = ("no job was enqueued",)
            raise
        except OSError as error:
            raise InvalidOptionError(
                f"{name} cannot be read: {error.strerror}; name a file with a JSON object on each line"
            ) from error
        yield file, name


def _batches(calls: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(calls, _AT_ONCE)):
        yield batch


def _read(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidOptionError(
            f'the line cannot be read: {_reason(error, text)}; write an object such as {{"args": [42]}}'
        ) from error


def _reason(error: Exception, text: bytes) -> str:
    """Return the fault of a line with its column; the decoder gives a byte offset from 0, or no position at all."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (column {_column(text, error.start)})"
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        return message
    if half := _HALF_CHARACTER.search(text):
        return f"{half[1].decode()} is half a character; write both halves (column {_column(text, half.start(1))})"
    if found := _BYTE.search(message):
        return f"{message[: found.start()]} (column {_column(text, int(found[1]))})"
    return f"it ends too early (column {_column(text, len(text))})" if "truncated" in message else message


def _column(text: bytes, offset: int) -> int:
    return len(text[:offset].decode(errors="replace")) + 1


def describe(answer: Enqueued) -> str:
    """Return the answer as a sentence."""
    if not answer.existing:
        return f"{jobs(answer.enqueued)} enqueued"
    return f"{jobs(answer.enqueued)} enqueued; {jobs(answer.existing)} existed already"
