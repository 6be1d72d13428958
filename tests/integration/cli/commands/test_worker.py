"""`deeper worker`, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.process.shutdown import run_to_the_end
from deeper_tasks.errors import JobNotCompletedError

STORE = ("--url", "sqlite:///tasks.db")

MORE = """
import asyncio
import logging
import os
import signal
import sys
import threading
from types import SimpleNamespace

stuck = BackgroundTaskManager("sqlite:///tasks.db")


@manager.task
async def hold_a_thread() -> None:
    await asyncio.to_thread(threading.Event().wait)


@manager.task
async def stop_the_worker() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@manager.task
async def block() -> None:
    threading.Event().wait()


@manager.task
async def wait() -> None:
    await asyncio.Event().wait()


def hold_on():
    [handler] = logging.getLogger().handlers
    handler.acquire()
    holds.set()
    threading.Event().wait()


holds = threading.Event()


async def run_worker(queues, *, on_start, **_):
    on_start(SimpleNamespace(on_pulse=lambda tell: None))
    sys.stdout.write("to nobody")
    threading.Thread(target=threading.Event().wait).start()
    if "mute" in queues:
        logging.disable()
        threading.Thread(target=hold_on).start()
        holds.wait()
    return SimpleNamespace(is_stuck=True, stuck_because="1 of its 1 slots are lost", is_stopping=True)


stuck.run_worker = run_worker
several = BackgroundTaskManager("sqlite:///tasks.db", processes=4)
"""

HOOKED = """
import sys
from pathlib import Path
from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")


@manager.on_worker_start
def open_pool():
    if not Path("database").exists():
        sys.exit(0)


@manager.on_worker_stop
def close_pool():
    Path("closed").touch()
"""

LEAVER = """
import asyncio
import contextvars
import os
import signal
import sys
import threading
from types import SimpleNamespace

from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")
may_end = asyncio.Event()


def leave(kind=SystemExit):
    raise kind(0)


async def leave_soon(kind=SystemExit):
    leave(kind)


async def leave_together():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leave_soon())
        tasks.create_task(asyncio.sleep(60))


async def leave_unawaited(how):
    loop = asyncio.get_running_loop()
    match how:
        case "task":
            leaving = loop.create_task(leave_soon())
        case "callback":
            loop.call_soon(leave)
        case "timer":
            loop.call_later(0, leave)
        case "thread":
            threading.Thread(target=contextvars.copy_context().run, args=(loop.call_soon_threadsafe, leave)).start()
        case "done":
            loop.create_task(asyncio.sleep(0)).add_done_callback(leave_it)
    await asyncio.sleep(0.1)


def leave_it(_):
    leave(KeyboardInterrupt)


@manager.task(max_attempts=1)
async def leaves(how: str) -> None:
    match how:
        case "itself":
            leave()
        case "gather":
            await asyncio.gather(leave_soon(), leave_soon(KeyboardInterrupt))
        case "kept":
            await asyncio.gather(leave_soon(), return_exceptions=True)
        case "group":
            await leave_together()
        case "to_thread":
            await asyncio.gather(asyncio.to_thread(leave))
        case _:
            await leave_unawaited(how)


@manager.task(max_attempts=1)
async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(leave, context=contextvars.Context())
    await asyncio.sleep(0)


@manager.task(max_attempts=1)
async def neighbour() -> str:
    await may_end.wait()
    return "undisturbed"


@manager.task(max_attempts=1)
async def last() -> None:
    may_end.set()


async def return_at_once(queues, *, on_start, **_):
    on_start(SimpleNamespace(on_pulse=lambda tell: None))
    return SimpleNamespace(is_stuck=False, is_stopping=False)


async def be_cancelled(queues, *, on_start, **_):
    raise asyncio.CancelledError


unasked = BackgroundTaskManager("sqlite:///tasks.db")
unasked.run_worker = return_at_once
cancelled = BackgroundTaskManager("sqlite:///tasks.db")
cancelled.run_worker = be_cancelled
"""

EXITING = {
    "exit": """
import atexit
import os
import signal
import sys

from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")


@atexit.register
def be_told_again():
    print("exits now", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
""",
    "end": """
import os
import signal

from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")


class Last:
    # The interpreter has given up its handlers of signals when it lets go of the modules.
    def __init__(self):
        self.kill, self.write, self.pid, self.number = os.kill, os.write, os.getpid(), signal.SIGTERM.value

    def __del__(self):
        self.write(2, b"exits now\\n")
        self.kill(self.pid, self.number)


last = Last()
""",
}

CLOSING = """
import asyncio
import sys

from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")


async def close():
    print("closing", file=sys.stderr)
    await asyncio.sleep(60)


manager.close = close
"""

LOGGED = """
import logging, warnings
from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///tasks.db")
log = logging.getLogger("logged")


@manager.task(executor="process")
def in_a_process() -> None:
    log.debug("not wanted")
    log.info("hello from %s", "there")
    warnings.warn("old token=hunter2")
    print("to stdout")


@manager.task
def in_a_thread() -> None:
    log.info("hello from here")
    warnings.warn("old token=hunter2")
"""


class Process:
    """A worker process and the lines it writes on stderr."""

    def __init__(self, words, **streams):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deeper_tasks.cli", "worker", *words],
            text=True,
            **{"stderr": subprocess.PIPE, **streams},
        )
        self.lines = []

    def wait_for(self, text):
        """Read lines up to the one that has this text; the test's own timeout is the deadline."""
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if text in line:
                return
        raise AssertionError("\n".join([f"{text!r} did not come", *self.lines]))

    def end(self):
        self.lines += self.process.stderr.read().splitlines()
        return self.process.wait()


@pytest.fixture
def start(folder):
    with (folder / "shop.py").open("a") as shop:
        shop.write(MORE)
    started = []

    def start(*words, **streams):
        started.append(Process(words, **streams))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        if each.process.stderr is not None:
            each.process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_job_from_the_command_line_is_run_and_a_signal_ends_the_worker_in_order(start, deeper, ask, folder, number):
    job = deeper("enqueue", "shop.add", 1, 2, "--unchecked", *STORE).stdout.strip()
    worker = start("shop:manager", "--queues", "default:2,emails:1")
    worker.wait_for("completed in")
    worker.process.send_signal(number)
    assert worker.end() == 0
    assert ask("status", job)["result"] == 3
    assert worker.lines[0].endswith("worker of shop:manager")
    assert [line.split(maxsplit=1) for line in worker.lines[1:5]] == [
        ["store", f"sqlite:///tasks.db ({folder}/tasks.db)"],
        ["queues", "default:2, emails:1"],
        ["tasks", "7"],
        ["pid", str(worker.process.pid)],
    ]
    assert "second signal releases them at once" in worker.lines[5]
    assert " INFO    job started attempt 1, " in worker.lines[7]
    # The store was there: nothing is said of a new one.
    assert not any("empty store" in line for line in worker.lines)


def test_a_second_signal_gives_back_at_once_what_runs(start, deeper, ask):
    job = deeper("enqueue", "shop.wait", "--unchecked", *STORE).stdout.strip()
    worker = start("shop:manager", "--grace", "3600")
    worker.wait_for("started attempt 1")
    worker.process.send_signal(signal.SIGINT)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    status = ask("status", job)
    assert (status["status"], status["attempts"]) == ("pending", 0)


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_application_is_imported_stops_in_order_with_one_line(start, folder, number, options):
    (folder / "slow.py").write_text("import sys, time\nprint('importing', file=sys.stderr)\ntime.sleep(60)\n")
    worker = start("slow:manager", *options)
    worker.wait_for("importing")
    worker.process.send_signal(number)
    assert worker.end() == 0
    [line] = worker.lines[1:]
    assert "worker stopped before its start" in line


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=" ".join)
def test_a_worker_that_was_started_with_its_signals_blocked_hears_them(start, options):
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    worker = start("shop:manager", *options, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, stops))
    worker.wait_for("second signal releases them")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert any("are unblocked now: SIGINT, SIGTERM" in line for line in worker.lines)


def test_a_signal_while_a_stopped_worker_closes_ends_the_process_in_order(start, folder):
    (folder / "closing.py").write_text(CLOSING)
    worker = start("closing:manager")
    worker.wait_for("second signal releases them")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("closing")
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    assert "worker stopped by another signal" in worker.lines[-1]


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=" ".join)
@pytest.mark.parametrize("moment", ["exit", "end"])
def test_a_signal_while_the_process_of_a_stopped_worker_exits_is_no_failure(start, folder, moment, options):
    (folder / "exiting.py").write_text(EXITING[moment])
    worker = start("exiting:manager", *options)
    worker.wait_for("started, serving")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("exits now")
    assert worker.end() == 0
    assert not [line for line in worker.lines if "ERROR" in line]


def test_without_grace_one_signal_is_enough(start, deeper, ask):
    job = deeper("enqueue", "shop.wait", "--unchecked", *STORE).stdout.strip()
    worker = start("shop:manager", "--grace", "0")
    worker.wait_for("started attempt 1")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert ask("status", job)["status"] == "pending"


def test_a_thread_that_a_job_left_behind_keeps_no_worker_from_its_end(start, deeper, ask):
    job = deeper("enqueue", "shop.hold_a_thread", "--unchecked", *STORE).stdout.strip()
    worker = start("shop:manager", "--grace", "0")
    worker.wait_for("started attempt 1")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert ask("status", job)["status"] == "pending"


def test_a_worker_whose_loop_a_job_blocks_ends_after_the_second_signal_and_names_the_job(start, deeper, ask, folder):
    # Not after five seconds: for how long a loop may be blocked is shown elsewhere.
    (folder / "hasty.py").write_text(
        "from deeper_tasks.worker.liveness import last_resort\nlast_resort.LAST_WORDS = 0.5\nfrom shop import manager\n"
    )
    job = deeper("enqueue", "shop.block", "--unchecked", *STORE).stdout.strip()
    worker = start("hasty:manager", "--grace", "3600")
    worker.wait_for("the event loop has been blocked")
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 1
    assert f"by the job shop.block {job}, and keeps the worker from stopping" in worker.lines[-1]
    status = ask("status", job)
    assert (status["status"], status["attempts"]) == ("running", 1)


def test_another_store_takes_the_place_of_the_managers_own(start, folder):
    (folder / "tasks.db").unlink()
    worker = start("shop:manager", "--url", "sqlite:///other.db")
    worker.wait_for("started, serving default:10")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert (folder / "other.db").exists()
    assert not (folder / "tasks.db").exists()


def test_json_logs_are_json_line_by_line(start, folder):
    worker = start("shop:manager", "--json")
    worker.wait_for("started, serving")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    first, *_ = records = [json.loads(line) for line in worker.lines]
    assert first["message"].endswith("worker of shop:manager")
    assert first["store"] == f"sqlite:///tasks.db ({folder}/tasks.db)"
    assert {record["level"] for record in records} == {"info"}


def test_the_log_level_keeps_the_rest_out(start):
    worker = start("shop:manager", "--log-level", "warning")
    worker.wait_for("second signal releases them")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert len(worker.lines) == 6


def test_a_stuck_worker_ends_with_exit_code_75_although_its_thread_runs_on(start):
    worker = start("shop:stuck")
    assert worker.end() == 75
    assert "worker cannot continue, 1 of its 1 slots are lost" in worker.lines[-1]


def test_a_stuck_worker_ends_although_nobody_reads_what_it_wrote(start):
    reader, writer = os.pipe()
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    worker = start("shop:stuck", stdout=writer, env=buffered)
    os.close(writer)
    os.close(reader)
    assert worker.end() == 75


def test_a_stuck_worker_ends_although_a_thread_holds_the_lock_of_the_logs(start):
    assert start("shop:stuck", "--queues", "mute:1").end() == 75


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        ("BackendUnavailableError('the store is away')", 4, "deeper: the store is away"),
        ("ZeroDivisionError('our own')", 1, "ZeroDivisionError: our own"),
    ],
)
def test_a_worker_that_fails_ends_although_a_thread_of_its_application_does_not(start, folder, raised, code, message):
    (folder / "lingers.py").write_text(
        "import threading\n"
        "from deeper_tasks import BackgroundTaskManager\n"
        "from deeper_tasks.errors import BackendUnavailableError\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "manager = BackgroundTaskManager('memory://')\n"
        "async def run_worker(*_, **__):\n"
        f"    raise {raised}\n"
        "manager.run_worker = run_worker\n"
    )
    worker = start("lingers:manager")
    assert worker.end() == code
    assert message in worker.lines[-1]


def test_a_worker_works_although_nobody_reads_its_banner(start, deeper, ask):
    job = deeper("enqueue", "shop.stop_the_worker", "--unchecked", *STORE).stdout.strip()
    reader, writer = os.pipe()
    os.close(reader)
    worker = start("shop:manager", stderr=writer)
    os.close(writer)
    assert worker.process.wait() == 0
    assert ask("status", job)["status"] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["shop:nothing"], 2, "deeper: 'shop' has no 'nothing'; there is shop:manager, shop:stuck, shop:several"),
        (["shop:manager", "--queues", "default:many"], 2, "deeper: 'default:many' is not a queue with its slots;"),
        (["shop:manager", "--url", "nowhere://"], 2, "unknown scheme"),
        (["shop:manager", "--listen-url", "postgresql://x"], 2, "--listen-url has no effect without --url"),
        (["shop:manager", *STORE, "--listen-url", "postgresql://x"], 2, "only for postgresql:// stores"),
        (["shop:manager", "--url", "sqlite:////absent/folder/x.db"], 4, "does not exist"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_one_line(start, deeper, words, code, message):
    result = deeper("worker", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_that_makes_a_new_store_says_so_once_and_loudly(start, folder, processes):
    worker = start("shop:manager", "--url", "sqlite:///other.db", "--processes", str(processes))
    worker.wait_for(f"a new, empty store was made at {folder}/other.db: if it should hold jobs, stop this worker")
    while sum("started, serving" in line for line in worker.lines) < processes:
        worker.wait_for("started, serving")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    told = [line for line in worker.lines if "if it should hold jobs" in line]
    assert len(told) == 1
    assert "WARNING" in told[0]
    assert sum("a new, empty store was made" in line for line in worker.lines) == 1


def test_a_supervisor_says_once_what_it_runs_and_its_processes_tell_who_they_are(start, folder):
    worker = start("shop:manager", "--processes", "2", "--queues", "default:3", "--health-port", "0")
    worker.wait_for("second signal releases them")
    # The first of them may have been faster than the banner.
    while sum("started, serving default:3" in line for line in worker.lines) < 2:
        worker.wait_for("started, serving default:3")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    banner = [line.split(maxsplit=1) for line in worker.lines if line.startswith("  ")]
    assert [name for name, _ in banner] == ["store", "queues", "tasks", "pid", "health", "stop"]
    said = dict(banner)
    assert said["store"] == f"sqlite:///tasks.db ({folder}/tasks.db)"
    assert said["queues"] == "default:3 in each of 2 processes"
    pid, _, children = said["pid"].partition(", supervises ")
    assert int(pid) == worker.process.pid
    assert said["health"].startswith("http://127.0.0.1:")
    first, second = children.split(", ")
    for origin in (f"[1:{first}]", f"[2:{second}]"):
        assert any(origin in line and "started, serving" in line for line in worker.lines)


def test_the_settings_of_the_environment_say_how_many_processes_there_are(start, monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_PROCESSES", "2")
    worker = start("shop:manager")
    worker.wait_for("in each of 2 processes")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0


def test_a_setting_in_code_that_comes_too_late_is_told(start):
    worker = start("shop:several")
    worker.wait_for("setting 'processes' of the manager has no effect on this command; set it in")
    worker.wait_for("second signal releases them")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert not any("supervises" in line for line in worker.lines)


def test_folders_to_watch_without_reload_are_refused(deeper, folder):
    result = deeper("worker", "shop:manager", "--reload-dir", folder)
    assert result.exit_code == 2
    assert "--reload-dir has no effect without --reload" in result.stderr


def test_reload_without_watchfiles_says_how_to_install_it(deeper, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = deeper("worker", "shop:manager", "--reload")
    assert result.exit_code == 2
    assert "install deeper_tasks with its extra 'reload'" in result.stderr


def test_what_keeps_a_worker_from_telling_its_health_is_one_line(deeper):
    result = deeper("worker", "shop:manager", "--health-file", "absent/health.json")
    assert result.exit_code == 2
    assert "the health file 'absent/health.json' cannot be written" in result.stderr
    result = deeper("worker", "shop:manager", "--processes", "2", "--health-file", "absent/health.json")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_the_help_says_what_is_per_process_and_what_a_container_needs(deeper):
    text = " ".join(deeper("worker", "--help").stdout.split())
    assert "how many jobs of each run at once in a process" in text
    assert "in a container 0.0.0.0" in text
    assert "deeper health --file PATH --max-age 30" in text
    assert "--child" not in text


def test_a_start_hook_that_fails_ends_the_worker_with_a_line_and_exit_code_1(start, folder):
    (folder / "hooked.py").write_text(HOOKED)
    worker = start("hooked:manager")
    assert worker.end() == 1
    assert worker.lines[-1] == "deeper: the start hook hooked.open_pool failed: SystemExit: 0"
    assert "Traceback (most recent call last):" in worker.lines


def test_a_supervisor_starts_a_worker_again_whose_start_hook_fails(start, folder):
    (folder / "hooked.py").write_text(HOOKED)
    worker = start("hooked:manager", "--processes", "1")
    worker.wait_for("the start hook hooked.open_pool failed")
    (folder / "database").touch()
    worker.wait_for("started, serving")
    assert not (folder / "closed").exists()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    assert (folder / "closed").exists()


def test_what_a_job_logs_is_written_as_the_worker_writes_with_the_id_of_the_job(start, deeper, folder):
    (folder / "logged.py").write_text(LOGGED)
    tasks = {"logged.in_a_process": "there", "logged.in_a_thread": "here"}
    jobs = {task: deeper("enqueue", task, "--unchecked", *STORE).stdout.strip() for task in tasks}
    worker = start("logged:manager", "--log-format", "json", stdout=subprocess.PIPE)
    for _ in jobs:
        worker.wait_for("completed in")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    printed = worker.process.stdout.read()
    worker.process.stdout.close()
    lines = [json.loads(line) for line in worker.lines]
    logged = [line for line in lines if line["logger"] == "logged"]
    assert sorted(
        (line["task"], line["level"], line["job_id"], line["attempt"], line["message"]) for line in logged
    ) == [(task, "info", jobs[task], 1, f"hello from {where}") for task, where in tasks.items()]
    assert printed == "to stdout\n"


SILENCING = """
import logging.config
from deeper_tasks import BackgroundTaskManager, Fail

manager = BackgroundTaskManager("sqlite:///tasks.db")


def configure():
    handler = {"class": "logging.StreamHandler"}
    logging.config.dictConfig({"version": 1, "handlers": {"h": handler}, "root": {"level": "INFO", "handlers": ["h"]}})


configure()


@manager.on_worker_start
def configure_again():
    configure()


@manager.task(executor="process")
def fail() -> None:
    manager.get_statistics()
    raise Fail("no stock")
"""


def test_no_configuration_of_logging_silences_a_worker_at_the_import_or_later(start, deeper, folder):
    (folder / "silencing.py").write_text(SILENCING)
    deeper("enqueue", "silencing.fail", "--unchecked", *STORE)
    worker = start("silencing:manager", "--json")
    worker.wait_for("no retry can help")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    for told in ("started, serving", "no retry can help", "manager.get_statistics() was never awaited"):
        assert len([line for line in worker.lines if told in line]) == 1


LEAVES = ["itself", "gather", "kept", "group", "to_thread", "task", "callback", "timer", "thread", "done"]


@pytest.fixture
def leaver(folder):
    """The store of the leaver's worker, and its tasks to enqueue them by."""
    manager = BackgroundTaskManager("sqlite:///tasks.db")
    names = ("leaves", "stops_the_loop", "neighbour", "last")
    tasks = {name: manager.task(name=f"leaver.{name}", max_attempts=1)(lambda *how: None) for name in names}
    with manager.sync as calls:

        def enqueue(name, *how):
            return calls.enqueue_task(tasks[name], args=list(how))

        yield enqueue, calls.result, calls.get_task_status


@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
def test_what_a_part_of_a_job_exits_by_fails_its_attempt_and_neither_the_worker_nor_its_neighbours(
    start, folder, leaver, loops
):
    enqueue, result, status = leaver
    install = "import uvloop\nuvloop.install()\n" if loops == "uvloop" else ""
    (folder / "leaver.py").write_text(install + LEAVER)
    neighbour = enqueue("neighbour")
    worker = start("leaver:manager")
    worker.wait_for("started attempt 1")
    jobs = {how: enqueue("leaves", how) for how in LEAVES}
    for job in jobs.values():
        with suppress(JobNotCompletedError):
            result(job, timeout=20)
    result(enqueue("stops_the_loop"), timeout=20)
    result(enqueue("last"), timeout=20)
    assert result(neighbour, timeout=20) == "undisturbed"
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 0
    ends = {how: status(job) for how, job in jobs.items()}
    # uvloop does not tell whose callback it was.
    blamed = set(LEAVES) if loops == "asyncio" else {"itself", "gather", "group", "to_thread"}
    assert {how for how, job in ends.items() if job.status == "discarded"} == blamed
    assert {ends[how].errors[-1].kind for how in blamed} <= {"SystemExit", "KeyboardInterrupt"}
    assert any("which no job's code has raised" in line for line in worker.lines)
    assert any("the event loop was stopped" in line for line in worker.lines)


@pytest.mark.parametrize("name", ["unasked", "cancelled"])
def test_a_worker_that_ends_without_having_been_asked_to_never_says_that_all_is_well(start, folder, name):
    (folder / "leaver.py").write_text(LEAVER)
    worker = start(f"leaver:{name}")
    assert worker.end() == 1
    words = "its own task was cancelled" if name == "cancelled" else "ended without a request to stop"
    assert words in worker.lines[-1]


def test_an_application_that_exits_by_itself_never_ends_its_worker_with_code_0(start, folder):
    (folder / "leaver.py").write_text("import sys\nsys.exit(0)")
    worker = start("leaver:manager")
    assert worker.end() == 1
    assert "without having been asked to: the application called sys.exit(0)" in worker.lines[-1]


@pytest.mark.parametrize(
    ("code", "end", "words"),
    [
        ("os._exit(0)", 1, "the application ended this worker process by os._exit(0) in "),
        ("os._exit(3)", 3, "the application ended this worker process by os._exit(3) in "),
        ("os.kill(os.getpid(), signal.SIGUSR1)", -signal.SIGUSR1, "this process ends by SIGUSR1, without having been"),
        ("os.abort()", -signal.SIGABRT, "Fatal Python error: Aborted"),
    ],
)
def test_what_ends_a_worker_process_at_once_is_told_and_is_never_code_0(start, folder, code, end, words):
    (folder / "leaver.py").write_text(f"import os, signal\n{code}")
    worker = start("leaver:manager")
    assert worker.end() == end
    assert words in ("\n".join(worker.lines) if end == -signal.SIGABRT else worker.lines[-1])


def test_sigquit_ends_a_worker_whose_loop_is_blocked_and_is_told(start, deeper):
    deeper("enqueue", "shop.block", "--unchecked", *STORE)
    worker = start("shop:manager")
    worker.wait_for("started attempt 1")
    worker.process.send_signal(signal.SIGQUIT)
    assert worker.end() == -signal.SIGQUIT
    assert "this process ends by SIGQUIT" in worker.lines[-1]


@pytest.mark.parametrize(
    ("given", "code"),
    [(0, 1), (None, 1), (256, 1), (3, 3), (-1, -1), ("no settings", 1)],
    ids=repr,
)
def test_the_code_of_an_application_s_own_exit_is_kept_unless_it_would_be_0(given, code, capsys):
    assert run_to_the_end(partial(sys.exit, given), as_json=False) == code
    assert ("no settings" in capsys.readouterr().err) is (given == "no settings")
