"""Tasks: their definition, and enqueueing through them."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import runpy
import subprocess
import sys
import types
from datetime import timedelta
from textwrap import dedent

import pytest
from msgspec import UNSET

from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.errors import InvalidArgumentsError, InvalidOptionError, TaskError
from deeper_tasks.tasks import ArgumentCheck, ExecutorKind, Task, TaskId, make_task, task
from deeper_tasks.tasks.definition import TaskOptions


class Recorder:
    """An enqueuer that notes what it is asked."""

    def __init__(self):
        self.calls = []

    async def enqueue_request(self, task, args, kwargs, request, /):
        self.calls.append((task.name, args, kwargs, request))
        return TaskId("id")

    @property
    def sync(self):
        return BlockingRecorder(self.calls)


class BlockingRecorder:
    """The blocking form of a recorder."""

    def __init__(self, calls):
        self.calls = calls

    def enqueue_request(self, task, args, kwargs, request, /):
        self.calls.append((task.name, args, kwargs, request))
        return TaskId("id")


async def send(user_id: int, greeting: str = "hello") -> str:
    """Send a greeting."""
    return f"{greeting} {user_id}"


def resize(path: str) -> int:
    return len(path)


def count():
    yield 1


class Mailer:
    @task
    @staticmethod
    def send(user_id: int) -> int:
        return user_id

    def method(self): ...


class TestDefinition:
    @pytest.mark.parametrize("check", ["values", "signature", ArgumentCheck.SIGNATURE])
    def test_has_its_check_of_arguments(self, check):
        assert make_task(resize, check_arguments=check).check_arguments is ArgumentCheck(check)
        assert make_task(resize, check_arguments=None).check_arguments is None
        assert make_task(resize).check_arguments is None

    @pytest.mark.parametrize("check", ["", "none", True, 1])
    def test_is_refused_with_another_check_of_arguments(self, check):
        with pytest.raises(InvalidOptionError, match=r"option 'check_arguments' cannot be .*: give 'values', or 'sig"):
            make_task(resize, check_arguments=check)

    def test_takes_its_name_from_module_and_function(self):
        made = make_task(send)
        assert (made.name, made.path) == (f"{__name__}.send", f"{__name__}.send")

    def test_takes_the_name_given(self):
        made = make_task(send, name="emails.send")
        assert (made.name, made.path) == ("emails.send", f"{__name__}.send")

    @pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 513, 7])
    def test_refuses_a_name_that_cannot_be_used(self, name):
        with pytest.raises(TaskError, match="a task's name is"):
            make_task(send, name=name)

    def test_works_with_and_without_options(self):
        bare = task(send)
        with_options = task(queue="emails")(send)
        assert isinstance(bare, Task)
        assert with_options.request.queue == "emails"

    async def test_leaves_the_function_callable_documented_and_inspectable(self):
        made = make_task(send)
        assert await made(1) == "hello 1"
        assert made.__doc__ == "Send a greeting."
        assert made.__name__ == "send"
        assert inspect.signature(made) == inspect.signature(send)
        assert repr(made) == f"<Task {__name__}.send>"

    def test_runs_a_coroutine_on_the_loop_and_another_function_in_a_thread(self):
        assert make_task(send).executor is ExecutorKind.COROUTINE
        assert make_task(resize).executor is ExecutorKind.THREAD

    @pytest.mark.parametrize("function", [send, resize])
    def test_lets_both_run_in_a_process(self, function):
        assert make_task(function, executor="process").executor is ExecutorKind.PROCESS

    def test_a_def_around_an_async_def_runs_in_a_thread_unless_it_is_told_to_run_on_the_loop(self):
        wrapper = functools.wraps(send)(lambda user_id: send(user_id, "hi"))
        partial = functools.wraps(send)(functools.wraps(functools.partial(send, 1))(lambda: send(1, "hi")))
        for function in (wrapper, partial):
            assert make_task(function).executor is ExecutorKind.THREAD
            assert make_task(function, executor="coroutine").executor is ExecutorKind.COROUTINE
            assert make_task(function).leads_to_coroutine
        assert not make_task(resize).leads_to_coroutine

    def test_refuses_a_transaction_for_what_may_use_either_kind_of_connection(self):
        wrapper = functools.wraps(send)(lambda user_id: send(user_id, "hi"))
        with pytest.raises(InvalidOptionError, match=r"option 'transactional' cannot be True for send.* executor='cor"):
            make_task(wrapper, transactional=True)
        assert make_task(wrapper, transactional=True, executor="coroutine").is_transactional

    @pytest.mark.parametrize(
        ("function", "executor"), [(send, "thread"), (resize, "coroutine"), (resize, "gpu"), (resize, 3)]
    )
    def test_refuses_an_executor_that_does_not_fit(self, function, executor):
        with pytest.raises(InvalidOptionError, match="option 'executor' cannot be"):
            make_task(function, executor=executor)

    @pytest.mark.parametrize(("limit", "kept"), [(1, 1), (512, 512), (math.inf, None)])
    def test_limits_the_memory_of_a_task_in_a_process(self, limit, kept):
        assert make_task(resize, executor="process", memory_limit_mb=limit).memory_limit_mb == kept

    def test_leaves_the_limit_of_memory_to_the_settings(self):
        assert make_task(resize, executor="process").memory_limit_mb is UNSET

    @pytest.mark.parametrize("limit", [0, -1, 1.5, True, "512", 2**31])
    def test_refuses_a_limit_of_memory_that_is_none(self, limit):
        with pytest.raises(InvalidOptionError, match=r"'memory_limit_mb' cannot be .* or math\.inf for no limit"):
            make_task(resize, executor="process", memory_limit_mb=limit)

    @pytest.mark.parametrize(("function", "where"), [(send, "coroutine"), (resize, "thread")])
    @pytest.mark.parametrize("limit", [512, math.inf])
    def test_refuses_a_limit_of_memory_where_the_memory_is_the_worker_s(self, function, where, limit):
        with pytest.raises(InvalidOptionError, match=f"cannot be .* for a task in a {where}.*; add executor='process'"):
            make_task(function, memory_limit_mb=limit)

    @pytest.mark.parametrize("function", [send, resize])
    def test_has_a_quarantine_unless_told_otherwise(self, function):
        assert make_task(function).has_quarantine
        assert not make_task(function, quarantine=False).has_quarantine

    @pytest.mark.parametrize("quarantine", [0, "no", 1])
    def test_refuses_a_quarantine_that_is_neither_on_nor_off(self, quarantine):
        with pytest.raises(InvalidOptionError, match=r"option 'quarantine' cannot be .*: give True or False"):
            make_task(send, quarantine=quarantine)

    def test_refuses_an_unknown_option_and_names_the_nearest(self):
        with pytest.raises(InvalidOptionError, match="did you mean 'max_attempts'"):
            make_task(send, max_atempts=3)

    @pytest.mark.parametrize("option", ["unique_key", "task_id", "delay_seconds"])
    def test_refuses_options_that_only_an_enqueue_has(self, option):
        with pytest.raises(InvalidOptionError, match="unknown option"):
            make_task(send, **{option: "x"})

    def test_accepts_a_static_method_in_either_order(self):
        class Other:
            @staticmethod
            @task(name="other.send")
            def send(user_id: int) -> int:
                return user_id

        assert Mailer.send.name == f"{__name__}.Mailer.send"
        assert (Mailer.send(3), Other.send(4)) == (3, 4)

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            (lambda: 1, "is a lambda"),
            (count, "is a generator"),
            (Mailer.method, "is a method"),
            (Mailer, "not of"),
            (functools.partial(resize, "x"), "not of"),
            (Mailer().method, "not of"),
            (print, "not of"),
            (make_task(send), "is a task already"),
        ],
    )
    def test_refuses_what_a_worker_could_not_call(self, function, reason):
        with pytest.raises(TaskError, match=reason):
            make_task(function)

    def test_refuses_a_function_inside_another_unless_it_has_a_name(self):
        def inner(): ...

        with pytest.raises(TaskError, match="inside another function"):
            make_task(inner)
        assert make_task(inner, name="inner").name == "inner"
        assert make_task(lambda: 1, name="one").name == "one"

    def test_refuses_to_run_a_function_inside_another_in_a_process(self):
        def inner(): ...

        with pytest.raises(TaskError, match="cannot run in a process"):
            make_task(inner, name="inner", executor="process")


class TestMain:
    @pytest.fixture
    def start(self, monkeypatch):
        """Act as a process that was started with a module."""

        def as_main(*, spec=None, file=None):
            main = types.ModuleType("__main__")
            main.__spec__ = types.SimpleNamespace(name=spec) if spec else None
            if file:
                main.__file__ = str(file)
            monkeypatch.setitem(sys.modules, "__main__", main)

            def work(): ...

            work.__module__, work.__qualname__ = "__main__", "work"
            return work

        return as_main

    def test_a_module_run_by_its_name_keeps_it(self, start):
        assert make_task(start(spec="shop.jobs")).name == "shop.jobs.work"

    def test_a_script_that_can_be_imported_gives_its_file_s_name(self, start, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        assert make_task(start(file=tmp_path / "jobs.py")).name == "jobs.work"

    @pytest.mark.parametrize("file", ["my-jobs.py", "elsewhere/jobs.py", None])
    def test_what_cannot_be_imported_is_refused_unless_it_has_a_name(self, start, tmp_path, monkeypatch, file):
        monkeypatch.syspath_prepend(tmp_path)
        work = start(file=file and tmp_path / file)
        with pytest.raises(TaskError, match="move it to a module of its own, or give name="):
            make_task(work)
        assert make_task(work, name="work").module is None
        with pytest.raises(TaskError, match="cannot run in a process"):
            make_task(work, name="work", executor="process")

    @pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
    def test_a_program_that_runs_under_another_s_main_is_named_by_itself(self, name, start, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        start(spec="cProfile")
        (tmp_path / "jobs.py").write_text("def work(): ...")
        work = runpy.run_path(str(tmp_path / "jobs.py"), run_name=name)["work"]
        task = make_task(work, executor="process")
        assert (task.name, task.module) == ("jobs.work", "jobs")

    def test_a_folder_or_zip_file_that_runs_can_be_imported_by_no_other(self, start):
        with pytest.raises(TaskError, match="move it to a module of its own"):
            make_task(start(spec="__main__"))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_with_its_tasks_can_be_imported_by_the_processes_that_it_starts(tmp_path, method):
    (tmp_path / "jobs.py").write_text(
        dedent(f"""
            import multiprocessing, sys
            from deeper_tasks import BackgroundTaskManager

            manager = BackgroundTaskManager("memory://")

            @manager.task(executor="process")
            def work(): ...

            def tell():
                found = manager.registry.find(sys.modules[__name__], "work")
                print(__name__, work.name, work.module, found is work)

            if __name__ == "__main__":
                tell()
                child = multiprocessing.get_context("{method}").Process(target=tell)
                child.start()
                child.join()
                sys.exit(child.exitcode)
        """)
    )
    ran = subprocess.run(
        [sys.executable, "jobs.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout.splitlines()) == (
        0,
        ["__main__ jobs.work jobs True", "__mp_main__ jobs.work jobs True"],
    ), ran.stderr


class TestRetry:
    def test_settings_make_a_policy(self):
        made = make_task(send, retry_delay_seconds=2, retry_on=OSError, fail_on=[KeyError], jitter=0)
        assert made.retry == RetryPolicy(
            delay=timedelta(seconds=2), retry_on=(OSError,), fail_on=(KeyError,), jitter=0.0
        )
        assert made.request.retry_delay == timedelta(seconds=2)

    def test_a_task_without_a_delay_leaves_it_to_the_settings(self):
        assert make_task(send).request.retry_delay is None

    def test_a_whole_policy_is_taken_as_it_is(self):
        policy = RetryPolicy(delay=timedelta(seconds=7), factor=1)
        made = make_task(send, retry=policy)
        assert made.retry is policy
        assert made.request.retry_delay == timedelta(seconds=7)

    def test_the_longest_delay_of_a_policy_or_of_the_options_is_the_task_s(self):
        assert make_task(send).request.max_retry_delay is None
        made = make_task(send, retry_delay_seconds=7200, max_retry_delay_seconds=86_400)
        assert (made.retry.delay, made.retry.max_delay) == (timedelta(hours=2), timedelta(days=1))
        assert made.request.max_retry_delay == timedelta(days=1)
        policy = RetryPolicy(max_delay=timedelta(days=2))
        assert make_task(send, retry=policy).request.max_retry_delay == timedelta(days=2)
        endless = RetryPolicy(max_delay=timedelta.max)
        assert make_task(send, retry=endless).request.max_retry_delay == timedelta(days=36_500)

    def test_a_function_decides_the_delay(self):
        made = make_task(send, retry=lambda attempt, _: attempt * 10, retry_on=(ValueError,))
        assert made.retry.delay_after(2, ValueError(), random=0.5) == timedelta(seconds=20)
        assert made.retry.delay_after(2, KeyError(), random=0.5) is None

    @pytest.mark.parametrize("beside", [{"jitter": 0.1}, {"retry_on": OSError}, {"max_retry_delay_seconds": 1}])
    def test_parts_of_a_policy_beside_a_whole_one_are_refused(self, beside):
        with pytest.raises(InvalidOptionError, match="put it into the policy"):
            make_task(send, retry=RetryPolicy(), **beside)

    @pytest.mark.parametrize(
        "options",
        [
            {"retry": "always"},
            {"jitter": 2},
            {"jitter": True},
            {"jitter": float("nan")},
            {"retry_on": "OSError"},
            {"retry_on": (OSError, 3)},
            {"fail_on": int},
            {"retry_delay_seconds": -1},
        ],
    )
    def test_wrong_settings_are_refused(self, options):
        with pytest.raises(InvalidOptionError, match=f"option '{next(iter(options))}' cannot"):
            make_task(send, **options)


class TestNone:
    @pytest.mark.parametrize("option", sorted(TaskOptions.__annotations__))
    @pytest.mark.parametrize("others", [{}, {"queue": "mail", "executor": "process", "tags": ["a"], "jitter": 0.5}])
    def test_none_is_as_if_the_option_were_not_given(self, option, others):
        others = {name: value for name, value in others.items() if name != option}
        expected, made = make_task(send, **others), make_task(send, **others, **{option: None})
        assert vars(made).keys() == vars(expected).keys()
        for name, value in vars(expected).items():
            if name != "signature":
                assert getattr(made, name) == value

    def test_none_beside_a_policy_is_nothing_beside_it(self):
        parts = ("retry_delay_seconds", "max_retry_delay_seconds", "retry_on", "fail_on", "jitter")
        policy = RetryPolicy(delay=timedelta(seconds=7))
        assert make_task(send, retry=policy, **dict.fromkeys(parts)).retry is policy

    def test_endless_is_the_word_for_no_limit(self):
        assert make_task(send, timeout_seconds=math.inf).request.timeout is None
        assert make_task(send, executor="process", memory_limit_mb=math.inf).memory_limit_mb is None


class TestEnqueue:
    async def test_hands_the_call_to_the_manager_with_the_task_s_options(self):
        made, manager = make_task(send, queue="emails"), Recorder()
        made.bind(manager)
        assert await made.enqueue(1, greeting="hi") == "id"
        assert manager.calls == [(made.name, (1,), {"greeting": "hi"}, made.request)]

    async def test_lays_the_call_s_options_over_the_task_s(self):
        made, manager = make_task(send, queue="emails", priority=3), Recorder()
        made.bind(manager)
        await made.with_options(priority=-1).with_options(delay_seconds=60).enqueue(1)
        (_, _, _, request), *_ = manager.calls
        assert (request.queue, request.priority, request.delay) == ("emails", -1, timedelta(seconds=60))

    def test_a_blocking_enqueue_hands_on_the_same_call(self):
        made, manager = make_task(send, queue="emails", priority=3), Recorder()
        made.bind(manager)
        assert made.sync.enqueue(1, greeting="hi") == "id"
        made.with_options(priority=-1).sync.enqueue(2)
        made.sync.with_options(priority=-1).with_options(tags=["a"]).enqueue(3)
        assert manager.calls[0] == (made.name, (1,), {"greeting": "hi"}, made.request)
        asked = [(args, request.queue, request.priority, request.tags) for _, args, _, request in manager.calls[1:]]
        assert asked == [((2,), "emails", -1, None), ((3,), "emails", -1, ("a",))]
        assert made.sync.call(1) == made.call(1)

    def test_a_blocking_enqueue_without_a_manager_names_the_way_out(self):
        with pytest.raises(TaskError, match=r"no manager has the task .*manager\.include"):
            make_task(send).sync.enqueue(1)

    def test_checks_options_where_they_are_given(self):
        with pytest.raises(InvalidOptionError, match="'priority'"):
            make_task(send).with_options(priority=1000)

    async def test_without_a_manager_names_the_way_out(self):
        with pytest.raises(TaskError, match=r"no manager has the task .*manager\.include"):
            await make_task(send).enqueue(1)

    async def test_with_two_managers_is_refused_until_one_is_unbound(self):
        made, first, second = make_task(send), Recorder(), Recorder()
        for manager in (first, second, first):
            made.bind(manager)
        with pytest.raises(TaskError, match=r"2 managers have the task .*manager\.enqueue_task"):
            await made.with_options(priority=1).enqueue(1)
        made.unbind(first)
        await made.enqueue(1)
        assert len(second.calls) == 1

    def test_a_call_is_kept_with_the_options_it_was_made_with(self):
        made = make_task(send, queue="emails")
        call = made.with_options(priority=3).call(1, greeting="hi")
        assert (call.task, call.args, call.kwargs) == (made, (1,), {"greeting": "hi"})
        assert (call.request.queue, call.request.priority) == ("emails", 3)
        assert made.call(1).request is made.request

    def test_forgets_a_manager_that_is_gone(self):
        made, manager = make_task(send), Recorder()
        made.bind(manager)
        assert made.is_bound
        del manager
        gc.collect()
        assert not made.is_bound

    def test_a_task_encodes_its_own_arguments(self):
        made = make_task(send)
        assert made.signature.encode((1,), {}, max_bytes=100) == "[[1],{}]"
        with pytest.raises(InvalidArgumentsError):
            made.signature.encode(("x",), {}, max_bytes=100)


def test_a_task_id_is_a_string_that_knows_whether_it_is_new():
    assert TaskId("a") == "a"
    assert TaskId("a").is_new
    assert not TaskId("a", is_new=False).is_new


def test_a_late_result_fails_unless_the_task_accepts_it():
    def resize(): ...

    assert not make_task(resize, name="shop.resize").accepts_late_result
    assert not make_task(resize, name="shop.resize", late_result="fail").accepts_late_result
    assert make_task(resize, name="shop.resize", late_result="accept").accepts_late_result
    for value in ("keep", "Accept", True, 1, ["accept"]):
        with pytest.raises(InvalidOptionError, match=r"option 'late_result' cannot be .*: give 'fail', or 'accept'"):
            make_task(resize, name="shop.resize", late_result=value)
