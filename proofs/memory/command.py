"""The command `memory`: runs many jobs, and looks at what memory their worker and their producer have resident."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import click
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager

_ROOT = Path(__file__).resolve().parents[2]
_LOOK = 0.25
_STEPS = 10
_MEGABYTE = 1_000_000
_PATIENCE = 30.0
_WHO = ("worker", "processes", "producer")


class Sample(Struct, frozen=True, kw_only=True):
    """The resident memory, in bytes, when so much of the work was done (0 to 1)."""

    done: float
    worker: int
    processes: int
    """The processes that the worker has started for tasks, in the mean."""
    producer: int


@click.command("memory")
@click.option("--jobs", type=click.IntRange(min=1000), default=1_000_000, show_default=True)
@click.option("--mixed", "is_mixed", is_flag=True, help="Retries, errors, threads and processes among the no-op jobs.")
@click.option("--most-growth", default=8.0, show_default=True, help="Megabytes, over the second half of the jobs.")
@click.option(
    "--store-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the store lies."
)
def memory(jobs: int, most_growth: float, store_dir: Path | None, *, is_mixed: bool) -> None:
    """
    Run many jobs by one worker process, and show what memory it has, the processes of its tasks, and the producer.

    Printed at each tenth of the jobs. It fails when one of them has grown by more than so many megabytes
    between the sixth tenth and the last. The first half is for caches to fill (SQLite's pages: 32 MB), which
    takes some 200,000 jobs.
    """
    with tempfile.TemporaryDirectory(prefix="deeper-memory-", dir=store_dir) as folder:
        samples = asyncio.run(_run(Path(folder), jobs, is_mixed=is_mixed))
    growths = {who: _growth([getattr(each, who) for each in samples], samples) for who in _WHO}
    for who, growth in growths.items():
        click.echo(f"{who}: {growth:+.1f} MB over the second half")
    raise SystemExit(0 if max(growths.values()) <= most_growth else 1)


async def _run(folder: Path, jobs: int, *, is_mixed: bool) -> list[Sample]:
    url = f"sqlite:///{folder / 'tasks.db'}"
    worker = [
        "-m",
        "deeper_tasks.cli",
        "worker",
        "proofs.memory.app:manager",
        "--queues",
        "default:20",
        "--log-level",
        "error",
    ]
    producer = ["-m", "proofs.memory.producer", str(jobs), "mixed" if is_mixed else "plain"]
    samples: list[Sample] = []
    async with BackgroundTaskManager(url) as manager:
        with _process(producer, folder, url) as producing, _process(worker, folder, url) as working:
            done = 0
            while done < jobs:
                await asyncio.sleep(_LOOK)
                _check(working, producing)
                queue = (await manager.get_statistics()).queues.get("default")
                done = 0 if queue is None else queue.completed
                # A process that has ended, its work done, keeps what it had.
                producer_has = _resident(producing.pid) or samples[-1].producer
                forked = [_resident(pid) for pid in _descendants(working.pid)]
                samples.append(
                    Sample(
                        done=done / jobs,
                        worker=_resident(working.pid),
                        processes=sum(forked) // max(1, len(forked)),
                        producer=producer_has,
                    )
                )
                _tell(samples, jobs)
    return samples


def _check(working: subprocess.Popen[bytes], producing: subprocess.Popen[bytes]) -> None:
    if working.poll() is not None:
        raise click.ClickException(f"the worker ended by itself, with status {working.returncode}")
    if producing.poll():
        raise click.ClickException(f"the producer ended with status {producing.returncode}")


def _tell(samples: Sequence[Sample], jobs: int) -> None:
    last = samples[-1]
    before = samples[-2].done if len(samples) > 1 else 0.0
    if int(last.done * _STEPS) > int(before * _STEPS):
        resident = ", ".join(f"{who} {getattr(last, who) / _MEGABYTE:6.1f} MB" for who in _WHO)
        click.echo(f"{last.done:4.0%} of {jobs:,} jobs: {resident}")


def _growth(resident: Sequence[int], samples: Sequence[Sample]) -> float:
    """Return by how many megabytes the last tenth lies above the sixth."""
    sixth = [size for size, sample in zip(resident, samples, strict=True) if 0.5 <= sample.done < 0.6]
    last = [size for size, sample in zip(resident, samples, strict=True) if sample.done >= 0.9]
    if not sixth:
        raise click.ClickException("the jobs were done too fast to be watched; run more of them")
    return (mean(last) - mean(sixth)) / _MEGABYTE


def _resident(pid: int) -> int:
    """Return what a process has resident, in bytes; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return children + [each for child in children for each in _descendants(child)]


@contextmanager
def _process(arguments: Sequence[str], folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "DEEPER_TASKS_URL": url}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
