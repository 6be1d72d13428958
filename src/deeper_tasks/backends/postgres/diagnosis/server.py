"""The server: its version, distance and clock, how durable its commits are, and how many sessions it has left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.backends.postgres.schema import OLDEST_SERVER
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, fine, warning

# As an exact number: the format of a moment and the digits of a float depend on settings of the session.
SELECT_CLOCK = "SELECT extract(epoch FROM clock_timestamp())"
SELECT_SETTINGS = """
SELECT name, setting FROM pg_settings
WHERE name IN ('server_version', 'server_version_num', 'fsync', 'full_page_writes', 'synchronous_commit',
    'autovacuum', 'track_counts', 'max_connections', 'superuser_reserved_connections')
"""
COUNT_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"

_ROUND_TRIPS = 5
_FAR = timedelta(milliseconds=20)
_TOLERATED = timedelta(seconds=2)
_NEARLY_ALL = 0.8


async def examine(connection: Connection) -> list[Finding]:
    """Return the findings about the server."""
    settings: dict[str, str] = dict(await (await connection.execute(SELECT_SETTINGS)).fetchall())
    [(sessions,)] = await (await connection.execute(COUNT_SESSIONS)).fetchall()
    round_trip, ahead = await _measure(connection)
    return [
        _version(settings, round_trip),
        _clock(ahead),
        *_durability(settings),
        *_vacuum(settings),
        _sessions(settings, sessions),
    ]


async def _measure(connection: Connection) -> tuple[timedelta, timedelta]:
    """Return the shortest round trip, and how far the server's clock was ahead of this machine's in it."""
    measured = []
    for _ in range(_ROUND_TRIPS):
        began, start = time.time(), time.monotonic()
        [(moment,)] = await (await connection.execute(SELECT_CLOCK)).fetchall()
        took = time.monotonic() - start
        measured.append((timedelta(seconds=took), timedelta(seconds=float(moment) - began - took / 2)))
    return min(measured, key=lambda each: each[0])


def _version(settings: dict[str, str], round_trip: timedelta) -> Finding:
    fact = f"PostgreSQL {settings['server_version']}, a round trip takes {readable(round_trip)}"
    if int(settings["server_version_num"]) < OLDEST_SERVER:
        return fault("server", fact, "upgrade it: version 14 or later is needed")
    if round_trip > _FAR:
        remedy = "have the workers run near the server: each claim, and each end of a job, waits for a round trip"
        return warning("server", f"{fact}: it is far away, or busy", remedy)
    return fine("server", fact)


def _clock(ahead: timedelta) -> Finding:
    if abs(ahead) <= _TOLERATED:
        return fine("server's clock", "the same as this machine's")
    way = "ahead of" if ahead > timedelta(0) else "behind"
    return warning(
        "server's clock",
        f"{readable(abs(ahead))} {way} this machine's; due times go by the server's",
        "have both clocks set by NTP",
    )


def _durability(settings: dict[str, str]) -> Iterator[Finding]:
    mode = settings["synchronous_commit"]
    off = [name for name in ("fsync", "full_page_writes") if settings[name] == "off"]
    if off:
        fact = f"{' and '.join(off)} off: after a power cut the whole database may be damaged"
        yield fault("durability", fact, f"set {' and '.join(f'{name} = on' for name in off)} and reload the server")
    elif mode == "off":
        yield warning(
            "durability",
            "synchronous_commit is off: a crash of the server loses the jobs of its last half second",
            "ALTER ROLE … SET synchronous_commit = on for the user of this store, unless that was the intention",
        )
    else:
        yield fine("durability", f"an enqueue that returned outlives a power cut (synchronous_commit = {mode})")


def _vacuum(settings: dict[str, str]) -> Iterator[Finding]:
    off = [name for name in ("autovacuum", "track_counts") if settings[name] == "off"]
    if off:
        yield fault(
            "autovacuum",
            f"{' and '.join(off)} off: dead rows stay, the tables grow, and each claim takes longer than the last",
            f"set {' and '.join(f'{name} = on' for name in off)} and reload the server",
        )


def _sessions(settings: dict[str, str], sessions: int) -> Finding:
    most = int(settings["max_connections"]) - int(settings["superuser_reserved_connections"])
    fact = f"{sessions} of {most} are in use"
    if sessions < _NEARLY_ALL * most:
        return fine("connections", fact)
    return warning(
        "connections",
        f"{fact}: soon workers and enqueues are turned away",
        "raise max_connections, lower pool_size in the store's URL, or put a pooler in between",
    )
