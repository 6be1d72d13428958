"""The health of a worker, seen from outside over HTTP and by its file."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from workshop import tasks
from workshop.fleet import Fleet

pytestmark = pytest.mark.timeout(120)

READY = (200, {"ready": True, "status": "ok"})
UNREADY = (503, {"ready": False, "status": "unready"})
STOPPING = (503, {"ready": False, "status": "stopping"})


def _check(path, *words):
    """Run `deeper health` on a file; returns its exit code and its answer."""
    command = [sys.executable, "-m", "deeper_tasks.cli", "health", "--file", str(path), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(params=["alone", "supervised"])
def make_fleet(request, crew, wait_until):
    async def make_fleet(*options, **settings):
        if request.param == "supervised":
            options = ("--processes", "2", *options)
        made = Fleet(crew, *options, **settings)
        await wait_until(lambda: made.ask("/ready") == READY and made.is_ready())
        return made

    return make_fleet


async def test_a_worker_whose_store_is_locked_is_not_ready_and_ready_again_after(crew, wait_until, make_fleet):
    made = await make_fleet(url=f"{crew.url}?timeout=2")
    with closing(sqlite3.connect(crew.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        await wait_until(lambda: made.ask("/ready") == UNREADY, seconds=60)
        assert made.ask()[0] == 503
        # To restart it would not help.
        assert made.ask("/live") == (200, {"live": True})
        assert set(made.statuses()) == {"unready"}
        connection.execute("ROLLBACK")
    await wait_until(lambda: made.ask("/ready") == READY, seconds=60)
    assert made.member.stop() == 0


async def test_a_worker_that_drains_is_not_ready_while_its_jobs_end(crew, manager, wait_until, make_fleet):
    go = crew.folder / "go"
    made = await make_fleet()
    job = await manager.enqueue_task(tasks.wait_for, args=[str(go)])
    await wait_until(lambda: sum(process["busy"] for process in made.ask()[1]["processes"]) == 1)
    made.member.send(signal.SIGTERM)
    await wait_until(lambda: made.ask("/ready") == STOPPING)
    assert made.ask("/live") == (200, {"live": True})
    go.touch()
    assert made.member.process.wait(30) == 0
    assert made.ask("/ready")[0] == 0
    assert (await manager.get_task_status(job)).status == "completed"


async def test_a_worker_whose_queue_is_paused_is_ready(crew, manager, wait_until, make_fleet):
    made = await make_fleet(silence_limit_seconds=4)
    await manager.queues.pause("default")
    job = await manager.enqueue_task(tasks.nap)
    beats = {record.node.id: record.beat for record in await manager.backend.nodes()}

    async def have_beaten():
        return all(record.beat > beats[record.node.id] for record in await manager.backend.nodes())

    await wait_until(have_beaten)
    assert made.ask("/ready") == READY
    await manager.queues.resume("default")
    await manager.result(job, timeout=30)
    assert made.member.stop() == 0


async def test_a_worker_whose_loop_is_blocked_lives_and_tells_for_how_long(crew, manager, wait_until, make_fleet):
    go = crew.folder / "go"
    made = await make_fleet(silence_limit_seconds=4)
    before = [process["pid"] for process in made.ask()[1]["processes"]]
    job = await manager.enqueue_task(tasks.block_once, args=[str(go)])
    # Longer than the limit for silence: the loop is blocked, and the process is not silent.
    await wait_until(lambda: max(each["loop_lag_seconds"] for each in made.ask()[1]["processes"]) > 5)
    assert made.ask("/live") == (200, {"live": True})
    assert [process["pid"] for process in made.ask()[1]["processes"]] == before
    go.touch()
    assert await manager.result(job, timeout=30) == "attempt 1"
    await wait_until(lambda: made.ask("/ready") == READY and made.is_ready())
    assert made.member.stop() == 0


async def test_the_file_is_there_and_fresh_while_the_worker_is_ready(crew, wait_until, make_fleet):
    path = crew.folder / "health.json"
    path.write_text("of somebody who was killed")
    made = await make_fleet("--health-file", str(path), url=f"{crew.url}?timeout=2")
    await wait_until(lambda: path.exists() and json.loads(path.read_text())["status"] == "ok")
    assert json.loads(path.read_text())["pid"] == made.member.pid
    first = path.stat().st_mtime_ns
    await wait_until(lambda: path.stat().st_mtime_ns > first)
    code, answer = _check(path)
    assert (code, answer["ready"]) == (0, True)
    with closing(sqlite3.connect(crew.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        await wait_until(lambda: time.time() - path.stat().st_mtime > 4, seconds=60)
        assert _check(path, "--max-age", "4")[0] == 1
        connection.execute("ROLLBACK")
    await wait_until(lambda: time.time() - path.stat().st_mtime < 2)
    assert _check(path)[0] == 0
    assert made.member.stop() == 0
    assert list(crew.folder.glob("*health*")) == []
    assert _check(path)[0] == 1


async def test_the_port_is_free_again_when_a_killed_worker_has_left_a_fork_behind(crew, manager, wait_until):
    first = Fleet(crew)
    await wait_until(first.is_ready)
    await manager.enqueue_task(tasks.leave_a_fork)
    await wait_until(lambda: crew.journal("fork"))
    first.member.kill()
    port = first.banner["health"].rpartition(":")[2].removesuffix("/health")
    second = Fleet(crew, "--health-port", port)
    await wait_until(second.is_ready)
    assert second.ask("/ready") == READY


async def test_what_listens_already_is_told_in_one_message(crew, wait_until):
    made = Fleet(crew)
    await wait_until(made.is_ready)
    port = made.banner["health"].rpartition(":")[2].removesuffix("/health")
    second = crew.start("deeper_tasks.cli", "worker", "workshop.fleet:manager", "--health-port", port)
    assert second.process.wait(30) == 2
    (event,) = second.events()
    assert f"deeper: health cannot be served on '127.0.0.1', port {port}: Address already in use" in event["message"]
