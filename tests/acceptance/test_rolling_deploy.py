"""A rolling deploy: workers of the old release and of the new one on one store, and jobs that only the new can run."""

import pytest
from workshop import release_2
from workshop.crew import STORES

from deeper_tasks import State

TASKS = [release_2.on_loop, release_2.in_thread, release_2.in_process, release_2.transactional, release_2.added]


def _jobs_that(worker, words):
    return {event.get("job_id") for event in worker.events() if words in event["message"]}


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_jobs_with_new_arguments_lose_nothing_while_old_workers_run(crew, manager, wait_until):
    manager.include(release_2)
    old = crew.worker(include="workshop.release_1")
    ids = await manager.enqueue_many([task.call(number, ["bye", "secret"]) for number, task in enumerate(TASKS)])
    await wait_until(lambda: _jobs_that(old, "its arguments do not fit the task here") == set(ids[:-1]))
    await wait_until(lambda: _jobs_that(old, "its task is not known here") == {ids[-1]})
    new = crew.worker(include="workshop.release_2")
    await wait_until(lambda: new.says("started, serving"))
    # Which of the two takes a job is chance, and each refusal doubles its delay.
    assert old.stop() == 0
    assert [await manager.result(task_id, timeout=30) for task_id in ids] == [f"bye secret {n}" for n in range(5)]
    for task_id in ids:
        status = await manager.get_task_status(task_id)
        assert (status.attempts, status.errors) == (1, ())
    assert "secret" not in old.log.read_text()


async def test_a_job_that_no_release_can_run_fails_after_the_grace_and_runs_when_retried(crew, manager, wait_until):
    manager.include(release_2)
    old = crew.worker(include="workshop.release_1", deploy_grace_seconds=0.5)
    task_id = await manager.enqueue_task(release_2.on_loop, args=[1, ["bye"]])

    async def has_failed():
        return (await manager.get_task_status(task_id)).status is State.FAILED

    await wait_until(has_failed)
    status = await manager.get_task_status(task_id)
    assert status.errors[-1].kind == "InvalidArgumentsError"
    assert "do not fit on_loop(user_id: " in status.errors[-1].message
    assert ", and for 500 ms no worker had code that they fit; deploy" in status.errors[-1].message
    assert _jobs_that(old, "failed, no retry can help") == {task_id}
    assert old.stop() == 0
    crew.worker(include="workshop.release_2")
    await manager.retry_task(task_id)
    assert await manager.result(task_id, timeout=30) == "bye 1"
