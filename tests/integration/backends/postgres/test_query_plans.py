"""The plans of the statements, also of those within functions: each by its index, whatever the statistics say."""

import asyncio
import re
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from msgspec.structs import replace

from deeper_tasks.backends.postgres import (
    Address,
    PostgresBackend,
    claiming,
    control,
    counters,
    insert,
    job_transaction,
    listing,
    maintenance,
    nodes,
    pruning,
    reads,
    reporting,
    schedules,
    selection,
    settling,
    transitions,
)
from deeper_tasks.backends.postgres.sender import AT_ONCE
from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, JobQuery, QueueSettings, Retention, SortKey
from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.schedule import plan_firing
from deeper_tasks.domain.settlement import End, Report
from deeper_tasks.domain.short_ids import cut
from deeper_tasks.domain.state import DEAD_LETTER, WAITING, State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    HOUR,
    NOW,
    join,
    new_id,
    new_job,
    new_node,
    new_token,
    settlement,
)
from deeper_tasks.testing.conformance.schedules import NO_OVERLAP

MODULES = (
    claiming,
    control,
    counters,
    insert,
    listing,
    maintenance,
    nodes,
    pruning,
    reads,
    reporting,
    schedules,
    selection,
    settling,
    transitions,
)

NODES, RUNNING_EACH = 4, 5_000

ENDED = """
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, finished_at, node, token, unique_key
)
SELECT
    ('01890000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
    CASE WHEN i % 10 = 1 THEN 7 WHEN i % 100 = 2 THEN 8 WHEN i % 100 = 3 THEN 9 ELSE 6 END,
    'shop.mails.send', '[[],{{}}]', CASE i % 3 WHEN 0 THEN 'emails' ELSE 'default' END, 0, 1, 5, 5,
    now() - interval '2 days' + i * interval '1 millisecond',
    now() - interval '2 days' + i * interval '1 millisecond' + (i % 10 / 9) * interval '1 second',
    now() - interval '2 days' + i * interval '1 millisecond' + interval '3 seconds', 1, 'old-' || (i / 500),
    CASE i % 100 WHEN 1 THEN 'key-' || i END
FROM generate_series(1, {number}) AS i
"""
# Of the running a quarter each belongs to one of the nodes.
LIVE = """
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, attempted_at, expires_at, node, token
)
SELECT
    gen_random_uuid(), state, 'shop.mails.send', '[[],{{}}]', CASE i % 3 WHEN 0 THEN 'emails' ELSE 'default' END,
    i % 2, 1, 5, 5, now() - interval '1 hour' + i * interval '1 millisecond',
    now() - interval '1 hour' + i * interval '1 millisecond' + delay, CASE state WHEN 4 THEN now() END,
    CASE WHEN state = 3 AND i % 100 = 0 THEN now() + (i - 1000) * interval '1 second' END,
    CASE state WHEN 4 THEN (ARRAY (SELECT number FROM node ORDER BY number))[1 + i % {nodes}] END,
    CASE state WHEN 4 THEN 'held-' || (i % {nodes}) || '-' || (i / 500) END
FROM (VALUES {lines}) AS line (state, number, delay) CROSS JOIN LATERAL generate_series(1, number) AS i
"""
RUNNING_LINES = f"(4, {NODES * RUNNING_EACH}, interval '0')"
OTHER_LINES = """
(3, 2000, interval '0'), (3, 500, interval '1 minute'), (1, 1000, interval '1 minute'), (1, 3000, interval '1 day'),
(5, 500, interval '1 day')
"""
COUNT = """
TRUNCATE counter, move;
INSERT INTO counter (queue, state, bucket, count) SELECT queue, state, 0, count(*) FROM job GROUP BY queue, state
"""


class Store:
    """A database whose statistics the tests choose."""

    def __init__(self, url):
        self._connection = psycopg.connect(url, autocommit=True, options="-c search_path=deeper")

    def execute(self, statement):
        self._connection.execute(statement)

    def close(self):
        self._connection.close()

    def add_ended(self, number):
        self.execute(ENDED.format(number=number))

    def add_running(self):
        self.execute(LIVE.format(nodes=NODES, lines=RUNNING_LINES))

    def add_others(self):
        self.execute(LIVE.format(nodes=NODES, lines=OTHER_LINES))


def never_analyzed(store, number):
    store.add_ended(number)
    store.add_running()
    store.add_others()


def analyzed_while_empty(store, number):
    store.execute("ANALYZE")
    never_analyzed(store, number)


def analyzed_while_all_ran(store, number):
    store.add_running()
    store.execute(COUNT)
    store.execute("ANALYZE")
    store.add_ended(number)
    store.add_others()


def analyzed_when_all_had_ended(store, number):
    store.add_ended(number)
    store.execute(COUNT)
    store.execute("ANALYZE")
    store.add_running()
    store.add_others()


def analyzed_as_it_is(store, number):
    never_analyzed(store, number)
    store.execute(COUNT)
    store.execute("VACUUM ANALYZE")


LISTS = {
    "all": JobFilter(),
    "completed": JobFilter(states=frozenset({State.COMPLETED})),
    "dead letters": JobFilter(states=DEAD_LETTER),
    "waiting": JobFilter(states=WAITING),
    "pending": JobFilter(states=frozenset({State.PENDING})),
    "running": JobFilter(states=frozenset({State.RUNNING})),
    "scheduled": JobFilter(states=frozenset({State.SCHEDULED})),
    "a queue": JobFilter(queue="emails"),
    "a queue's dead letters": JobFilter(queue="emails", states=DEAD_LETTER),
    "a queue that nobody knows": JobFilter(queue="none"),
    "a task": JobFilter(task="shop.mails.send"),
}


class Day:
    """A day in the life of a store: every call of the protocol, and the plans of what each did."""

    def __init__(self, backend, watch):
        self.plans = {}
        self._backend = backend
        self._watch = watch

    async def run(self, nodes):
        for name, call in self._calls(nodes):
            self._watch.taken()
            self._answer = await call
            self.plans[name] = self._watch.taken()

    def _calls(self, nodes):
        backend, node, dead = self._backend, nodes[0], nodes[1]
        yield "register", backend.register(new_node())
        new = [new_job(unique=Unique(key=f"new-{i}") if i % 2 else None) for i in range(500)]
        yield "insert", backend.insert(new)
        yield "insert in a burst", asyncio.gather(*(backend.insert([new_job()]) for _ in range(2 * AT_ONCE)))
        yield "insert of known", backend.insert([known := new_job()] * 2)
        yield "insert of scheduled", backend.insert([new_job(delay=timedelta(hours=1)) for _ in range(10)])
        token = new_token()
        yield "claim", backend.claim("default", limit=500, slots=400, node=node, token=token)
        jobs = self._answer.jobs
        yield "repeated claim", backend.claim("default", limit=500, slots=400, node=node, token=token)
        pattern = QueuePattern(prefix="", excluded=frozenset({"none"}), excluded_prefixes=("x",))
        yield (
            "claim by a pattern",
            backend.claim(pattern, limit=10, slots=10, node=node, token=new_token(), after="default"),
        )
        assert self._answer.jobs
        claim_floor = backend._pattern_claim_floors[pattern]
        claim_floor._searches.note(passed_by=1_000_000)
        yield (
            "claim by a pattern under an old snapshot",
            backend.claim(pattern, limit=10, slots=10, node=node, token=new_token(), after="default"),
        )
        assert self._answer.jobs
        progress = Progress(fraction=0.5)
        yield (
            "report",
            backend.report([Report(id=job.id, token=job.token, progress=progress, lines=("on it",)) for job in jobs]),
        )
        yield "beat", backend.beat(node)
        yield "complete in the job's transaction", self._complete(jobs[0], progress)
        settlements = [settlement(job) for job in jobs[1:300]]
        settlements += [settlement(job, End.RETRY, delay=timedelta(minutes=1), error=BOOM) for job in jobs[300:350]]
        settlements += [settlement(job, End.FAIL, error=BOOM) for job in jobs[350:400]]
        settlements += [settlement(job, End.RELEASE) for job in jobs[400:]]
        yield "settle", backend.settle(settlements)
        yield "repeated settle", backend.settle(settlements)
        # What a settle asks for that met a locked row.
        search = {"ids": "{" + ",".join(job.id for job in jobs) + "}"}
        yield (
            "search for rows held elsewhere",
            backend._database.run(lambda transaction: transaction.rows(settling.SELECT_LOCKED_ELSEWHERE, search)),
        )
        yield "promote", backend.promote()
        yield "fold", backend.fold()
        yield "rescue", backend.rescue(dead, beat=0)
        yield "expire", backend.expire()
        yield "prune", backend.prune(Retention(completed=timedelta(hours=1), failed=timedelta(hours=1)))
        yield "deregister", backend.deregister(node)
        yield "stand in for a node", self._stand_in_for(node)
        yield "statistics", backend.statistics()
        yield "service", backend.service("default", task="shop.send")
        yield "diagnose", backend.diagnose()
        yield "get", backend.get(known.request_id)
        yield "find_ids", backend.find_ids([cut(known.request_id, digits) for digits in range(13, 25)], limit=2)
        yield "walk", backend.walk(after=known.request_id, limit=50)
        yield "nodes", backend.nodes()
        yield "queues", backend.queues()
        yield "put_queue", backend.put_queue(QueueSettings(name="slow"))
        yield from self._lists([job.id for job in jobs])
        yield from self._changes([job.id for job in jobs], [job.request_id for job in new])
        yield from self._schedules()

    async def _stand_in_for(self, node):
        query = "DELETE FROM node WHERE id = %(node)s"
        await self._backend._database.run(lambda transaction: transaction.execute(query, {"node": node}))
        return await self._backend._run(partial(pruning.replace_missing_nodes, now=None))

    async def _complete(self, job, progress):
        transaction = await self._backend.begin(is_async=True)
        transaction.connection.add_notice_handler(self._watch.hear)
        last = Report(id=job.id, token=job.token, progress=progress, lines=("done",))
        assert await transaction.complete(settlement(job), report=last)

    def _lists(self, ids):
        backend = self._backend
        for name, condition in LISTS.items():
            for key in SortKey:
                for is_descending in (True, False) if name == "all" else (True,):
                    query = JobQuery(filter=condition, sort_by=key, is_descending=is_descending, limit=50)
                    way = f"list of {name} by {key.value}, {'down' if is_descending else 'up'}"
                    yield way, backend.find(query)
                    if self._answer.next is not None:
                        yield f"{way}, next page", backend.find(replace(query, after=self._answer.next))
        states = frozenset({State.PENDING, State.COMPLETED})
        yield "list of named", backend.find(JobQuery(filter=JobFilter(ids=tuple(ids), states=states, queue="default")))

    def _changes(self, ids, others):
        backend = self._backend
        pending, running = frozenset({State.PENDING}), frozenset({State.RUNNING})
        yield "cancel of named", backend.cancel(JobFilter(ids=tuple(ids), states=pending), reason="enough")
        yield "cancel of pending", backend.cancel(JobFilter(queue="emails", states=pending), reason="enough")
        yield "cancel of running", backend.cancel(JobFilter(queue="emails", states=running), reason="enough")
        yield "cancel of waiting", backend.cancel(JobFilter(task="shop.mails.send", states=WAITING), reason="enough")
        yield "retry of named", backend.retry(JobFilter(ids=tuple(ids)))
        yield "retry", backend.retry(JobFilter(queue="emails", states=frozenset({State.FAILED})))
        yield "reschedule", backend.reschedule(others[0], due=HOUR)
        yield "run now", backend.reschedule(others[0], due=None)
        yield "run now of pending", backend.reschedule(others[1], due=None)
        yield "delete", backend.delete(JobFilter(queue="emails", states=frozenset({State.RETRYABLE})))
        yield "cancel of holders of keys", backend.cancel(JobFilter(ids=tuple(others[:100])), reason="enough")
        yield "delete of named", backend.delete(JobFilter(ids=tuple(others)))

    def _schedules(self):
        backend = self._backend
        yield "put_schedule", backend.put_schedule(NO_OVERLAP, now=NOW)
        yield "schedules", backend.schedules(now=NOW)
        [entry] = self._answer.entries
        yield "fire", backend.fire(plan_firing(entry, now=NOW + HOUR), now=NOW + HOUR)
        yield "run_schedule", backend.run_schedule(NO_OVERLAP.name, request_id=new_id(), now=NOW + HOUR)
        yield "schedule_runs", backend.schedule_runs(NO_OVERLAP.name)
        yield "pause_schedule", backend.pause_schedule(NO_OVERLAP.name, is_paused=True, now=NOW + HOUR)
        yield "remove_schedule", backend.remove_schedule(NO_OVERLAP.name)
        yield "put_schedule of declared", backend.put_schedule(replace(NO_OVERLAP, is_declared=True), now=NOW)
        yield "remove_schedule of declared", backend.remove_schedule(NO_OVERLAP.name, is_remembered=True)


async def live(url, watch, fill, number, *, is_planned_while_empty):
    """Return the plans of a day, by the call, in a store that was filled so."""
    backend = PostgresBackend(Address(conninfo=url, timeout=timedelta(seconds=60)))
    await backend.open()
    store = Store(url)
    try:
        for table in ("job", "move", "counter", "node"):
            store.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        if is_planned_while_empty:
            # The session keeps what it has planned.
            for _ in range(2):
                await Day(backend, watch).run([await join(backend), await join(backend)])
            store.execute("DELETE FROM job; DELETE FROM node")
        ids = [await join(backend) for _ in range(NODES)]
        fill(store, number)
        store.execute(COUNT)
        day = Day(backend, watch)
        await day.run(ids)
    finally:
        store.close()
        await backend.close()
    return day.plans


STORES = {
    "never analyzed": (never_analyzed, 10_000),
    "planned while empty": (never_analyzed, 20_000),
    "analyzed while empty": (analyzed_while_empty, 20_000),
    "analyzed while all ran": (analyzed_while_all_ran, 20_000),
    "analyzed as it is": (analyzed_as_it_is, 20_000),
    "analyzed with a million ended jobs": (analyzed_when_all_had_ended, 1_000_000),
}


@pytest.fixture(scope="module")
def days(watch, new_watched_database):
    """Return the plans of a day in one of the `STORES`."""
    known = {}

    def days(name):
        if name not in known:
            fill, number = STORES[name]
            with new_watched_database() as url:
                is_planned = name == "planned while empty"
                known[name] = asyncio.run(live(url, watch, fill, number, is_planned_while_empty=is_planned))
        return known[name]

    return days


# The indexes of jobs that a call may use, and none other; each must be used in some store.
EVERY_CALL = {
    "register": set(),
    "insert": {"job_pkey"},
    "insert in a burst": {"job_pkey"},
    "insert of known": {"job_pkey"},
    "insert of scheduled": {"job_pkey"},
    "claim": {"job_running", "job_pending", "job_pkey"},
    "repeated claim": {"job_running"},
    "claim by a pattern": {"job_running", "job_pending", "job_pkey"},
    "claim by a pattern under an old snapshot": {"job_running", "job_pending", "job_pkey"},
    "report": {"job_pkey"},
    "beat": {"job_running"},
    "complete in the job's transaction": {"job_pkey"},
    "settle": {"job_pkey"},
    "repeated settle": {"job_pkey"},
    "search for rows held elsewhere": {"job_pkey"},
    "promote": {"job_due", "job_pkey"},
    "rescue": {"job_running", "job_pkey"},
    "expire": {"job_expiring", "job_pkey"},
    "prune": {"job_ended", "job_pkey", "job_running"},
    "deregister": {"job_running"},
    "stand in for a node": {"job_running"},
    "statistics": {"job_running"},
    "service": {"job_running"},
    "diagnose": set(),
    "get": {"job_pkey"},
    "find_ids": {"job_pkey"},
    "walk": {"job_pkey"},
    "nodes": set(),
    "queues": set(),
    "put_queue": set(),
    "list of named": {"job_pkey"},
    "cancel of named": {"job_pkey"},
    "cancel of pending": {"job_pending", "job_pkey"},
    "cancel of running": {"job_running", "job_pkey"},
    "cancel of waiting": {"job_moved_to", "job_pkey"},
    "retry of named": {"job_pkey"},
    "retry": {"job_ended", "job_pkey"},
    "reschedule": {"job_pkey"},
    "run now": {"job_pkey"},
    "run now of pending": {"job_pkey"},
    "delete": {"job_moved_to", "job_pkey"},
    "cancel of holders of keys": {"job_pkey"},
    "delete of named": {"job_pkey"},
    "put_schedule": set(),
    "schedules": set(),
    "fire": {"job_pkey"},
    "run_schedule": {"job_pkey"},
    "schedule_runs": {"job_pkey"},
    "pause_schedule": set(),
    "remove_schedule": set(),
    "put_schedule of declared": set(),
    "remove_schedule of declared": set(),
}
LISTS_BY = {
    SortKey.INSERTED_AT: {"job_running", "job_pending", "job_moved", "job_ended_at_once", "job_pkey"},
    SortKey.SCHEDULED_AT: {"job_running", "job_pending", "job_moved_to", "job_ended_at_once", "job_pkey"},
    SortKey.FINISHED_AT: {"job_running", "job_pending", "job_moved_to", "job_ended", "job_pkey"},
}
COUNTING = {"job_running", "job_pending", "job_moved_to", "job_ended"}

# Rows that a scan may look at: a batch and what is passed by on the way, or all that the node or the store runs.
MOST_READ = {
    "beat": 2 * RUNNING_EACH,
    "prune": 8 * (MAX_BATCH + 1),
    "statistics": NODES * RUNNING_EACH,
    "service": NODES * RUNNING_EACH,
}
MOST_READ_BY_A_LIST = NODES * RUNNING_EACH
MOST_READ_BY_OTHERS = 2_500


def meant_for(call):
    """Return the indexes of jobs that a call may use."""
    if call in EVERY_CALL:
        return EVERY_CALL[call]
    name, _, order = call.removeprefix("list of ").rpartition(" by ")
    indexes = LISTS_BY[SortKey(order.partition(",")[0])]
    return indexes | COUNTING if name == "a task" else indexes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORES)
def test_every_statement_finds_jobs_by_the_index_meant_for_it(name, days):
    wrong = [
        (call, plan.text, table, index)
        for call, plans in days(name).items()
        for plan in plans
        for table, index, _ in plan.scans
        if table == "job" and index not in meant_for(call)
    ]
    assert not wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORES)
def test_no_statement_looks_at_more_jobs_than_it_is_about(name, days):
    wrong = [
        (call, plan.text, index, rows)
        for call, plans in days(name).items()
        for plan in plans
        for table, index, rows in plan.scans
        if table == "job"
        and rows > MOST_READ.get(call, MOST_READ_BY_OTHERS if not call.startswith("list of ") else MOST_READ_BY_A_LIST)
    ]
    assert not wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORES)
def test_no_statement_is_compiled_or_split_between_processes(name, days):
    # A diagnosis is rare, and goes through the server's own tables as the server likes.
    plans = {call: plans for call, plans in days(name).items() if call != "diagnose"}
    split = [
        plan.text
        for each in plans.values()
        for plan in each
        if any(node["Node Type"].startswith("Gather") for node in plan.nodes)
    ]
    assert not split
    # The session of a job's transaction is the application's, and our one statement in it finds one job by its id.
    del plans["complete in the job's transaction"]
    reading = [
        plan.text for each in plans.values() for plan in each if any(plan.scans) and plan.settings.get("jit") != "off"
    ]
    assert not reading


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", EVERY_CALL)
def test_each_index_that_a_call_may_use_is_used(call, days):
    used = {index for plan in days("never analyzed")[call] for table, index, _ in plan.scans if table == "job"}
    assert used == EVERY_CALL[call]


@pytest.mark.timeout(300)
def test_the_cost_of_a_call_does_not_grow_with_the_ended_jobs(days):
    few, many = days("never analyzed"), days("analyzed with a million ended jobs")
    assert few.keys() == many.keys()
    grown = {call: (pages(few[call]), pages(many[call])) for call in few}
    # The trees are higher, and what is read lies less close together.
    assert not {call: both for call, both in grown.items() if both[1] > 2 * both[0] + 400}


def pages(plans):
    return sum(plan.pages for plan in plans)


STATEMENTS = {"job_transaction.FENCE": job_transaction.FENCE} | {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", value)
}


def as_sent(statement):
    """Return a pattern of what the server gets of a statement."""
    parts = re.split(r"%\(\w+\)s|\{[^{}]*\}", " ".join(statement.split()))
    return ".*?".join(re.escape(part.strip()) for part in parts)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_among_those_whose_plans_are_looked_at(name, days):
    texts = [plan.text for plans in days("never analyzed").values() for plan in plans]
    assert any(re.search(as_sent(STATEMENTS[name]), text) for text in texts), "let a call of the day run it"
