"""The registry: which tasks a manager knows, and what a job's name may call."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from deeper_tasks.errors import TaskError, TaskNotFoundError
from deeper_tasks.tasks import TaskRegistry, make_task

_MARKED = """
from deeper_tasks.tasks import task
import os.path
from os import getcwd

@task
def send(user_id: int): ...

@task(name="custom.name")
def other(): ...

class Mailer:
    @task
    @staticmethod
    def send(): ...

    @staticmethod
    def plain(): ...

    def method(self): ...

def undecorated(): ...
def _private(): ...
def generator(): yield
answer = 42
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of importable modules: `project("shop.tasks", "source")` writes one."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, source=_MARKED):
        folder = tmp_path
        *packages, module = name.split(".")
        for package in packages:
            folder /= package
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
        (folder / f"{module}.py").write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def one(): ...


def two(): ...


class TestAdd:
    def test_makes_a_task_known_by_its_name(self):
        registry, task = TaskRegistry(), make_task(one)
        registry.add(task)
        assert registry.get(task.name) is task
        assert list(registry) == [task]

    def test_refuses_another_function_of_the_same_name(self):
        registry = TaskRegistry()
        registry.add(make_task(one, name="x"))
        with pytest.raises(TaskError, match=r"two functions have the task name 'x': .*one and .*two"):
            registry.add(make_task(two, name="x"))

    def test_replaces_the_same_function(self):
        registry, again = TaskRegistry(), make_task(one)
        registry.add(make_task(one))
        registry.add(again)
        assert registry.get(again.name) is again


class TestFind:
    def test_finds_by_module_class_and_dotted_name(self, project):
        project("shopa")
        module = importlib.import_module("shopa")
        registry = TaskRegistry()
        assert registry.find(module, "send") is module.send
        assert registry.find("shopa", "send") is module.send
        assert registry.find(module.Mailer, "send") is module.Mailer.send
        assert registry.find("shopa.Mailer", "send") is module.Mailer.send

    def test_imports_the_module_that_is_named(self, project):
        project("shopb.inner.tasks")
        assert TaskRegistry().find("shopb.inner.tasks", "send").name == "shopb.inner.tasks.send"

    def test_finds_a_task_with_a_name_of_its_own_by_its_function_and_by_its_name(self, project):
        project("shopc")
        registry = TaskRegistry()
        assert registry.find("shopc", "other").name == "custom.name"
        assert registry.find("custom", "name").name == "custom.name"

    @pytest.mark.parametrize("function", ["undecorated", "_private", "answer", "getcwd", "missing", "", "a.b", "a b"])
    def test_refuses_what_is_no_task(self, project, function):
        project("shopd")
        with pytest.raises(TaskNotFoundError, match=r"no task is named 'shopd\."):
            TaskRegistry().find("shopd", function)

    @pytest.mark.parametrize("worker", ["nowhere", "nowhere.at.all", "", "..relative", "1x", "os", "os.path"])
    def test_refuses_what_is_no_module_of_tasks(self, worker):
        with pytest.raises(TaskNotFoundError):
            TaskRegistry().find(worker, "send")

    def test_names_the_nearest(self):
        registry = TaskRegistry()
        registry.add(make_task(one, name="emails.send"))
        with pytest.raises(TaskNotFoundError, match=r"did you mean 'emails\.send'"):
            registry.find("emails", "sned")

    @pytest.mark.parametrize("source", ["import not_there_at_all", "1 / 0", "def ("])
    def test_chains_the_error_of_a_module_that_fails(self, project, source):
        project("broken_shop", source)
        with pytest.raises(TaskNotFoundError, match="cannot import 'broken_shop'") as caught:
            TaskRegistry().find("broken_shop", "send")
        assert caught.value.__cause__ is not None

    def test_takes_the_main_module_by_its_importable_name(self, monkeypatch):
        main = types.ModuleType("__main__")
        main.__spec__ = types.SimpleNamespace(name="shop.jobs")
        monkeypatch.setitem(sys.modules, "__main__", main)
        registry = TaskRegistry()
        registry.add(make_task(one, name="shop.jobs.work"))
        assert registry.find(main, "work").name == "shop.jobs.work"


class TestInclude:
    def test_takes_in_every_task_of_a_module(self, project):
        project("shope")
        taken = TaskRegistry().include("shope")
        assert {task.name for task in taken} == {"shope.send", "custom.name", "shope.Mailer.send"}

    def test_takes_in_the_modules_of_a_package_at_any_depth(self, project):
        project("shopf.a.tasks")
        project("shopf.b", "from shopf.a.tasks import send")
        registry = TaskRegistry()
        assert [task.name for task in registry.include("shopf")].count("shopf.a.tasks.send") == 1
        assert registry.get("shopf.a.tasks.Mailer.send")

    def test_takes_only_modules_that_are_named_as_those_of_tasks_and_imports_no_other(self, project):
        named = {"shoph.tasks", "shoph.mails.tasks", "shoph.mail_tasks", "shoph.old_tasks.mails"}
        for name in named:
            project(name, "from deeper_tasks.tasks import task\n@task\ndef send(): ...")
        for name in ("views", "models", "tasks_and_more", "mails.views", "jobs"):
            project(f"shoph.{name}", "raise RuntimeError('imported')")
        assert {task.module for task in TaskRegistry().include("shoph")} == named

    @pytest.mark.parametrize(
        "name",
        [
            "tests.tasks",
            "test.tasks",
            "tasks.tests.more",
            "tasks.test_mails",
            "tasks.conftest",
            "migrations.tasks",
            "test_tasks",
        ],
    )
    @pytest.mark.parametrize("patterns", [["tasks", "*_tasks"], ["*"], ["shopj.*"]])
    def test_takes_no_tests_and_no_migrations_below_a_package(self, project, name, patterns):
        project("shopj.tasks.mails" if name.startswith("tasks.") else "shopj.tasks")
        project(f"shopj.{name}", "raise RuntimeError('imported')")
        assert TaskRegistry().include("shopj", patterns=patterns)
        assert f"shopj.{name}" not in sys.modules

    def test_takes_any_module_that_is_named_itself(self, project):
        project("shopk.tests.helpers")
        assert TaskRegistry().include("shopk.tests.helpers")

    @pytest.mark.parametrize("patterns", [["jobs"], ["job?"], ["shopl.work.*"], ["tasks", "work"], "*"])
    def test_takes_what_other_patterns_say(self, project, patterns):
        project("shopl.work.jobs")
        assert {task.module for task in TaskRegistry().include("shopl", patterns=patterns)} == {"shopl.work.jobs"}

    def test_a_package_without_tasks_is_told_with_the_modules_that_were_not_looked_at(self, project, caplog):
        for name in ("a", "b", "jobs", "mails.jobs", "views", "work"):
            project(f"shopm.{name}", "raise RuntimeError('imported')")
        assert TaskRegistry().include("shopm") == []
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage() == (
            "package shopm has no task in a module that is named tasks or *_tasks; modules not searched: shopm.a, "
            "shopm.b, shopm.jobs, shopm.mails, shopm.mails.jobs and 2 more; include the module itself, or give "
            "task_modules"
        )

    def test_never_runs_a_package_s_program(self, project):
        project("shopg.tasks")
        project("shopg.__main__", "raise SystemExit('it ran')")
        assert TaskRegistry().include("shopg")

    def test_refuses_a_module_that_cannot_be_imported(self):
        with pytest.raises(TaskNotFoundError, match="cannot import 'not_there_at_all'"):
            TaskRegistry().include("not_there_at_all")


class TestResolveForRun:
    def test_gives_registered_tasks_by_name_and_by_their_function(self):
        registry, task = TaskRegistry(), make_task(one, name="x")
        registry.add(task)
        assert registry.resolve_for_run("x") is task
        assert registry.resolve_for_run(f"{__name__}.one") is task

    def test_imports_nothing_that_is_not_allowed(self, project):
        project("secret_shop", "raise RuntimeError('imported')")
        registry = TaskRegistry(allowed_modules=["shop", "secret"])
        assert registry.resolve_for_run("secret_shop.send") is None
        assert "secret_shop" not in sys.modules

    @pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.run", "", ".", "x", "os..system"])
    def test_gives_nothing_else(self, name):
        assert TaskRegistry(allowed_modules=["shop"]).resolve_for_run(name) is None

    def test_gives_public_functions_of_allowed_modules_and_below(self, project):
        project("shoph.tasks")
        registry = TaskRegistry(allowed_modules=["shoph"])
        assert registry.resolve_for_run("shoph.tasks.undecorated").name == "shoph.tasks.undecorated"
        assert registry.resolve_for_run("shoph.tasks.Mailer.plain").name == "shoph.tasks.Mailer.plain"
        assert registry.resolve_for_run("shoph.tasks.send").name == "shoph.tasks.send"
        assert registry.find("shoph.tasks", "undecorated")

    @pytest.mark.parametrize(
        "rest",
        [
            "_private",
            "answer",
            "missing",
            "getcwd",
            "os.system",
            "os.path.join",
            "generator",
            "Mailer",
            "Mailer.method",
            "Mailer.__init__",
            "Mailer.send.__call__",
            "__builtins__.eval",
            "task",
        ],
    )
    def test_gives_nothing_else_of_allowed_modules(self, project, rest):
        project("shopi.tasks")
        assert TaskRegistry(allowed_modules=["shopi.tasks"]).resolve_for_run(f"shopi.tasks.{rest}") is None

    def test_imports_no_parent_of_an_allowed_module_for_its_functions(self, project):
        project("shopj.tasks")
        assert TaskRegistry(allowed_modules=["shopj.tasks"]).resolve_for_run("shopj.send") is None
        assert "shopj" not in sys.modules

    def test_says_that_an_allowed_module_fails(self, project):
        project("shopk", "import not_there_at_all")
        with pytest.raises(TaskNotFoundError, match="cannot import 'shopk'"):
            TaskRegistry(allowed_modules=["shopk"]).resolve_for_run("shopk.send")
