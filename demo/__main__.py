"""The command: `python -m demo`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.markup import escape

from demo.screen import Screen
from demo.session import DemoSession

_DESCRIPTION = """\
A small shop whose background work runs for real: an SMTP server, an HTTP API and
ffmpeg, worker processes of their own, and one SQLite file for the jobs.

  1  200 welcome mails, sent by SMTP
  2  a video, transcoded to mp4 and webm in child processes that report progress
  3  a nightly clean-up, recurring at 03:00 in Sao Paulo, and run once now
  4  40 products synced from an API that answers 503 at times: retries with
     backoff; one never succeeds, is looked at as a dead letter, and retried
     after the API is mended

In the middle a worker is killed with SIGKILL; others take over what it ran.
"""
_EPILOG = """\
It ends with a summary: what was expected, and what the mailbox, the files, the
rows and the records hold. The exit code is 0 if every check holds, 1 if
something differs, 2 if it cannot be started, and 130 after Ctrl-C.

To look around afterwards:

  python -m demo --keep run
  deeper list --url sqlite:///run/tasks.db
"""
_DIFFERS, _MISUSED, _INTERRUPTED = 1, 2, 130


def main() -> int:
    """Run the demo; returns its exit code."""
    arguments = _parser().parse_args()
    screen = Screen(is_plain=arguments.plain)
    try:
        with _folder(arguments.keep) as folder:
            return asyncio.run(_perform(folder, screen))
    except FileExistsError as error:
        screen.console.print(f"[red]{escape(str(error))}[/red]")
        return _MISUSED
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.console.print("interrupted: the workers are stopped, and nothing is left behind")
        return _INTERRUPTED


async def _perform(folder: Path, screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with DemoSession(folder) as session:
        # The tasks' manager reads its settings from the environment when it is imported.
        os.environ.update(session.site.to_environment())
        from demo.story import Story, StoryError

        try:
            with screen:
                checks = await Story(session, screen).run()
        except StoryError as error:
            screen.console.print(f"[bold red]{escape(str(error))}[/bold red]")
            _show_logs(session, screen)
            return _DIFFERS
        screen.show_verdict(checks)
        if all(check.holds for check in checks):
            return 0
        _show_logs(session, screen)
        return _DIFFERS


def _show_logs(session: DemoSession, screen: Screen) -> None:
    for worker in session.crew.members:
        screen.console.print(f"[bold]the last words of {worker.name}[/bold]")
        screen.console.print(escape(worker.last_words()))


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="deeper-tasks-demo-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    with suppress(FileNotFoundError):
        if any(kept.iterdir()):
            raise FileExistsError(f"{str(kept)!r} is not empty; give --keep a folder that is, or is not there yet")
    kept.mkdir(parents=True, exist_ok=True)
    yield kept.resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work in this folder and keep it: jobs, mails, videos, rows, logs"
    )
    parser.add_argument("--plain", action="store_true", help="plain lines instead of the live picture, as in a pipe")
    return parser


if __name__ == "__main__":
    sys.exit(main())
