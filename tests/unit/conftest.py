"""
The guard of the unit tests: one that starts a process or opens a server fails, for it belongs to `tests/integration`.

The guard hears of it from the interpreter (`sys.addaudithook`), whatever function was called. The fixtures that give
a server are refused.
"""

import sys

import pytest

_STARTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)
_INTERNET = frozenset({"AF_INET", "AF_INET6"})


class Guard:
    """Notes what is started and opened while it is on; an audit hook cannot be removed, so it is turned off."""

    def __init__(self):
        self.is_on = False
        self.seen = []

    def __call__(self, event, arguments):
        if self.is_on and (event in _STARTS or (event == "socket.bind" and arguments[0].family.name in _INTERNET)):
            self.seen.append(event)


_guard = Guard()
sys.addaudithook(_guard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    _guard.seen.clear()
    _guard.is_on = True
    try:
        return (yield)
    finally:
        _guard.is_on = False


@pytest.fixture(autouse=True)
def no_process_and_no_server():
    """Fail a test that has started a process or opened a server, in itself or in a fixture."""
    yield
    assert not _guard.seen, f"a unit test may not start a process or open a server ({', '.join(_guard.seen)})"


def _refuse():
    pytest.fail("a unit test has no server: it belongs to tests/integration")


@pytest.fixture(scope="session")
def postgres():
    _refuse()


@pytest.fixture
def start_postgres():
    _refuse()


@pytest.fixture
def start_proxy():
    _refuse()


@pytest.fixture
def start_pgbouncer():
    _refuse()
