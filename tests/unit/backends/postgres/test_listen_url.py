"""The setting `listen_url`: the way around a pooler, for the store that uses it and for no other."""

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.noop import NoopBackend
from deeper_tasks.errors import ConfigError

POOLED = "postgresql://app:hidden@pooler:6432/shop?pooler=transaction&schema=jobs"
DIRECT = "postgresql://app:hidden@server:5432/shop?sslmode=require"


@pytest.mark.parametrize(
    ("url", "listen_url", "has_hints"),
    [
        ("postgresql://server/shop", None, True),
        (POOLED, None, False),
        (POOLED, DIRECT, True),
        ("postgresql://server/shop", DIRECT, True),
    ],
)
def test_there_are_hints_where_a_way_to_the_server_is_known(url, listen_url, has_hints):
    manager = BackgroundTaskManager(url, listen_url=listen_url)
    assert manager.backend.capabilities.has_hints is has_hints
    assert manager.backend._database.address.listen_conninfo == listen_url


@pytest.mark.parametrize("url", ["sqlite:///tasks.db", "memory://"])
def test_another_store_has_no_use_for_it(url):
    with pytest.raises(ConfigError, match=r"'listen_url' is only for postgresql:// stores.*: leave it out"):
        BackgroundTaskManager(url, listen_url=DIRECT)


@pytest.mark.parametrize("settings", [{"url": "noop://"}, {"url": POOLED, "enabled": False}])
def test_where_tasks_are_switched_off_it_may_stay(settings):
    assert isinstance(BackgroundTaskManager(**settings, listen_url=DIRECT).backend, NoopBackend)


@pytest.mark.parametrize(
    ("listen_url", "message"),
    [
        ("sqlite:///hidden", "it must be a postgresql:// URL, too"),
        ("postgresql://app:hidden@server/shop?schema=jobs", "the option 'schema', which belongs into the store's own"),
        ("postgresql://app:hidden@server/shop?colour=red", "check the names of its options"),
        ("postgresql://app:hidden%zz@server/shop", "percent-encode special characters"),
    ],
)
def test_one_that_cannot_be_used_is_refused_at_once_and_without_its_password(listen_url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        BackgroundTaskManager(POOLED, listen_url=listen_url)
    assert "hidden@" not in str(caught.value)
    assert "%zz" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_it_goes_with_the_store_that_it_belongs_to(tmp_path):
    manager = BackgroundTaskManager(POOLED, listen_url=DIRECT)
    manager.use_store(f"sqlite:///{tmp_path}/tasks.db")
    assert manager.settings.listen_url is None
    manager.use_store(POOLED, listen_url=DIRECT)
    assert manager.settings.listen_url == DIRECT
    assert manager.backend.capabilities.has_hints
