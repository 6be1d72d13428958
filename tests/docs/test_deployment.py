"""The files that the docs give for systemd, Docker and Compose: they are valid, and what they say to run runs."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from deeper_tasks import BackgroundTaskManager
from servers.ports import free_port
from servers.waiting import wait_for

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "how-to" / "run-workers.md").read_text("utf-8")
_BIN = Path(sys.executable).parent
_PATIENCE = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these files are for Linux")


def given(title):
    """The file of the page that has this title."""
    return re.search(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', _PAGE, re.DOTALL | re.MULTILINE)[1]


def moved(text, **places):
    """The same text, with its absolute paths below a folder of the test's."""
    for place, there in places.items():
        text = re.sub(rf"(?<![\w.]){re.escape('/' + place)}\b", str(there), text)
    return text


def environment(assignments, **more):
    """Only what the file itself sets, and what every process has."""
    return {
        "PATH": f"{_BIN}:/usr/bin:/bin",
        "HOME": os.devnull,
        **dict(each.split("=", 1) for each in assignments),
        **more,
    }


@contextlib.contextmanager
def started(command, folder, variables, umask=-1):
    """Start a worker as it is written; stop it as the machine does, and see that it ends in order."""
    process = subprocess.Popen(
        command, cwd=folder, env=variables, umask=umask, text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=_PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, told
    assert "no live worker serves" not in told


def run(command, folder, variables, umask=-1):
    done = subprocess.run(
        command, cwd=folder, env=variables, umask=umask, text=True, capture_output=True, timeout=_PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


async def run_jobs(url):
    """Enqueue a job of each queue that the application has, and one of another; return when they have run."""
    async with BackgroundTaskManager(url) as manager:

        @manager.task(name="shop.send_mail", queue="emails")
        async def send_mail(address: str) -> None: ...

        @manager.task(name="shop.make_video")
        async def make_video(name: str) -> None: ...

        jobs = [
            await send_mail.enqueue("ada@example.org"),
            await make_video.enqueue("birthday"),
            await send_mail.with_options(queue="newsletter").enqueue("ada@example.org"),
        ]
        for job in jobs:
            await manager.result(job, timeout=_PATIENCE)


# systemd


@pytest.fixture
def shop(tmp_path):
    """A folder with the application, as it is installed on a server."""
    shop = tmp_path / "srv" / "shop"
    commands = shop / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "deeper").symlink_to(_BIN / "deeper")
    (shop / "shop.py").write_text(given("shop.py"))
    return shop


@pytest.fixture
def unit(shop, tmp_path):
    """The unit, for the folders of the test."""
    return moved(given("shop.service"), srv=tmp_path / "srv", var=tmp_path / "var")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(unit, tmp_path):
    file = tmp_path / "shop.service"
    file.write_text(unit)
    verified = subprocess.run(
        ["systemd-analyze", "verify", file], text=True, capture_output=True, timeout=_PATIENCE, check=False
    )
    # It looks at the units of the machine as well.
    assert [line for line in verified.stderr.splitlines() if file.name in line] == []
    assert verified.returncode == 0


def test_the_unit_serves_all_queues_of_its_application_and_stops_in_order(unit, shop, tmp_path):
    entries = re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE)
    told = dict(entries)
    assert told["WorkingDirectory"] == str(shop)
    state = tmp_path / "var" / "lib" / told["StateDirectory"]
    state.mkdir(parents=True)
    state.chmod(int(told["StateDirectoryMode"], 8))
    umask = int(told["UMask"], 8)
    variables = environment([each for key, value in entries if key == "Environment" for each in shlex.split(value)])
    run(shlex.split(told["ExecStartPre"]), shop, variables, umask)
    assert (state / "tasks.db").exists()
    assert (told["KillMode"], told["OOMPolicy"]) == ("mixed", "continue")
    with started(shlex.split(told["ExecStart"]), shop, variables, umask):
        asyncio.run(run_jobs(variables["DEEPER_TASKS_URL"]))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*")}
        assert {"tasks.db", "tasks.db-wal"} < modes.keys()
        # The web application's user, who is in the group, writes all of them; others do not even read them.
        assert {name: mode for name, mode in modes.items() if mode & 0o067 != 0o060} == {}


# Docker


@pytest.fixture
def machine(tmp_path):
    """What stands for the image: the folders of the container, and the Dockerfile's instructions for them."""
    text = moved(given("Dockerfile"), app=tmp_path / "app", data=tmp_path / "data")
    port = str(free_port())
    return [
        line.split(" ", 1) for line in text.replace("\\\n", " ").replace("8080", port).splitlines() if line.strip()
    ], port


@pytest.fixture
def context(tmp_path):
    """The folder in which the image is built."""
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "deeper_tasks").symlink_to(_ROOT)
    [command] = re.findall(r"^\$ (pip wheel .*)$", _PAGE, re.MULTILINE)
    run(shlex.split(command), context, environment([], **offline(tmp_path)))
    for name in ("shop.py", "requirements.txt"):
        (context / name).write_text(given(name))
    return context


def for_root(folder):
    """A folder of commands that only root may run; they write down how they were called instead."""
    folder.mkdir()
    for name in ("useradd", "chown"):
        command = folder / name
        command.write_text('#!/bin/sh\necho "$(basename "$0") $*" >> "$0.calls"\n')
        command.chmod(0o755)
    return folder


def copy(source, target):
    """As COPY does it: of a folder what is in it."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def offline(site):
    """Have pip install the project alone, from this checkout and into a folder: what it depends on is here."""
    return {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_TARGET": str(site),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def test_each_line_of_the_dockerfile_runs_and_its_container_serves_all_queues(machine, context, tmp_path):
    instructions, port = machine
    site, data, folder, variables, command = tmp_path / "site", tmp_path / "data", tmp_path, {}, None
    root, user, check = for_root(tmp_path / "root"), None, None
    for name, rest in instructions:
        match name:
            case "FROM":
                assert re.fullmatch(r"python:3\.\d+-slim", rest)
            case "WORKDIR":
                folder = Path(rest)
                folder.mkdir()
            case "COPY":
                source, target = rest.split()
                copy(context / source, folder / target)
            case "RUN":
                commands = environment([], **variables, **offline(site))
                run(["sh", "-c", rest], folder, commands | {"PATH": f"{root}:{commands['PATH']}"})
            case "USER":
                user = rest
            case "HEALTHCHECK":
                check = json.loads(rest.partition("CMD ")[2])
            case "ENV":
                variables |= dict(each.split("=", 1) for each in shlex.split(rest))
            case "CMD":
                command = json.loads(rest)
            case _:
                pytest.fail(f"what does {name} do?")
    assert (root / "useradd.calls").read_text().split()[-1] == user
    assert (root / "chown.calls").read_text() == f"chown {user} {data}\n"
    installed = environment([], **variables, PYTHONPATH=str(site))
    installed["PATH"] = f"{site / 'bin'}:{installed['PATH']}"
    with started(command, folder, installed):
        wait_for(lambda: answers(port, "/ready"), "readiness of the container")
        run(check, folder, installed)
        asyncio.run(run_jobs(variables["DEEPER_TASKS_URL"]))


def answers(port, path):
    with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status == 200
    return False


# Compose


def test_the_compose_file_keeps_to_the_schema_of_compose_files(tmp_path):
    file = tmp_path / "compose.yaml"
    file.write_text(given("compose.yaml"))
    run([_BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file], tmp_path, environment([]))


def test_each_command_of_the_compose_file_runs(tmp_path):
    services = YAML(typ="safe").load(given("compose.yaml"))["services"]
    (tmp_path / "data").mkdir()
    instructions = moved(given("Dockerfile"), data=tmp_path / "data").splitlines()
    [assignments] = [shlex.split(line)[1:] for line in instructions if line.startswith("ENV ")]
    # A service without a command runs that of the image, which the test of the Dockerfile runs.
    commands = {name: service["command"] for name, service in services.items() if "command" in service}
    assert set(services) - set(commands) == {"worker"}
    # That of the web application is its own; a job that it enqueues is in the worker's store.
    assert commands.pop("web")[0] == "gunicorn"
    for command in commands.values():
        run(command, tmp_path, environment(assignments))
    assert (tmp_path / "data" / "tasks.db").exists()
    assert services["worker"]["depends_on"] == services["web"]["depends_on"]
    assert services["worker"]["depends_on"].keys() == commands.keys()
    assert all(service["volumes"] == ["tasks:/data"] for service in services.values())
    assert all(service.keys().isdisjoint({"environment", "env_file"}) for service in services.values())


def test_the_check_of_the_web_application_fails_where_nothing_listens(tmp_path):
    services = YAML(typ="safe").load(given("compose.yaml"))["services"]
    with socket.create_server(("127.0.0.1", 0)) as web:
        port = web.getsockname()[1]
        kind, *check = [str(word).replace("8000", str(port)) for word in services["web"]["healthcheck"]["test"]]
        assert kind == "CMD"
        run(check, tmp_path, environment([]))
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        run(check, tmp_path, environment([]))
