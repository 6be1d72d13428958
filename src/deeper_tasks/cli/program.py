"""The program: the group of all commands, and how each of their failures ends: a line on stderr and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import click

from deeper_tasks.cli.habits import our_command, our_options
from deeper_tasks.cli.process.streams import as_encodable, drop, is_of_output, prepare_streams
from deeper_tasks.cli.rendering.output import safe
from deeper_tasks.cli.shells import know_shells
from deeper_tasks.domain.view import to_json
from deeper_tasks.errors import (
    AccessError,
    AmbiguousIdError,
    BackendUnavailableError,
    ConfigError,
    DeeperTasksError,
    InvalidOptionError,
    JobNotFoundError,
    ScheduleNotFoundError,
    SchemaError,
    TaskNotFoundError,
)


class ExitCode(IntEnum):
    """What the end of the command means."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    STORE = 4
    STUCK = 75
    INTERRUPTED = 130
    CUT_OFF = 141


EXIT_CODES = """\b
Exit codes:
  0    done
  1    the request was refused, for example because of the job's state, or
       the answer could not be written;
       of doctor: it found an error; of demo: it did not end as it should;
       of a worker: a start hook failed, or it could not stop in order
  2    the command line or a setting is wrong, or a short id is several jobs'
  3    there is no such job, task or recurring task
  4    the store cannot be reached, its schema does not fit, or its user
       lacks a right
  75   of a worker: it could not go on, for jobs ignored their timeouts or
       blocked the event loop for too long, or a part of it failed again and
       again; start the worker again
  130  interrupted by Ctrl-C
  141  the reader of the output has gone, as in 'deeper list | head'"""

_CODES: tuple[tuple[tuple[type[DeeperTasksError], ...], ExitCode], ...] = (
    ((ConfigError, InvalidOptionError, AmbiguousIdError), ExitCode.USAGE),
    ((JobNotFoundError, TaskNotFoundError, ScheduleNotFoundError), ExitCode.NOT_FOUND),
    ((BackendUnavailableError, SchemaError, AccessError), ExitCode.STORE),
    ((DeeperTasksError,), ExitCode.REFUSED),
)


class OutputError(click.ClickException):
    """The answer cannot be written."""


class Program(click.Group):
    """The commands. Whatever fails says so in a line `deeper: …`; with `--json`, in a JSON object."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command that `args` name, and exit with its code."""
        know_shells()
        prepare_streams()
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            code = super().main(given, prog_name or self.name, *rest, **extra)
        except click.ClickException as error:
            code = tell(_in_our_words(error, given), as_json="--json" in given)
        except click.Abort as abort:
            # The terminal shows ^C where the cursor was. Click goes on to the next line, but not at a question.
            told = "; ".join(("deeper: interrupted", *_last_words(abort.__cause__)))
            click.echo(told if abort.__cause__ else f"\n{told}", err=True)
            # From here: what was interrupted lives on until the process ends, and says nothing of its end.
            sys.exit(ExitCode.INTERRUPTED)
        except (DeeperTasksError, ExceptionGroup) as error:
            code = tell(error, as_json="--json" in given)
        except OSError as error:
            if not is_of_output(error):
                raise
            code = tell(OutputError(f"the answer cannot be written: {error.strerror}"), as_json="--json" in given)
            drop(sys.stdout)
            drop(sys.stderr)
        sys.exit(code or ExitCode.DONE)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; of another library's name the one that takes its place."""
        hint = our_command(args[0])
        if hint is not None and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; end quietly when whoever read its answer has gone."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop(sys.stdout)
            return ExitCode.CUT_OFF


class CommandGroup(click.Group):
    """Commands about one thing; without a command's name the first of them, `list`, is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` before what is not a command's name."""
        is_asking = not ctx.resilient_parsing and not set(args[:1]) & set(ctx.help_option_names)
        if is_asking and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the commands in the order they were added: the likeliest first."""
        return list(self.commands)


def _in_our_words(error: click.ClickException, given: Sequence[str]) -> click.ClickException:
    """Return an error that, of another library's option, says what takes its place."""
    if not isinstance(error, click.NoSuchOption):
        return error
    hint = our_options(error.ctx, error.option_name, given)
    return error if hint is None else click.UsageError(f"there is no option {error.option_name!r}: {hint}")


def _last_words(interrupt: BaseException | None) -> tuple[str, ...]:
    """Return what a command says of its work that was interrupted."""
    return interrupt.args if isinstance(interrupt, KeyboardInterrupt) else ()


def tell(error: Exception, *, as_json: bool) -> ExitCode:
    """
    Write on stderr what is wrong, a line for each fault; returns the exit code.

    What is no error of the command line or of ours is raised again: it is a bug, and its traceback is wanted.
    """
    code = ExitCode.DONE
    for fault in _faults(error):
        code = _code(fault)
        # Where stderr cannot be written either, the exit code is what is left to tell.
        with suppress(OSError):
            click.echo(_told(fault, code, as_json=as_json), err=True)
    return code


def _told(fault: click.ClickException | DeeperTasksError, code: ExitCode, *, as_json: bool) -> str:
    message = _message(fault)
    if not as_json:
        return f"deeper: {safe(message)}"
    answer: dict[str, Any] = {"error": type(fault).__name__, "message": message, "exit_code": int(code)}
    if isinstance(fault, AmbiguousIdError):
        answer["candidates"] = fault.candidates
    return as_encodable(to_json(answer), sys.stderr)


def _faults(error: Exception) -> Iterator[click.ClickException | DeeperTasksError]:
    if isinstance(error, click.ClickException | DeeperTasksError):
        yield error
    elif isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _faults(inner)
    else:
        raise error


def _code(fault: click.ClickException | DeeperTasksError) -> ExitCode:
    if isinstance(fault, click.ClickException):
        return ExitCode(fault.exit_code)
    return next(code for kinds, code in _CODES if isinstance(fault, kinds))


def _message(fault: click.ClickException | DeeperTasksError) -> str:
    text = fault.format_message() if isinstance(fault, click.ClickException) else str(fault)
    line = " ".join(text.split())
    if isinstance(fault, click.UsageError) and fault.ctx is not None:
        return f"{line.rstrip('.')}; see '{fault.ctx.command_path} --help'"
    return line
