"""Worker processes under a supervisor: what ends is replaced, and what is to stop leaves nothing behind."""

import os
import signal

import pytest
from workshop import fleet, tasks
from workshop.crew import is_alive

from deeper_tasks import State

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def make_fleet(crew, wait_until):
    async def make_fleet(*options, **settings):
        made = fleet.Fleet(crew, *options, **settings)
        await wait_until(made.is_ready)
        return made

    return make_fleet


async def _state(manager, job):
    return (await manager.get_task_status(job)).status


async def _pids(manager):
    return {record.node.pid for record in await manager.backend.nodes()}


async def test_a_killed_process_is_replaced_and_the_work_goes_on(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2")
    first, second = made.children
    assert made.banner["children"] == [first, second]
    assert {record.node.name for record in await manager.backend.nodes()} == {"worker-1", "worker-2"}
    jobs = await manager.enqueue_many([tasks.nap.call(0.05)] * 60)
    await wait_until(lambda: crew.journal("end"))
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: first not in made.children and made.is_ready())
    anew, same = made.children
    assert (same, is_alive(anew)) == (second, True)
    for job in jobs:
        await manager.result(job, timeout=60)
    await wait_until(lambda: _is(_pids(manager), {anew, second}))
    assert [process["restarts"] for process in made.ask()[1]["processes"]] == [1, 0]
    (told,) = [event for event in made.member.events() if event.get("child_pid") == first]
    assert "was killed by SIGKILL; another starts at once" in told["message"]
    started = [event for event in made.member.events() if event["message"].endswith("started, serving default:2")]
    assert [(event["process_index"], event["pid"]) for event in started if event["process_index"] == 1] == [
        (1, first),
        (1, anew),
    ]
    assert made.member.stop() == 0
    assert crew.alive() == []


async def test_a_process_that_gives_no_sign_of_life_is_killed_and_replaced(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2", silence_limit_seconds=4)
    frozen, other = made.children
    os.kill(frozen, signal.SIGSTOP)
    await wait_until(lambda: made.member.says(f"worker process {frozen} gave no sign of life for 4 s and is killed"))
    await wait_until(lambda: frozen not in made.children and made.is_ready())
    assert other in made.children
    assert made.member.stop() == 0


async def test_a_supervisor_that_was_stopped_itself_blames_no_process(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2", silence_limit_seconds=4, heartbeat_seconds=0.5)
    before = made.children
    made.member.send(signal.SIGSTOP)
    beats = {record.node.pid: record.beat for record in await manager.backend.nodes()}

    async def have_beaten_on():
        records = await manager.backend.nodes()
        return all(record.beat > beats[record.node.pid] + 10 for record in records)

    # Ten beats of 0.5 s are longer than the limit.
    await wait_until(have_beaten_on)
    made.member.send(signal.SIGCONT)
    job = await manager.enqueue_task(tasks.nap, args=[5])
    await manager.result(job, timeout=60)
    assert made.is_ready()
    assert made.children == before
    assert made.member.stop() == 0


async def test_a_process_whose_slot_is_lost_to_a_thread_is_replaced(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "1", "--grace", "0.5", stuck_seconds=0.5)
    (before,) = made.children
    await manager.enqueue_task(fleet.ignore_timeout, args=[str(crew.folder / "never")])
    words = "ended because it could not continue: jobs kept its slots or its loop, or a part of it kept failing; "
    await wait_until(lambda: made.member.says(f"{words}another starts at once"))
    assert made.member.says("is stuck, the job ")
    await wait_until(made.is_ready)
    assert made.children != [before]
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=30)
    assert made.member.stop() == 0


async def test_sigterm_lets_the_jobs_of_all_processes_end(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2")
    go = crew.folder / "go"
    jobs = await manager.enqueue_many([tasks.wait_for.call(str(go))] * 4)
    await wait_until(lambda: len(crew.journal("start")) == len(jobs))
    assert len({entry.pid for entry in crew.journal("start")}) == 2
    made.member.send(signal.SIGTERM)
    await wait_until(lambda: made.ask("/ready") == (503, {"ready": False, "status": "stopping"}))
    assert made.ask("/live")[0] == 200
    await wait_until(lambda: made.statuses() == ["stopping", "stopping"])
    go.touch()
    assert made.member.process.wait(30) == 0
    assert [await _state(manager, job) for job in jobs] == [State.COMPLETED] * 4
    assert crew.alive() == []
    assert await manager.backend.nodes() == []


async def test_a_second_signal_gives_back_the_jobs_of_all_processes(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2", "--grace", "3600")
    jobs = await manager.enqueue_many([tasks.wait_for.call("never")] * 4)
    await wait_until(lambda: len(crew.journal("start")) == len(jobs))
    # One of them is too busy to take the first signal before the second is there.
    os.kill(made.children[0], signal.SIGSTOP)
    made.member.send(signal.SIGTERM)
    await wait_until(lambda: made.statuses() == ["stopping", "stopping"])
    made.member.send(signal.SIGINT)
    await wait_until(lambda: len(made.children) == 1)
    os.kill(made.children[0], signal.SIGCONT)
    assert made.member.process.wait(30) == 0
    found = [await manager.get_task_status(job) for job in jobs]
    assert [(status.status, status.attempts) for status in found] == [(State.PENDING, 0)] * 4
    assert crew.alive() == []


async def test_ctrl_c_in_a_terminal_counts_once(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2", "--grace", "3600")
    go = crew.folder / "go"
    job = await manager.enqueue_task(tasks.wait_for, args=[str(go)])
    await wait_until(lambda: crew.journal("start"))
    os.killpg(made.member.pid, signal.SIGINT)
    await wait_until(lambda: sum(" stopping, " in str(each["message"]) for each in made.member.events()) == 2)
    go.touch()
    assert made.member.process.wait(30) == 0
    assert await _state(manager, job) is State.COMPLETED


async def test_the_processes_of_a_killed_supervisor_stop_in_order(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "2")
    go = crew.folder / "go"
    job = await manager.enqueue_task(tasks.wait_for, args=[str(go)])
    await wait_until(lambda: crew.journal("start"))
    (entry,) = crew.journal("start")
    children = made.children
    made.member.kill()
    await wait_until(lambda: [pid for pid in children if is_alive(pid)] == [entry.pid])
    assert made.member.says("supervisor has ended; this worker process stops in order")
    assert await _state(manager, job) is State.RUNNING
    go.touch()
    await wait_until(lambda: crew.alive() == [])
    assert await _state(manager, job) is State.COMPLETED
    assert await manager.backend.nodes() == []


async def test_sighup_restarts_one_process_after_the_other(crew, manager, wait_until, make_fleet):
    made = await make_fleet("--processes", "3")
    before = made.children
    jobs = await manager.enqueue_many([tasks.nap.call(0.05)] * 60)
    made.member.send(signal.SIGHUP)
    await wait_until(lambda: made.member.says("all worker processes have restarted"), seconds=60)
    assert not set(made.children) & set(before)
    for job in jobs:
        await manager.result(job, timeout=60)
    said = [
        (event["process_index"], "started" if "started, serving" in event["message"] else "stopping")
        for event in made.member.events()
        if "process_index" in event and any(word in event["message"] for word in ("started, serving", " stopping, "))
    ]
    rolled = said[3:]
    assert rolled == [(index, word) for index in (1, 2, 3) for word in ("stopping", "started")]
    assert made.member.stop() == 0


async def test_a_terminal_that_is_closed_ends_what_was_started_in_it(crew, manager, wait_until):
    terminal = crew.start(
        "workshop.terminal", "worker", "workshop.fleet:manager", "--processes", "2", "--json", is_piped=True
    )
    await wait_until(lambda: sum("started, serving" in str(event["message"]) for event in terminal.events()) == 2)
    (supervisor,) = {event["pid"] for event in terminal.events() if event.get("children")}
    os.kill(supervisor, signal.SIGHUP)
    await wait_until(lambda: terminal.says("all worker processes have restarted"))
    terminal.process.stdin.write(b"close\n")
    terminal.process.stdin.flush()
    await wait_until(lambda: terminal.process.poll() is not None)
    assert terminal.process.returncode == 0
    assert crew.alive() == []


@pytest.mark.parametrize("application", ["nowhere:manager", "workshop.fleet:nothing"])
async def test_an_application_that_cannot_be_used_ends_the_supervisor_with_one_message(crew, application):
    made = fleet.Fleet(crew, "--processes", "3", application=application)
    assert made.member.process.wait(30) == 2
    (event,) = made.member.events()
    assert event["exit_code"] == 2
    assert crew.alive() == []


async def test_an_application_that_breaks_later_is_tried_until_it_is_mended(crew, manager, wait_until, make_fleet):
    shop = crew.folder / "shop.py"
    good = "from workshop.fleet import manager\n"
    shop.write_text(good)
    made = await make_fleet("--processes", "2", application="shop:manager")
    first, second = made.children
    shop.write_text("from workshop.fleet import manager !\n")
    made.member.send(signal.SIGHUP)
    await wait_until(lambda: made.member.says("ended with exit code 2; another starts in"))
    # The other was not restarted into the same fault.
    assert made.children[-1] == second
    status, answer = made.ask()
    assert (status, answer["status"], answer["ready"]) == (200, "degraded", True)
    shop.write_text(good)
    await wait_until(lambda: made.member.says("all worker processes have restarted"), seconds=60)
    assert not {first, second} & set(made.children)
    assert made.member.stop() == 0


async def test_a_store_that_cannot_be_reached_at_the_start_is_tried_again(crew, wait_until):
    folder = crew.folder / "later"
    made = fleet.Fleet(crew, "--processes", "2", url=f"sqlite:///{folder}/tasks.db")
    await wait_until(lambda: made.member.says("ended with exit code 4"))
    assert made.ask("/ready") == (503, {"ready": False, "status": "unready"})
    folder.mkdir()
    await wait_until(made.is_ready)
    assert made.member.stop() == 0


async def test_several_processes_do_not_share_a_store_in_memory(crew):
    made = fleet.Fleet(crew, "--processes", "2", url="memory://")
    assert made.member.process.wait(30) == 2
    assert made.member.says("memory:// exists in one process only, but 2 processes are configured")


async def test_a_change_of_the_code_restarts_the_worker(crew, manager, wait_until):
    shop = crew.folder / "shop.py"

    def write(answer):
        shop.write_text(f"from workshop.fleet import manager\nANSWER = {answer}\n")

    async def ask():
        return await manager.result(await manager.enqueue_task(fleet.answer), timeout=30)

    write("'one'")
    made = fleet.Fleet(crew, "--reload", application="shop:manager")
    await wait_until(made.is_ready)
    (first,) = made.children
    assert await ask() == "one"
    # Longer: Python takes a file of the same second and size for the one that it has compiled.
    write("'the second'")
    await wait_until(lambda: made.children != [first] and made.is_ready())
    assert await ask() == "the second"
    write("three'")
    await wait_until(lambda: made.member.says("worker process 1 waits for a change"))
    assert made.member.says("SyntaxError")
    write("'four'")
    await wait_until(made.is_ready)
    assert await ask() == "four"
    assert made.member.says(f"files changed, worker restarts: {shop}")
    assert made.member.stop() == 0


async def _is(getting, wanted):
    return await getting == wanted
