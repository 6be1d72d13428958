"""The health server on a real socket: its answers, and clients of every kind."""

import gc
import json
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from deeper_tasks.errors import ConfigError
from deeper_tasks.health import HealthServer, ProcessHealth, ProcessStatus
from deeper_tasks.health import server as server_module
from deeper_tasks.health.health import sum_up


class Served:
    """A server whose health the test decides."""

    def __init__(self):
        self.status = ProcessStatus.READY
        self.is_live = True
        self.error = None
        self.server = HealthServer(host="127.0.0.1", port=0, health=self.health)
        self.server.start()

    def health(self):
        if self.error is not None:
            raise self.error
        process = ProcessHealth(index=1, name="worker", pid=1, status=self.status)
        return sum_up([process], is_live=self.is_live, is_stopping=False)

    def connect(self):
        address = urlsplit(self.server.url)
        return socket.create_connection((address.hostname, address.port), timeout=30)

    def send(self, data):
        """Send bytes, and return all that comes back."""
        received = []
        # One that is left before its request was read is told so by a reset.
        with self.connect() as connection, suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received.extend(iter(lambda: connection.recv(65_536), b""))
        return b"".join(received)

    def ask(self, line):
        head, _, body = self.send(f"{line}\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body else None


@pytest.fixture
def served():
    served = Served()
    yield served
    served.server.stop()


@pytest.mark.parametrize(
    ("status", "is_live", "codes"),
    [
        ("ready", True, (200, 200, 200)),
        ("unready", True, (200, 503, 503)),
        ("ready", False, (503, 200, 503)),
        ("stopping", True, (200, 503, 503)),
    ],
)
def test_each_path_answers_200_if_it_holds_and_otherwise_503(served, status, is_live, codes):
    live, ready, health = codes
    served.status, served.is_live = ProcessStatus(status), is_live
    assert served.ask("GET /live HTTP/1.1") == (live, {"live": is_live})
    code, answer = served.ask("GET /ready HTTP/1.1")
    assert (code, answer["ready"]) == (ready, ready == 200)
    code, answer = served.ask("GET /health?full=1 HTTP/1.0")
    assert (code, [process["status"] for process in answer["processes"]]) == (health, [status])


def test_head_has_no_body(served):
    assert served.ask("HEAD /ready HTTP/1.1") == (200, None)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("GET / HTTP/1.1", 404),
        ("GET /live/../etc/passwd HTTP/1.1", 404),
        ("POST /ready HTTP/1.1", 405),
        ("DELETE /health HTTP/1.1", 405),
        ("nonsense", 400),
        ("\x16\x03\x01\x02", 400),
        ("", 400),
    ],
)
def test_other_requests_are_refused(served, line, code):
    assert served.ask(line)[0] == code


def test_a_request_without_its_end_is_answered(served):
    assert served.send(b"GET /live\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_without_limit_is_refused(served):
    with served.connect() as connection:
        connection.sendall(b"x" * 20_000)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert served.ask("GET /live HTTP/1.1")[0] == 200


def test_health_that_cannot_be_told_is_503_and_its_reason_is_in_the_log(served, caplog):
    served.error = ZeroDivisionError("our own")
    code, answer = served.ask("GET /ready HTTP/1.1")
    assert code == 503
    assert "Traceback" not in str(answer)
    assert "ZeroDivisionError: our own" in caplog.text


def test_slow_clients_keep_nobody_waiting_and_are_left(served, monkeypatch):
    monkeypatch.setattr(server_module, "_PATIENCE", 0.2)
    slow = [served.connect() for _ in range(20)]
    for each in slow:
        each.sendall(b"GET /li")
    assert served.ask("GET /live HTTP/1.1")[0] == 200
    for each in slow:
        assert each.recv(100) == b""
        each.close()


def test_who_keeps_too_many_connections_open_loses_the_oldest_and_keeps_nobody_out(served):
    many = [served.connect() for _ in range(server_module._MOST_CLIENTS)]
    for _ in range(3):
        assert served.ask("GET /live HTTP/1.1")[0] == 200
    assert many[0].recv(100) == b""
    many[-1].sendall(b"GET /live HTTP/1.1\r\n\r\n")
    assert many[-1].recv(100).startswith(b"HTTP/1.1 200")
    for each in many:
        each.close()


def test_a_client_that_breaks_off_harms_nobody(served):
    for _ in range(10):
        with served.connect() as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert served.ask("GET /live HTTP/1.1")[0] == 200


def test_stopping_frees_the_port_although_somebody_is_connected(served):
    with served.connect():
        served.server.stop()
    port = urlsplit(served.server.url).port if served.server._socket.fileno() >= 0 else None
    assert port is None
    assert not any(thread.name == "deeper-health" for thread in threading.enumerate())


def test_an_address_that_is_taken_or_unknown_is_a_clear_error(served):
    port = urlsplit(served.server.url).port
    with pytest.raises(ConfigError, match=f"'127.0.0.1', port {port}: Address already in use; choose another"):
        HealthServer(host="127.0.0.1", port=port, health=served.health)
    with pytest.raises(ConfigError, match=r"cannot be served on 'ä\.\.b', port 0: .*label empty.*; choose another"):
        HealthServer(host="ä..b", port=0, health=served.health)
    with pytest.raises(ConfigError, match="health cannot be served on 'no host of mine'"):
        HealthServer(host="no host of mine", port=0, health=served.health)


def test_one_that_never_started_can_be_stopped(served):
    HealthServer(host="127.0.0.1", port=0, health=served.health).stop()


def test_stopping_leaves_no_connection_open_that_came_at_the_last_moment():
    for _ in range(30):
        served = Served()
        connections = [served.connect() for _ in range(5)]
        served.server.stop()
        for connection in connections:
            connection.close()
    # What was left open warns when it is collected, and a warning is an error.
    gc.collect()


def test_one_that_cannot_be_let_in_is_let_in_a_little_later(served):
    accept, refused = served.server._socket.accept, []

    class Crowded:
        """The listening socket of a process that has too many files open for a while."""

        def accept(self):
            if len(refused) < 3:
                refused.append(1)
                raise OSError(24, "Too many open files")
            return accept()

        def __getattr__(self, name):
            return getattr(listening, name)

    listening = served.server._socket
    served.server._socket = Crowded()
    assert served.ask("GET /live HTTP/1.1")[0] == 200
    assert len(refused) == 3
