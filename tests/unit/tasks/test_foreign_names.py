"""Habits of other libraries meet an error that names what takes their place."""

from __future__ import annotations

import copy
import inspect

import pytest

import deeper_tasks
from deeper_tasks import BackgroundTaskManager, EnqueueOptions, TaskOptions
from deeper_tasks.errors import InvalidArgumentsError, InvalidOptionError, TaskError, UnknownNameError
from deeper_tasks.tasks import make_task
from deeper_tasks.tasks.foreign_names import EQUIVALENT_OPTIONS


async def send(user_id: int, greeting: str = "hello") -> None:
    """Send a greeting."""


@pytest.fixture
def manager():
    return BackgroundTaskManager("memory://")


TASK_HABITS = [
    ("delay", r"write 'await send\.enqueue\(…\)', or 'send\.sync\.enqueue\(…\)' in code that is not async"),
    ("send", r"send\.enqueue\(…\)"),
    ("kiq", r"send\.enqueue\(…\)"),
    ("perform_async", r"send\.enqueue\(…\)"),
    ("apply_async", r"send\.with_options\(delay_seconds=60\)\.enqueue\(…\)"),
    ("send_with_options", r"send\.with_options\("),
    ("perform_in", r"manager\.schedule_task\(send, args=\[…\], scheduled_at=…\)"),
    ("s", r"'send\.call\(…\)' is a call that is not enqueued yet"),
    ("map", r"manager\.enqueue_many\(\[send\.call\(1\), send\.call\(2\)\]\)"),
    ("apply", r"call the function itself: 'send\(…\)'"),
    ("update_state", r"current_job\(\)"),
    ("AsyncResult", r"get_task_status"),
]


@pytest.mark.parametrize(("name", "message"), TASK_HABITS)
def test_an_attribute_of_another_library_s_task_names_ours(name, message):
    made = make_task(send)
    for each in (made, made.with_options(priority=1), made.sync):
        with pytest.raises(UnknownNameError, match=message):
            getattr(each, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enqueue", r"task\.(sync\.)?enqueue\(…\)"),
        ("send_task", r"the task may be a name too"),
        ("enqueue_in", r"manager\.(sync\.)?schedule_task"),
        ("actor", r"@manager\.task"),
        ("shared_task", r"@manager\.task"),
        ("periodic_task", r"cron="),
        ("autodiscover_tasks", r"manager\.include"),
        ("run", r"deeper worker myapp\.tasks:manager"),
        ("revoke", r"cancel_task"),
        ("conf", r"from_settings"),
    ],
)
def test_an_attribute_of_another_library_s_application_names_ours(manager, name, message):
    for each in (manager, manager.sync):
        with pytest.raises(UnknownNameError, match=message):
            getattr(each, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("purge", "write 'manager.sync.delete_tasks(queue=…)'"),
        ("fetch_job", "write 'manager.sync.get_task_status(task_id)'"),
        ("enqueue", "write 'task.sync.enqueue(…)', or 'manager.sync.enqueue_task(task, args=[…])'"),
        ("enqueue_in", "write 'manager.sync.schedule_task(task, args=[…], scheduled_at=…)'"),
        ("actor", "decorate the function with '@manager.task'"),
        ("autodiscover_tasks", "write 'manager.include("),
        ("run", "or 'await manager.run_worker()'"),
    ],
)
def test_the_blocking_manager_names_the_blocking_form(manager, name, message):
    with pytest.raises(UnknownNameError) as raised:
        getattr(manager.sync, name)
    assert message in str(raised.value)
    with pytest.raises(UnknownNameError) as raised:
        getattr(manager, name)
    assert "sync" not in str(raised.value)


def test_what_is_missing_is_still_missing(manager):
    made = make_task(send)
    for each in (made, made.sync, made.with_options(priority=1), manager, manager.sync):
        assert not hasattr(each, "delay")
        assert not hasattr(each, "nothing_like_it")
        assert getattr(each, "apply_async", None) is None
        with pytest.raises(AttributeError, match=r"object has no attribute 'nothing_like_it'$"):
            each.nothing_like_it  # noqa: B018 - the access is the test
    assert issubclass(UnknownNameError, AttributeError)


async def test_tools_that_look_at_tasks_find_what_they_found(manager):
    made = manager.task(name="shop.send")(send)
    assert copy.copy(made).name == "shop.send"
    assert inspect.iscoroutinefunction(made.enqueue)
    assert inspect.unwrap(made) is send
    assert [name for name, _ in inspect.getmembers(made) if name in dict(TASK_HABITS)] == []


OPTION_HABITS = [
    ("countdown", 10, r"unknown option 'countdown'; give delay_seconds=… at the enqueue"),
    ("eta", None, r"unknown option 'eta'; use manager\.schedule_task\(task, args=\[…\], scheduled_at=…\)"),
    ("bind", True, r"unknown option 'bind'; leave it out: current_job\(\) gives"),
    ("max_retries", 3, r"max_attempts=…, which counts the first attempt too"),
    ("expires", 60, r"expires_in_seconds"),
    ("time_limit", 60, r"timeout_seconds"),
    ("autoretry_for", (OSError,), r"retry_on"),
    ("queue_name", "a", r"queue=…"),
    ("acks_late", True, r"leave it out"),
]


@pytest.mark.parametrize(("option", "value", "message"), OPTION_HABITS)
async def test_an_option_of_another_library_names_ours(manager, option, value, message):
    made = manager.task(name="shop.send")(send)
    with pytest.raises(InvalidOptionError, match=message):
        manager.task(name="shop.other", **{option: value})(send)
    with pytest.raises(InvalidOptionError, match=message):
        made.with_options(**{option: value})
    with pytest.raises(InvalidOptionError, match=message):
        await manager.enqueue_task(made, args=[1], **{option: value})


def test_our_own_option_at_the_wrong_place_names_the_right_one():
    with pytest.raises(InvalidOptionError, match=r"'delay_seconds'; it belongs to an enqueue: task\.with_options"):
        make_task(send, delay_seconds=3)
    with pytest.raises(InvalidOptionError, match=r"'executor'; it belongs to the task: @manager\.task"):
        make_task(send).with_options(executor="process")


def test_the_nearest_name_is_named_where_nothing_better_is_known():
    with pytest.raises(InvalidOptionError, match="did you mean 'priority'"):
        make_task(send, priorty=3)
    assert "max_attempts" not in EQUIVALENT_OPTIONS


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"countdown": 10}, r"for 'countdown' give delay_seconds=… at the enqueue, .* send\.with_options"),
        ({"queue": "a"}, r"'queue' is an option; write send\.with_options\(queue=…\)\.enqueue\(…\)"),
        ({"args": [42]}, r"an enqueue takes the function's own arguments, as in send\.enqueue\(42\)"),
    ],
)
async def test_an_option_among_the_arguments_is_told_where_it_belongs(manager, kwargs, message):
    made = manager.task(name="shop.send")(send)
    with pytest.raises(InvalidArgumentsError, match=message):
        await made.enqueue(42, **kwargs)
    with pytest.raises(InvalidArgumentsError, match=message):
        made.sync.enqueue(42, **kwargs)
    manager.sync.close()


async def test_an_argument_that_is_only_named_like_an_option_is_one(manager):
    @manager.task(name="shop.late")
    async def late(countdown: int, **rest: int) -> None: ...

    await late.enqueue(countdown=3, queue=4)
    assert (await manager.list_tasks()).entries[0].kwargs == {"queue": 4}


def test_a_name_in_place_of_the_function_is_told_how_to_be_given(manager):
    with pytest.raises(TaskError, match=r"for a name write name='shop\.send'"):
        manager.task("shop.send")


@pytest.mark.filterwarnings("error")
async def test_what_is_no_task_is_refused_with_what_it_is(manager):
    made = manager.task(name="shop.send")(send)
    for given, message in (
        (send, r"send is a function, and no task; decorate it with @manager\.task"),
        (print, r"print is a function"),
        (lambda: 1, r"<lambda> is a function"),
        (send(1), r"a task was called where it is to be named: .*enqueue_task\(send, args=\[…\]\)"),
        (made.with_options(priority=1), r"with_options\(…\)\.enqueue\(…\)"),
        (made.call(1), r"enqueue_many\(\[call\]\)"),
        ("shop.send", r"name the function too"),
        (5, r"a task cannot be a `int`"),
    ):
        with pytest.raises(TaskError, match=message):
            await manager.enqueue_task(given, args=[1])
    for given in (send, made, send(1), made.enqueue(1)):
        with pytest.raises(InvalidOptionError, match=r"calls\[0\] cannot be a .*\[task\.call"):
            await manager.enqueue_many([given])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("get", r"await manager\.result\(task_id\)"),
        ("status", r"get_task_status"),
        ("ready", r"get_task_status"),
        ("id", r"this is the job's id itself"),
        ("revoke", r"cancel_task"),
    ],
)
async def test_an_attribute_of_another_library_s_result_names_ours(manager, name, message):
    task_id = await manager.task(name="shop.send")(send).enqueue(1)
    with pytest.raises(UnknownNameError, match=message):
        getattr(task_id, name)
    assert not hasattr(task_id, name)
    assert name not in dir(task_id)
    assert copy.copy(task_id) == str(task_id)


def test_a_name_of_another_library_in_the_package_is_an_import_error_that_names_ours():
    with pytest.raises(ImportError, match=r"'shared_task' from 'deeper_tasks'; decorate with '@task'"):
        from deeper_tasks import shared_task  # noqa: F401
    with pytest.raises(ImportError, match=r"cannot import name 'nothing_like_it'"):
        from deeper_tasks import nothing_like_it  # noqa: F401
    with pytest.raises(UnknownNameError, match="BackgroundTaskManager"):
        deeper_tasks.Celery  # noqa: B018 - the access is the test
    assert not hasattr(deeper_tasks, "shared_task")
    assert not hasattr(deeper_tasks, "nothing_like_it")


def test_a_task_s_retry_that_is_called_names_ours():
    with pytest.raises(TypeError, match=r"raise Retry\(.*manager\.retry_task"):
        make_task(send).retry(countdown=60)


@pytest.mark.parametrize("calls", [[(1, 2)], [send], 5])
def test_what_is_no_call_is_refused_in_code_that_is_not_async_too(manager, calls):
    with pytest.raises(InvalidOptionError, match=r"calls\[0\] cannot be a `\w+`; give a list of calls"):
        manager.sync.enqueue_many(calls)


def test_arguments_where_the_function_s_name_belongs_are_told_how_to_write_both(manager):
    with pytest.raises(TaskError, match=r"cannot be a `list`: enqueue_task\('tasks', 'add', \[…\]\)"):
        manager.sync.enqueue_task("tasks.add", [1, 2])
    with pytest.raises(TaskError, match=r"or where it is named already enqueue_task\('tasks', 'add', args\)"):
        manager.sync.enqueue_task("tasks.add")
    manager.sync.close()


def _options_that(hint):
    return {option for option, advice in EQUIVALENT_OPTIONS.items() if advice.startswith(hint)}


def test_each_option_that_only_a_task_or_only_an_enqueue_has_is_known_at_the_other_place():
    of_a_task, of_an_enqueue = set(TaskOptions.__annotations__), set(EnqueueOptions.__annotations__)
    assert _options_that("it belongs to the task") == of_a_task - of_an_enqueue
    assert _options_that("it belongs to an enqueue") == of_an_enqueue - of_a_task


def test_no_option_that_both_have_is_taken_for_another_library_s():
    assert not set(TaskOptions.__annotations__) & set(EnqueueOptions.__annotations__) & EQUIVALENT_OPTIONS.keys()


def test_each_option_of_a_task_and_of_an_enqueue_is_accepted():
    make_task(send, **dict.fromkeys(TaskOptions.__annotations__))
    make_task(send).with_options(**dict.fromkeys(EnqueueOptions.__annotations__))


def test_an_unknown_option_of_a_task_lists_the_options_of_a_task():
    with pytest.raises(InvalidOptionError) as caught:
        make_task(send, zzzz=1)
    assert str(caught.value).endswith("there are " + ", ".join(sorted(TaskOptions.__annotations__)))
