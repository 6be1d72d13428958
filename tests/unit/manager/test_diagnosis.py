"""The diagnosis: what each check says about a snapshot, and what a manager finds in its store."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks import BackgroundTaskManager, Settings, task
from deeper_tasks.backends.noop import NoopBackend
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.finding import Severity
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import Job, JobOptions, JobSpec
from deeper_tasks.domain.schedule import Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.state import State
from deeper_tasks.manager import Overview, QueueOverview, WorkerOverview
from deeper_tasks.manager.diagnosis import clock, jobs, queues, schedules, tasks, upkeep, workers
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot
from deeper_tasks.tasks import TaskRegistry
from deeper_tasks.testing.conformance.builders import new_job

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def queue(name="default", **changes):
    values = {
        "pending": 0,
        "running": 0,
        "later": 0,
        "dead": 0,
        "completed_today": 0,
        "failed_today": 0,
        "paused_at": None,
        "workers": 1,
        "slots": 10,
    }
    return QueueOverview(name=name, **{**values, **changes})


def worker(name="host-1", **changes):
    values = {
        "id": name,
        "name": name,
        "host": "host",
        "pid": 1,
        "queues": {"default": 10},
        "slots": 10,
        "busy": 0,
        "started_at": NOW - HOUR,
        "beat_at": NOW,
        "is_alive": True,
    }
    return WorkerOverview(**{**values, **changes})


def job(**changes):
    values = {
        "id": JobId("1"),
        "state": State.PENDING,
        "task": "shop.send",
        "arguments": "[[],{}]",
        "queue": "default",
        "priority": 0,
        "attempt": 1,
        "max_attempts": 5,
        "inserted_at": NOW,
        "scheduled_at": NOW,
    }
    return Job(**{**values, **changes})


def entry(**changes):
    spec = JobSpec(task="shop.report", arguments="[[],{}]", queue="default")
    schedule = Schedule(name="nightly", recurrence=parse_recurrence("@daily"), spec=spec)
    return ScheduleEntry(schedule=schedule, **{"next_run": NOW + HOUR, **changes})


def snapshot(*, queues=(), workers=(), entries=(), registered=(), settings=None, **changes):
    registry = TaskRegistry()
    for each in registered:
        registry.add(each)
    values = {"oldest": {}, "running": (), "waiting": (), "next_due": None, "newest": None}
    return StoreSnapshot(
        settings=settings or Settings(),
        registry=registry,
        overview=Overview(now=NOW, queues=tuple(queues), workers=tuple(workers)),
        book=ScheduleBook(now=NOW, entries=tuple(entries)),
        **{**values, **changes},
    )


def wrong(findings):
    assert all(finding.remedy for finding in findings if finding.severity is not Severity.OK)
    return {finding.check: finding for finding in findings if finding.severity is not Severity.OK}


@task(name="shop.send", timeout_seconds=7200)
async def send() -> None: ...


def test_nothing_is_said_against_a_scene_in_order():
    there = snapshot(queues=[queue(pending=3)], workers=[worker()], entries=[entry()], oldest={"default": job()})
    for check in (queues, workers, upkeep, jobs, schedules, clock):
        findings = check.examine(there)
        assert findings
        assert wrong(findings) == {}


def test_pending_jobs_that_nobody_serves_are_an_error_and_later_ones_a_warning():
    there = snapshot(queues=[queue("emails", pending=2, workers=0), queue("reports", later=1, workers=0)])
    found = queues.examine(there)
    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.WARNING]
    assert "'emails', which has 2 pending jobs" in found[0].message
    assert "--queues emails:10" in found[0].remedy


def test_an_empty_queue_that_nobody_serves_is_fine():
    assert wrong(queues.examine(snapshot(queues=[queue(workers=0)]))) == {}


def test_a_pause_is_told_with_its_age():
    found = wrong(queues.examine(snapshot(queues=[queue("emails", paused_at=NOW - 3 * HOUR, pending=1)])))
    assert "paused for 3 h 0 min, with 1 pending job" in found["paused queue"].message


def test_a_long_wait_in_a_served_queue_is_told():
    old = job(scheduled_at=NOW - HOUR)
    there = snapshot(queues=[queue(pending=1)], oldest={"default": old})
    assert "1 h 0 min" in wrong(queues.examine(there))["long wait"].message
    paused = snapshot(queues=[queue(pending=1, paused_at=NOW)], oldest={"default": old})
    assert "long wait" not in wrong(queues.examine(paused))


def test_a_queue_at_its_capacity_is_told():
    there = snapshot(queues=[queue(pending=100)], settings=Settings(queue_capacity=100))
    assert wrong(queues.examine(there)).keys() == {"full queue"}


def test_without_a_living_worker_and_with_silent_ones_both_are_told():
    silent = [worker(f"host-{number}", is_alive=False, beat_at=NOW - HOUR) for number in range(7)]
    found = wrong(workers.examine(snapshot(workers=silent)))
    assert found.keys() == {"workers", "silent workers"}
    assert "7 workers silent or dead, for up to 1 h 0 min: 'host-0'" in found["silent workers"].message
    assert found["silent workers"].message.endswith("and 2 more")


@pytest.mark.parametrize(
    ("options", "registered", "is_overdue"),
    [
        (JobOptions(timeout=timedelta(minutes=5)), [], True),
        (JobOptions(timeout=timedelta(0)), [], False),
        (JobOptions(), [], True),
        (JobOptions(), [send], False),
    ],
)
def test_a_job_is_overdue_by_its_own_timeout_or_its_tasks_or_that_of_the_settings(options, registered, is_overdue):
    running = job(state=State.RUNNING, attempted_at=NOW - 1.5 * HOUR, node=NodeId("host-1"), options=options)
    there = snapshot(running=(running,), registered=registered, settings=Settings(default_timeout_seconds=3600))
    assert ("overdue job" in wrong(jobs.examine(there))) is is_overdue


def test_the_timeout_of_a_task_that_only_an_allowed_module_has_counts():
    running = job(
        state=State.RUNNING,
        task="tests.unit.manager.test_diagnosis.send",
        attempted_at=NOW - 3 * HOUR,
        node=NodeId("h"),
    )
    assert "overdue job" in wrong(jobs.examine(snapshot(running=(running,), registered=[send])))


def test_a_job_is_measured_by_the_settings_where_its_task_is_not_known_and_told_so():
    running = job(state=State.RUNNING, attempted_at=NOW - 3 * HOUR, node=NodeId("host-1"))
    there = snapshot(running=(running,), settings=Settings(default_timeout_seconds=3600))
    told = wrong(jobs.examine(there))["overdue job"].message
    assert told.endswith("beyond the settings' timeout (its task's own is known only with --app) of 1 h 0 min")
    known = snapshot(running=(running,), registered=[send])
    assert wrong(jobs.examine(known))["overdue job"].message.endswith("beyond its timeout of 2 h 0 min")


def test_dead_letters_of_today_are_told():
    assert "2 dead letters" in wrong(jobs.examine(snapshot(queues=[queue(failed_today=2)])))["dead letters"].message


def test_unknown_tasks_are_asked_of_an_application_only():
    waiting = (job(), job(task="shop.vanished"), job(task="shop.vanished"))
    assert wrong(jobs.examine(snapshot(waiting=waiting))) == {}
    found = wrong(jobs.examine(snapshot(waiting=waiting, registered=[send])))["unknown tasks"]
    assert found.message == "2 jobs waiting for tasks that the application does not have: 'shop.vanished'"


def test_jobs_whose_task_no_live_worker_knows_are_told_with_since_when_and_when_they_fail():
    waiting = (job(state=State.SCHEDULED, unknown_since=NOW - HOUR), job(unknown_since=NOW - 2 * HOUR), job())
    there = snapshot(workers=[worker()], waiting=waiting, knowing={"shop.send": {"host-1": False}})
    found = wrong(tasks.examine(there))["task of no worker"]
    assert found.message == (
        "3 jobs wait for the task 'shop.send', which no live worker knows that serves the queue; "
        "given back since 2026-01-31 10:00:00 UTC, the first fails in 22 h 0 min "
        "(unknown_task_grace_seconds is 1 d 0 h here)"
    )
    assert "deeper cancel --task shop.send" in found.remedy
    assert found.severity is Severity.ERROR


def test_a_task_of_no_worker_is_a_warning_as_long_as_its_jobs_are_for_later():
    waiting = (job(state=State.SCHEDULED, scheduled_at=NOW + HOUR),)
    there = snapshot(workers=[worker()], waiting=waiting, knowing={"shop.send": {"host-1": False}})
    assert [finding.severity for finding in tasks.examine(there)] == [Severity.WARNING]


@pytest.mark.parametrize(
    ("known", "unknown_since", "is_told"),
    [
        ({"host-1": False, "host-2": False}, None, True),
        ({"host-1": False, "host-2": True}, NOW, False),
        ({"host-1": False}, None, False),
        ({"host-1": False}, NOW, True),
        ({}, None, False),
    ],
)
def test_a_task_is_of_no_worker_if_all_that_could_run_it_say_so_or_one_gave_a_job_back(known, unknown_since, is_told):
    both = [worker(), worker("host-2"), worker("host-3", queues={"other": 1}), worker("host-4", is_alive=False)]
    there = snapshot(workers=both, waiting=(job(unknown_since=unknown_since),), knowing={"shop.send": known})
    assert ("task of no worker" in wrong(tasks.examine(there))) is is_told


def test_jobs_that_are_given_back_as_unfit_are_told():
    waiting = (job(unfit_since=NOW - HOUR),)
    there = snapshot(workers=[worker()], waiting=waiting, knowing={"shop.send": {"host-1": True}})
    found = wrong(tasks.examine(there))
    assert found.keys() == {"unfit jobs"}
    assert "given back since 2026-01-31 11:00:00 UTC, the first fails when a worker" in found["unfit jobs"].message


def test_a_recurring_task_that_no_live_worker_knows_is_told():
    there = snapshot(workers=[worker()], entries=[entry()], knowing={"shop.report": {"host-1": False}})
    assert wrong(tasks.examine(there)).keys() == {"recurring task of no worker"}


async def test_a_manager_asks_its_store_which_tasks_its_workers_know(manager, working, wait_until):
    await manager.backend.insert([new_job(task="shop.vanished", queue="emails", delay=HOUR)])
    async with working(manager, {"emails": 1}):
        await wait_until(manager.backend.nodes)
        assert "'shop.vanished'" in wrong(await manager.diagnose())["task of no worker"].message


def test_a_recurring_task_that_is_late_paused_or_unknown_is_told():
    late = wrong(schedules.examine(snapshot(entries=[entry(next_run=NOW - 3 * HOUR)])))
    assert "'nightly' was due 3 h 0 min ago" in late["late recurring task"].message
    paused = wrong(schedules.examine(snapshot(entries=[entry(next_run=NOW - HOUR, paused_at=NOW - HOUR)])))
    assert paused.keys() == {"paused recurring task"}
    assert (
        "'shop.report'"
        in wrong(schedules.examine(snapshot(entries=[entry()], registered=[send])))["unknown tasks"].message
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"next_due": job(state=State.SCHEDULED, scheduled_at=NOW - HOUR)}, "due for 1 h 0 min and is still scheduled"),
        ({"next_due": job(state=State.RETRYABLE, scheduled_at=NOW - HOUR)}, "is still retryable"),
        ({"waiting": (job(), job(expires_at=NOW - HOUR))}, "expired 1 h 0 min ago and is still pending"),
    ],
)
def test_upkeep_that_living_workers_leave_undone_is_told(changes, words):
    [finding] = upkeep.examine(snapshot(workers=[worker()], **changes))
    assert (finding.severity, words in finding.message) == (Severity.ERROR, True)
    assert "the log of each worker says once why" in finding.remedy
    assert upkeep.examine(snapshot(**changes)) == []


def test_upkeep_that_is_about_to_be_done_is_in_order():
    soon = NOW - timedelta(seconds=5)
    there = snapshot(
        workers=[worker()], next_due=job(state=State.SCHEDULED, scheduled_at=soon), waiting=(job(expires_at=soon),)
    )
    assert wrong(upkeep.examine(there)) == {}


def test_a_past_that_lies_in_the_future_is_told():
    ahead = wrong(clock.examine(snapshot(newest=job(inserted_at=NOW + 3 * HOUR))))
    assert "the newest job in the store is 3 h 0 min ahead" in ahead["clock"].message
    assert wrong(clock.examine(snapshot(workers=[worker(beat_at=NOW + HOUR)]))).keys() == {"clock"}
    assert wrong(clock.examine(snapshot(entries=[entry(last_run=NOW + HOUR)]))).keys() == {"clock"}
    assert wrong(clock.examine(snapshot(workers=[worker(beat_at=NOW + timedelta(seconds=1))]))) == {}


async def test_a_manager_finds_what_is_wrong_and_says_what_it_looks_at(manager, working, wait_until):
    await manager.enqueue_task(send, queue="emails")
    looked_at = []
    found = wrong(await manager.diagnose(on_check=looked_at.append))
    assert "unserved queue" in found
    assert "workers" in found
    checks = ["workers", "upkeep", "queues", "jobs", "tasks", "recurring tasks", "clock", "damaged rows"]
    assert looked_at[-8:] == checks
    async with working(manager, {"emails": 1}):
        await wait_until(manager.backend.nodes)
        assert not {"unserved queue", "workers"} & wrong(await manager.diagnose()).keys()


async def test_a_store_that_is_switched_off_is_told():
    for settings in ({"url": "sqlite:////nowhere/tasks.db", "enabled": False}, {"url": "noop://"}):
        async with BackgroundTaskManager(**settings) as manager:
            [finding] = await manager.diagnose()
        # Nothing is claimed of a store that was not looked at.
        assert (finding.check, finding.severity) == ("switched off", Severity.WARNING)
        assert "no store was examined" in finding.message


async def test_a_store_that_is_given_in_code_is_named_by_its_class_and_file(tmp_path):
    file = tmp_path / "own.db"
    async with BackgroundTaskManager(backend=SQLiteBackend(file)) as manager:
        [told] = [finding.message for finding in await manager.diagnose() if finding.check == "store"]
        assert told.startswith(f"SQLiteBackend ({file}) answers")
        assert manager.shown_store == f"SQLiteBackend ({file})"
    async with BackgroundTaskManager(backend=NoopBackend()) as manager:
        [finding] = await manager.diagnose()
    assert "its store is NoopBackend" in finding.message


async def test_a_store_that_cannot_be_opened_is_a_finding(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path}/absent.db")
    found = wrong(await manager.diagnose())
    assert found["store"].severity is Severity.ERROR
    await manager.close()
    assert list(tmp_path.iterdir()) == []


async def test_findings_are_values_that_json_takes(manager):
    findings = await manager.diagnose()
    assert findings[0].to_dict().keys() == {"check", "severity", "message", "remedy", "subject"}
