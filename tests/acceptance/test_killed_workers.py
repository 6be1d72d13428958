"""Workers that are killed lose no job, and run none twice at a time."""

import os
import random
import signal
from collections import defaultdict
from itertools import pairwise

import pytest
from workshop import elsewhere, tasks
from workshop.crew import STORES, is_alive, parent_of

from deeper_tasks import State

JOBS = 2_000
WORKERS = 4
KILLS = 12
ENDED = ("completed", "failed", "discarded", "cancelled")


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.timeout(180)
async def test_2000_jobs_over_four_workers_all_end_though_workers_are_killed_at_random(crew, manager, wait_until):
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed: {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    kinds = [tasks.nap, tasks.nap, tasks.nap_in_thread, tasks.nap_in_process]
    calls = [chance.choice(kinds).call(chance.choice([0, 0.005, 0.02, 0.05])) for _ in range(JOBS)]
    ids = await manager.enqueue_many(calls)
    workers = [crew.worker("default:6") for _ in range(WORKERS)]
    for goal in sorted(chance.sample(range(20, JOBS * 9 // 10), KILLS)):
        await wait_until(lambda goal=goal: _ended(manager, at_least=goal), seconds=60)
        place = chance.randrange(WORKERS)
        workers[place].kill()
        workers[place] = crew.worker("default:6")
    await wait_until(lambda: _ended(manager, at_least=JOBS), seconds=90)
    await wait_until(lambda: all(worker.says("started") for worker in workers))
    assert [worker.stop() for worker in workers] == [0] * WORKERS
    assert crew.alive() == []
    await _check_jobs(manager, crew, ids)
    _check_attempts(crew)


@pytest.mark.timeout(90)
async def test_a_job_that_kills_its_worker_is_discarded_and_costs_those_beside_it_nothing(crew, manager, wait_until):
    # The first job tells the worker that jobs are short, so it claims all others at once: the killer, and those
    # behind it, which wait in its hands on their only attempt.
    first = tasks.nap.with_options(priority=-2).call()
    killer = tasks.kill_worker.with_options(priority=-1, max_attempts=3).call()
    bystander = tasks.nap.with_options(max_attempts=1).call()
    _, killer_id, *bystanders = await manager.enqueue_many([first, killer, *[bystander] * 20])

    killed = set()

    async def claimed_and_killed():
        worker = crew.worker("default:1", prefetch_milliseconds=60_000)
        await wait_until(lambda: worker.process.poll() is not None)
        assert worker.process.returncode == -signal.SIGKILL
        killed.add(worker.process.pid)

    async def standing(ids):
        # As the store has them: for an operator what was claimed ahead is pending.
        found = [await manager.backend.get(each) for each in ids]
        return {(job.state, job.attempt, len(job.errors)) for job in found}

    await claimed_and_killed()
    assert await standing(bystanders) == {(State.RUNNING, 1, 0)}
    # Another worker, which runs none of these, gives them back.
    crew.worker("other:1")
    await wait_until(lambda: _are(standing, [killer_id], (State.PENDING, 1, 1)))
    assert await standing(bystanders) == {(State.PENDING, 0, 0)}

    for _ in range(2):
        await claimed_and_killed()
    crew.worker("default:4")
    await wait_until(lambda: _ended(manager, at_least=2 + len(bystanders)))
    assert await standing([killer_id]) == {(State.DISCARDED, 3, 3)}
    assert len([entry for entry in crew.journal("start") if entry.job == killer_id]) == 3
    # One that a killed worker started before it had the killer back has used its only attempt; no other has.
    unlucky = {entry.job for entry in crew.journal("start") if entry.pid in killed and entry.job in bystanders}
    for each in bystanders:
        expected = {State.COMPLETED, State.DISCARDED} if each in unlucky else {State.COMPLETED}
        status = await manager.get_task_status(each)
        assert status.status in expected
        assert status.attempts == 1


async def test_a_job_that_is_discarded_with_its_worker_is_logged_as_every_dead_letter(crew, manager, wait_until):
    worker = crew.worker("default:1")
    task_id = await manager.enqueue_task(tasks.kill_worker, max_attempts=1)
    await wait_until(lambda: worker.process.poll() is not None)
    # One that does not serve its queue.
    other = crew.worker("other:1")
    await wait_until(lambda: other.says("discarded after 1 attempt:"))
    [line] = [event for event in other.events() if event.get("level") == "error"]
    assert (line["job_id"], line["task"], line["queue"], line["attempt"]) == (
        task_id,
        tasks.kill_worker.name,
        "default",
        1,
    )
    assert "WorkerLost" in line["message"]


async def _are(standing, ids, wanted):
    return await standing(ids) == {wanted}


async def test_what_a_killed_worker_had_started_ends_with_it(crew, manager, wait_until):
    worker = crew.worker()
    await manager.enqueue_task(tasks.wait_in_process)
    (entry,) = await wait_until(lambda: crew.journal("start"))
    assert is_alive(entry.pid)
    assert is_alive(entry.other)
    worker.kill()
    await wait_until(lambda: crew.alive() == [])
    assert not is_alive(entry.pid)
    assert not is_alive(entry.other)


@pytest.mark.timeout(90)
async def test_process_jobs_end_with_their_worker_although_a_fork_of_it_lives_on(crew, manager, wait_until):
    worker = crew.worker()
    await manager.enqueue_task(tasks.wait_in_process)
    (entry,) = await wait_until(lambda: crew.journal("start"))
    await manager.enqueue_task(tasks.leave_a_fork)
    (fork,) = await wait_until(lambda: crew.journal("fork"))
    worker.kill()
    await wait_until(lambda: crew.alive() == [fork.other])
    assert not is_alive(entry.pid)
    assert not is_alive(entry.other)


@pytest.mark.timeout(90)
async def test_a_job_is_not_started_again_while_the_process_of_a_killed_worker_still_runs_it(crew, manager, wait_until):
    worker = crew.worker()
    job = await manager.enqueue_task(tasks.wait_in_process)
    (entry,) = await wait_until(lambda: crew.journal("start"))
    # What would end the process as soon as the worker is gone does not come to it.
    keeper = parent_of(entry.pid)
    os.kill(keeper, signal.SIGSTOP)
    worker.kill()
    crew.worker()
    # Meanwhile the other worker has looked for dead ones more than once.
    await manager.result(await manager.enqueue_task(tasks.nap, delay_seconds=2.5), timeout=30)
    assert is_alive(entry.pid)
    status = await manager.get_task_status(job)
    assert (status.status, status.attempts) == (State.RUNNING, 1)
    os.kill(keeper, signal.SIGCONT)
    await wait_until(lambda: [each for each in crew.journal("start") if (each.job, each.attempt) == (job, 2)])
    assert not is_alive(entry.pid)
    assert not is_alive(entry.other)


async def _ended(manager, *, at_least):
    queue = (await manager.get_statistics()).queues["default"]
    return sum(getattr(queue, state) for state in ENDED) >= at_least


async def _check_jobs(manager, crew, ids):
    by_state = defaultdict(list)
    logged = defaultdict(set)
    ends = {(entry.job, entry.attempt) for entry in crew.journal("end")}
    for entry in crew.journal("start"):
        logged[entry.job].add(entry.attempt)
    for each in ids:
        status = await manager.get_task_status(each)
        by_state[status.status].append(each)
        assert [error.kind for error in status.errors] == ["WorkerLost"] * len(status.errors)
        assert max(logged[each], default=0) <= status.attempts <= status.max_attempts
        if status.status is State.COMPLETED:
            assert (each, status.attempts) in ends
            assert len(status.errors) == status.attempts - 1
        else:
            assert (status.status, status.attempts) == (State.DISCARDED, status.max_attempts)
            assert len(status.errors) == status.max_attempts
    assert logged.keys() <= set(ids)
    queue = (await manager.get_statistics()).queues["default"]
    assert (queue.pending, queue.running, queue.scheduled, queue.retryable, queue.blocked) == (0, 0, 0, 0, 0)
    assert queue.completed == queue.completed_today == len(by_state[State.COMPLETED])
    assert queue.discarded == queue.failed_today == len(by_state[State.DISCARDED])
    assert queue.completed + queue.discarded == len(ids)


def _check_attempts(crew):
    """Check that no attempt was started twice, and that those of a job follow each other."""
    killed_at = {member.number: member.killed_at for member in crew.members}
    ended_at = {(entry.job, entry.attempt): entry.at for entry in crew.journal("end")}
    by_job = defaultdict(list)
    for entry in crew.journal("start"):
        by_job[entry.job].append(entry)
    for entries in by_job.values():
        entries.sort(key=lambda entry: entry.at)
        attempts = [entry.attempt for entry in entries]
        assert attempts == sorted(set(attempts))
        for entry, following in pairwise(entries):
            assert killed_at[entry.worker] is not None, "an attempt of a living worker was followed by another"
            assert following.at >= ended_at.get((entry.job, entry.attempt), killed_at[entry.worker])


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crew", ["postgresql"], indirect=True)
async def test_the_jobs_of_another_machines_worker_are_rescued_when_its_lease_is_over_and_not_before(
    crew, manager, wait_until
):
    async def killed_with_a_job(queue, module):
        worker = crew.start(module, queues=f"{queue}:1")
        job = await manager.enqueue_task(tasks.wait_for, args=[str(crew.folder / "go")], queue=queue)
        await wait_until(lambda: job in {entry.job for entry in crew.journal("start")})
        worker.kill()
        return job

    far = await killed_with_a_job("far", "workshop.elsewhere")
    assert [record.node.host for record in await manager.backend.nodes()] == [elsewhere.HOST]
    patient = crew.worker("other:1", lease_seconds=1200)
    near = await killed_with_a_job("near", "workshop.worker")
    await wait_until(lambda: near in _rescued(patient))
    # By then it has looked at both more than once: of the other machine's processes it knows nothing.
    await manager.result(await manager.enqueue_task(tasks.nap, queue="other", delay_seconds=2.5), timeout=30)
    assert (await manager.get_task_status(far)).status is State.RUNNING
    assert _rescued(patient) == {near}
    hasty = crew.worker("far:1", heartbeat_seconds=0.3, lease_seconds=1.2)
    await wait_until(lambda: far in _rescued(hasty))
    (crew.folder / "go").touch()
    await manager.result(far, timeout=30)
    assert (await manager.get_task_status(far)).attempts == 2


def _rescued(worker):
    return {event["job_id"] for event in worker.events() if "rescued from the dead worker" in str(event["message"])}
