"""A password in a URL, however it is mistyped, is in no message, no name of the store and no finding."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import DeeperTasksError

TEMPLATES = (
    "postgresql://w:{}@127.0.0.1:1/lab?timeout=2",
    "postgresql://w:x@{}@127.0.0.1:1/lab",
    "postgresql:///w:{}@h/lab",
    "postgresql:/w:{}@h/lab",
    "postgresql//w:{}@h/lab",
    "postgresql:w:{}@h/lab",
    "//w:{}@h/lab",
    "w:{}@h/lab",
    "jdbc:postgresql://w:{}@h/lab",
    "oracle://w:{}@h/lab",
    "memory://w:{}@h",
    "sqlite://w:{}@h/x.db",
    "sqlite:///x.db?password={}",
    "sqlite:///x.db?timeout=5;password={}",
    "postgresql://127.0.0.1:1/lab?password={}",
    "postgresql://127.0.0.1:1/lab?pwd={}",
    "postgresql://127.0.0.1:1/lab?user=x;password={}",
    "postgresql://127.0.0.1:1/lab?schema=x;password={}",
    "postgresql://127.0.0.1:1/lab?schema=x password={}",
    "host=127.0.0.1 port=1 password={}",
    "password={} host=127.0.0.1 port=1",
    "Server=h;Password={};Database=d",
)
SPECIAL = "@:/?#%&;+ '\\\"[]$!~*,.\n"
PASSWORDS = st.builds("{}Q7{}zX9{}".format, *[st.text(SPECIAL, max_size=3)] * 3)


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=10)
@given(password=PASSWORDS)
def test_no_password_is_in_any_text(template, password):
    url = template.format(password)
    for text in texts_of(url):
        assert "Q7" not in text
        assert "zX9" not in text


def texts_of(url):
    """Return all that a manager says about its URL, without a connection: PostgreSQL's would refuse it."""
    try:
        manager = BackgroundTaskManager(url)
    except DeeperTasksError as error:
        return traceback.format_exception(error.with_traceback(None))
    return [repr(manager), manager.shown_store, repr(manager.settings), repr(manager.backend)]


@pytest.mark.parametrize("template", ["postgresql://w:{}@[::1]:1/lab?timeout=2", "postgresql://[::1]:1/l?password={}"])
async def test_a_store_that_is_not_there_is_reported_without_the_password(template):
    manager = BackgroundTaskManager(template.format("hunter2%40%2Fx"))
    with pytest.raises(DeeperTasksError) as raised:
        await manager.open()
    said = [*traceback.format_exception(raised.value), *map(str, await manager.diagnose()), manager.shown_store]
    assert "hunter2" not in "".join(said)
