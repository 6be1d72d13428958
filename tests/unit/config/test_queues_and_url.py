"""Queues as text, and URLs without their secrets."""

from __future__ import annotations

import pytest

from deeper_tasks.config import parse_queues, redacted
from deeper_tasks.errors import ConfigError


def test_queues_are_names_with_their_concurrency():
    assert parse_queues("default:20,emails:5") == {"default": 20, "emails": 5}


def test_a_queue_alone_runs_ten_jobs_at_once():
    assert parse_queues(" emails , default : 2,") == {"emails": 10, "default": 2}


def test_patterns_are_entries_like_others():
    assert parse_queues("*:10, tenant-*:2, tenant-eu-*") == {"*": 10, "tenant-*": 2, "tenant-eu-*": 10}


@pytest.mark.parametrize("text", ["a*b:1", "*a:1", "**:1", "a**:1", "a-*-*:1"])
def test_a_wildcard_within_a_name_is_refused_with_the_way_out(text):
    with pytest.raises(ConfigError, match=r"one '\*' at the end, such as 'tenant-\*', or '\*' alone for all queues"):
        parse_queues(text)


@pytest.mark.parametrize("text", ["emails=5", "emails=5:5", "emails:=5", "a=*:1"])
def test_an_equals_sign_is_refused_with_the_way_out(text):
    with pytest.raises(ConfigError, match="write the name, and how many of its jobs run at once, such as 'emails:5'"):
        parse_queues(text)


@pytest.mark.parametrize(
    "text", ["", ",", "a:", "a:x", "a:-1", "a:0", "a:10001", "a:99999999999", "a:1:2", ":5", "a b:1", "a:²"]
)
def test_what_is_no_list_of_queues_is_refused(text):
    with pytest.raises(ConfigError):
        parse_queues(text)


def test_a_queue_that_stands_there_twice_is_refused():
    with pytest.raises(ConfigError, match="'a' is listed twice"):
        parse_queues("a:1,a:2")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///tasks.db?synchronous=FULL", "sqlite:///tasks.db?synchronous=FULL"),
        ("sqlite:///a@b:c@d", "sqlite:///a@b:c@d"),
        ("memory://", "memory://"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("postgresql://user:secret@host/db", "postgresql://user:***@host/db"),
        ("oban+postgresql://user:secret@host/db", "oban+postgresql://user:***@host/db"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://u:se/cr:et@#?x@host", "redis://u:***@host"),
        ("postgresql://host/db?password=secret&x=1", "postgresql://host/db?password=***&x=1"),
        ("postgresql://host/db?x=1&sslpassword=secret", "postgresql://host/db?x=1&sslpassword=***"),
        ("user:secret@host", "user:***@host"),
        ("", ""),
        ("postgresql://h1:5432,[::1]:5433/db?sslmode=require", "postgresql://h1:5432,[::1]:5433/db?sslmode=require"),
        ("sqlite:///a.db?foreign_keys=on", "sqlite:///a.db?foreign_keys=on"),
        ("postgresql://w:se#cret@h/lab", "postgresql://w:***@h/lab"),
        ("postgresql://w:se?cret@h/lab", "postgresql://w:***@h/lab"),
        ("postgresql://w:se@cret@h/lab", "postgresql://w:***@h/lab"),
        ("postgresql://w/secret@h/lab", "postgresql://***@h/lab"),
        ("postgresql://w:secret/lab", "postgresql://w:***"),
        ("//w:secret@h/d", "//w:***@h/d"),
        ("postgresql//w:secret@h/d", "postgresql//w:***@h/d"),
        ("jdbc:postgresql://w:secret@h/d", "jdbc:postgresql://w:***@h/d"),
        ("postgresql://h/d?user=x;password=secret", "postgresql://h/d?user=x;password=***"),
        ("postgresql://h/d?pwd=se#c r&et&x=1", "postgresql://h/d?pwd=***"),
        ("host=h password=secret dbname=d", "host=h password=*** dbname=d"),
        ("password='it\\'s a=b' host=h", "password=*** host=h"),
        ("redis://h/0?api_key=secret&ssl_key=secret", "redis://h/0?api_key=***&ssl_key=***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert redacted(url) == shown
