"""A web server that forks after it has loaded the application: each request's job is there, whoever is killed."""

import asyncio
import http.client
import os
import re
import signal
import threading

import pytest
from workshop.crew import STORES

from deeper_tasks import State

CLIENTS = 4
EACH = 40
KILLS = 3
pytestmark = pytest.mark.timeout(120)


class Client(threading.Thread):
    """Sends requests one after the other until told that it is enough; keeps what came back."""

    def __init__(self, port, enough):
        super().__init__(daemon=True)
        self.port = port
        self.enough = enough
        self.answers = []
        self.lost = 0

    def run(self):
        while len(self.answers) < EACH or not self.enough.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("POST", "/")
                response = connection.getresponse()
                body = response.read().decode()
            except (OSError, http.client.HTTPException):
                # Its worker was killed: nobody was told of a job.
                self.lost += 1
                continue
            finally:
                connection.close()
            assert response.status == 200, body
            self.answers.append(body.split())


@pytest.fixture(params=["sync", "gthread"])
async def server(crew, request, wait_until):
    pytest.importorskip("gunicorn")
    options = ["--preload", "--workers", "2", "--bind", "127.0.0.1:0", "--no-control-socket", "-k", request.param]
    if request.param == "gthread":
        options += ["--threads", "2"]
    server = crew.start("gunicorn", *options, "workshop.wsgi:app")
    await wait_until(lambda: len(pids(server)) == 2)
    yield server
    assert server.stop() == 0


def said(server, pattern):
    return re.findall(pattern, server.log.read_text())


def pids(server):
    """Return the processes that have answered requests, the newest last."""
    return [int(pid) for pid in said(server, r"Booting worker with pid: (\d+)")]


def clients_of(server, enough):
    [port] = said(server, r"Listening at: http://127\.0\.0\.1:(\d+)")
    clients = [Client(int(port), enough) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    return clients


async def check_answers(clients, manager, server):
    await asyncio.to_thread(lambda: [client.join() for client in clients])
    answers = [answer for client in clients for answer in client.answers]
    jobs = [job for job, _ in answers] + said(server, r"imported (\S+)")
    assert len(set(jobs)) == len(jobs) >= CLIENTS * EACH + 1
    for job in jobs:
        assert (await manager.get_task_status(job)).status is State.PENDING
    # A request whose worker was killed may have made a job that nobody was told of.
    lost = sum(client.lost for client in clients)
    assert len(jobs) <= (await manager.list_tasks()).total_entries <= len(jobs) + lost
    return {int(pid) for _, pid in answers}, lost


@pytest.fixture
def enough():
    enough = threading.Event()
    yield enough
    enough.set()


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_every_answer_of_forked_workers_stands_for_one_job(crew, manager, server, enough):
    enough.set()
    answered_by, lost = await check_answers(clients_of(server, enough), manager, server)
    assert lost == 0
    assert answered_by <= set(pids(server))
    crew.check_database()


async def test_a_reload_and_killed_workers_lose_no_job_of_an_answer(crew, manager, server, wait_until, enough):
    clients = clients_of(server, enough)

    async def after_more_answers(act):
        answered = sum(len(client.answers) for client in clients)
        await wait_until(lambda: sum(len(client.answers) for client in clients) > answered + EACH)
        before = len(pids(server))
        act()
        await wait_until(lambda: len(pids(server)) > before)

    for _ in range(KILLS):
        await after_more_answers(lambda: os.kill(pids(server)[-1], signal.SIGKILL))
    await after_more_answers(lambda: server.send(signal.SIGHUP))
    enough.set()
    await check_answers(clients, manager, server)
    crew.check_database()
