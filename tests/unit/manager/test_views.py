"""All that the facade returns can be told as plain JSON, and the command tells the same."""

from __future__ import annotations

import inspect
import json
import typing
from datetime import UTC, datetime, timedelta
from enum import Enum

import msgspec
import pytest

from deeper_tasks import BackgroundTaskManager, Damage
from deeper_tasks.domain.view import View, to_json
from deeper_tasks.health.health import ProcessHealth, ProcessStatus, sum_up
from deeper_tasks.integrations import events
from deeper_tasks.integrations.events import Event, JobCompleted
from deeper_tasks.manager.facade import Facade
from deeper_tasks.tasks import TaskId
from deeper_tasks.testing import use_memory

PLAIN = (str, int, float, bool, type(None))


def is_plain(value):
    """Whether a value is made of what JSON has, and of nothing that is only a subclass of it."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(each) for key, each in value.items())
    return all(map(is_plain, value)) if type(value) is list else type(value) in PLAIN


def types_within(annotation):
    if inspect.isclass(annotation):
        yield annotation
        if issubclass(annotation, msgspec.Struct):
            for each in typing.get_type_hints(annotation).values():
                yield from types_within(each)
    for part in typing.get_args(annotation):
        yield from types_within(part)


def returned():
    """The classes of all that the public methods of the facade return, and of what is in it."""
    for name, method in inspect.getmembers(Facade, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            yield from types_within(eval(method.__annotations__["return"], method.__globals__))


def test_each_kind_of_value_that_the_facade_returns_is_a_view_or_a_text():
    kinds = {kind for kind in returned() if kind.__module__.startswith("deeper_tasks")}
    assert {kind.__name__ for kind in kinds} >= {"TaskStatus", "Page", "Statistics", "Overview", "RecurringRun"}
    assert [kind for kind in kinds if not issubclass(kind, View | Enum | str)] == []


@pytest.fixture
async def manager():
    manager = BackgroundTaskManager("memory://")
    async with manager:
        yield manager


@pytest.fixture
async def answers(manager):
    """What the facade returns about a completed job, a dead one and a recurring task."""

    @manager.task(name="shop.add", tags=["sum"], meta={"by": ["me"]})
    async def add(a: int, b: datetime) -> dict[str, int]:
        return {"sum": a}

    @manager.task(name="shop.fail", max_attempts=1)
    async def fail() -> None:
        raise ValueError("no paper")

    with use_memory(manager) as kit:
        added = await add.enqueue(2**62, datetime(2026, 1, 2, tzinfo=UTC))
        failed = await fail.enqueue()
        entry = await manager.schedule_recurring_task("nightly", fail, cron_expression="@daily")
        run = await manager.run_recurring_task("nightly")
        summary = await kit.drain()
        yield {
            "completed": await manager.get_task_status(added),
            "dead": await manager.get_task_status(failed),
            "list": await manager.list_tasks(per_page=1),
            "statistics": await manager.get_statistics(),
            "overview": await manager.get_overview(),
            "entry": entry,
            "entry after a run": await manager.get_recurring_task("nightly", next_runs=3),
            **{f"run {index}": run for index, run in enumerate(await manager.recurring_task_history("nightly"))},
            **{f"finding {index}": finding for index, finding in enumerate(await manager.diagnose())},
            "summary": summary,
            "damage": Damage(field="meta", reason="JSON is malformed"),
            "health": sum_up(
                [ProcessHealth(index=0, name="a", pid=None, status=ProcessStatus.DOWN)],
                is_live=True,
                is_stopping=False,
            ),
        }
        assert isinstance(run, TaskId)


async def test_all_of_them_become_plain_values_that_are_their_json(answers):
    for name, answer in answers.items():
        plain = answer.to_dict()
        assert is_plain(plain), name
        assert json.loads(json.dumps(plain)) == json.loads(answer.to_json()) == plain, name
        assert set(plain) == set(answer.__struct_fields__), name


async def test_a_value_keeps_what_it_says_on_its_way(answers):
    plain = answers["completed"].to_dict()
    assert (plain["status"], plain["args"][0], plain["tags"]) == ("completed", 2**62, ["sum"])
    assert plain["result"] == {"sum": 2**62}
    assert datetime.fromisoformat(plain["inserted_at"]) == answers["completed"].inserted_at
    assert answers["dead"].to_dict()["errors"][0]["kind"] == "ValueError"
    plain["meta"]["by"].append("you")
    assert answers["completed"].meta == {"by": ["me"]}


def test_an_event_becomes_plain_values_too():
    event = JobCompleted(job_id=TaskId("0197"), task="shop.add", ran_for=timedelta(seconds=1.5))
    assert is_plain(event.to_dict())
    assert (event.to_dict()["job_id"], event.to_dict()["ran_for"]) == ("0197", "PT1.5S")
    assert all(
        issubclass(kind, View) for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, Event)
    )


def test_lists_of_views_are_one_document():
    assert json.loads(to_json([Damage(field="a", reason="b"), TaskId("0197")])) == [
        {"field": "a", "reason": "b"},
        "0197",
    ]


def test_the_command_answers_what_to_dict_gives(tmp_path):
    from click.testing import CliRunner

    from deeper_tasks.cli import main

    url = f"sqlite:///{tmp_path}/tasks.db"
    manager = BackgroundTaskManager(url)

    @manager.task(name="shop.add")
    async def add(a: int) -> int:
        return a

    with manager.sync as sync:
        task_id = add.sync.enqueue(1)
        expected = {
            ("status", task_id): sync.get_task_status(task_id).to_dict(),
            ("list",): sync.list_tasks().to_dict(),
            ("stats",): sync.get_statistics().to_dict(),
            ("queues",): [each.to_dict() for each in sync.get_overview().queues],
        }
    for words, answer in expected.items():
        said = CliRunner().invoke(main, [*words, "--url", url, "--json"]).stdout
        assert json.loads(said) == answer, words
