"""Which store a command works on."""

from __future__ import annotations

import json
import sys

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.application import load_manager
from deeper_tasks.errors import ConfigError


def refusal(place):
    with pytest.raises(ConfigError) as caught:
        load_manager(place)
    return str(caught.value)


def test_a_manager_is_found_from_the_working_folder(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert isinstance(load_manager("shop:manager"), BackgroundTaskManager)
    assert sys.path[0] == str(folder)


def test_a_manager_may_be_an_attribute_further_down(folder):
    (folder / "site.py").write_text("")
    (folder / "store.py").write_text("import shop")
    assert load_manager("store:shop.manager") is load_manager("shop:manager")


@pytest.mark.parametrize("place", ["shops", "shops:", ":manager", "", "a.b.c", ".manager", "shop..x"])
def test_a_place_without_module_or_manager_is_refused_with_its_form(place):
    assert refusal(place) == f"{place!r} names no manager; write module:manager, such as myapp.tasks:manager"


@pytest.mark.parametrize(
    ("place", "way_out"),
    [
        ("shop", "there is shop:manager"),
        ("shop:", "there is shop:manager"),
        ("shop.manager", "write shop:manager"),
        ("mail.tasks.manager", "write mail.tasks:manager"),
        ("mail", "no manager is defined there"),
    ],
)
def test_a_dot_in_place_of_the_colon_and_a_module_alone_are_understood(folder, place, way_out):
    (folder / "mail").mkdir()
    (folder / "mail" / "__init__.py").touch()
    (folder / "mail" / "tasks.py").write_text("from shop import manager")
    assert refusal(place) == f"{place!r} names no manager; {way_out}"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("shop.py:manager", "shop:manager"),
        ("shop.py", "shop:manager"),
        ("./shop.py:app", "shop:app"),
        ("mail/tasks.py:manager", "mail.tasks:manager"),
        ("mail/tasks:manager", "mail.tasks:manager"),
        ("mail/__init__.py:manager", "mail:manager"),
        ("src/pack/tasks.py:manager", "pack.tasks:manager"),
    ],
)
def test_a_file_in_place_of_the_module_is_refused_with_the_module_s_name(folder, place, name):
    for package in ("mail", "src/pack"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    assert refusal(place) == f"{place!r} names a file, not a module; write {name}"
    assert refusal(str(folder / "mail" / "tasks.py:manager")).endswith("write mail.tasks:manager")


@pytest.mark.parametrize("option", ["--app", "-A"])
def test_a_worker_given_its_manager_by_an_option_is_told_where_it_stands(deeper, option):
    result = deeper("worker", option, "shop:manager")
    assert result.exit_code == 2
    assert "--app is not an option of a worker; write deeper worker shop:manager" in result.stderr


def test_a_wrong_attribute_is_refused_with_what_there_is():
    assert refusal("shop:maneger") == "'shop' has no 'maneger'; there is shop:manager"
    assert refusal("shop:orders") == "'shop:orders' is list, not a BackgroundTaskManager; there is shop:manager"
    assert refusal("json:manager") == "'json' has no 'manager'; no manager is defined there"


def test_a_missing_module_is_told_apart_from_one_that_fails(folder):
    (folder / "broken.py").write_text("import shop\n\n1 / 0\n")
    (folder / "needy.py").write_text("import absent_library\n")
    missing = "there is no module 'absent_shop' in the working folder or on Python's path"
    assert refusal("absent_shop.tasks:manager") == f"cannot import 'absent_shop.tasks': {missing}"
    place = f"({folder / 'broken.py'}, line 3)"
    assert refusal("broken:manager") == f"cannot import 'broken': ZeroDivisionError: division by zero {place}"
    (folder / "telling.py").write_text("raise ValueError('password=hunter2')\n")
    assert refusal("telling:manager").startswith("cannot import 'telling': ValueError: password=*** (")
    assert "No module named 'absent_library'" in refusal("needy:manager")


def test_wrong_settings_of_an_application_are_told_as_such_with_its_own_line(folder):
    head = "from deeper_tasks import BackgroundTaskManager\n\n"
    place = f"({folder / 'set_up.py'}, line 3)"
    (folder / "set_up.py").write_text(f"{head}manager = BackgroundTaskManager('postgres://u:hunter2@[::1/db')\n")
    (folder / "app.py").write_text("from set_up import manager\n")
    told = refusal("app:manager")
    assert told.startswith(f"the settings of 'app' cannot be used {place}: setting 'url' cannot be 'postgres://u:***@[")


def test_several_wrong_settings_of_an_application_are_all_told(folder, deeper, monkeypatch):
    (folder / "app.py").write_text(
        "from deeper_tasks import BackgroundTaskManager\n\nmanager = BackgroundTaskManager.from_settings()\n"
    )
    monkeypatch.setenv("DEEPER_TASKS_URL", "nothing")
    monkeypatch.setenv("DEEPER_TASKS_PROCESSES", "many")
    for words in (("list", "--app", "app:manager"), ("enqueue", "x", "--app", "app:manager")):
        result = deeper(*words)
        assert result.exit_code == 2
        told = sorted(result.stderr.splitlines())
        start = f"deeper: the settings of 'app' cannot be used ({folder / 'app.py'}, line 3): setting"
        assert [line.startswith(start) for line in told] == [True, True]
        assert "DEEPER_TASKS_URL" in result.stderr
        assert "DEEPER_TASKS_PROCESSES" in result.stderr


def test_an_import_that_fails_in_this_library_is_told_with_the_application_s_line(folder):
    (folder / "app.py").write_text("from shop import manager\n\n@manager.task(queue='a b')\ndef go(): ...\n")
    assert refusal("app:manager").endswith(f"({folder / 'app.py'}, line 3)")


def test_without_any_word_about_the_store_the_command_asks_for_one(deeper):
    result = deeper("stats")
    assert result.exit_code == 2
    assert result.stderr.startswith("deeper: no store is named; give --url")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("deeper_tasks.toml", "url = 'sqlite:///named.db'"),
        ("pyproject.toml", "[tool.deeper_tasks]\nurl = 'sqlite:///named.db'"),
    ],
)
def test_settings_in_a_file_name_the_store(deeper, folder, file, content):
    (folder / file).write_text(content)
    assert deeper("migrate").exit_code == 0
    assert (folder / "named.db").exists()


def test_a_pyproject_of_something_else_names_no_store(deeper, folder):
    (folder / "pyproject.toml").write_text("[project]\nname = 'shop'")
    assert deeper("stats").exit_code == 2


def test_the_environment_names_the_store(deeper, folder, monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_URL", "sqlite:///environment.db")
    assert deeper("migrate").exit_code == 0
    assert (folder / "environment.db").exists()


def test_the_application_comes_before_the_settings_and_the_url_before_both(deeper, folder, monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_URL", "sqlite:///environment.db")
    assert deeper("migrate", "--app", "shop:manager").exit_code == 0
    assert (folder / "tasks.db").exists()
    assert deeper("migrate", "--app", "shop:manager", "--url", "sqlite:///given.db").exit_code == 0
    assert (folder / "given.db").exists()
    assert not (folder / "environment.db").exists()


def test_looking_imports_none_of_the_modules_that_settings_include(deeper, folder):
    (folder / "deeper_tasks.toml").write_text("url = 'sqlite:///tasks.db'\ninclude = ['absent_module']")
    assert deeper("stats").exit_code == 0


def test_wrong_settings_are_a_line_each(deeper, monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_URL", "tasks.db")
    monkeypatch.setenv("DEEPER_TASKS_LEASE_SECONDS", "soon")
    result = deeper("stats")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert all(line.startswith("deeper: setting ") for line in result.stderr.splitlines())


def test_a_store_that_cannot_be_reached_is_exit_code_4(deeper):
    result = deeper("stats", "--url", "sqlite:////absent/folder/tasks.db")
    assert result.exit_code == 4
    assert result.stderr.startswith("deeper: ")
    assert result.stderr.count("\n") == 1


def test_a_store_inside_another_process_is_refused(deeper):
    result = deeper("stats", "--url", "memory://")
    assert result.exit_code == 2
    assert "exists in one process only" in result.stderr


def test_a_manager_changes_its_store_before_its_first_use_only():
    manager = BackgroundTaskManager("memory://", default_queue="mine")
    manager.use_store("sqlite:///other.db")
    assert (manager.settings.url, manager.settings.default_queue) == ("sqlite:///other.db", "mine")
    with manager.sync, pytest.raises(ConfigError, match="has its store open"):
        manager.use_store("memory://")
    with pytest.raises(ConfigError, match=r"cannot be 'tasks\.db'"):
        manager.use_store("tasks.db")


def test_what_an_application_prints_when_it_is_imported_is_no_part_of_an_answer(deeper, folder):
    shop = folder / "shop.py"
    shop.write_text(f"print('hello from the shop'){shop.read_text()}")
    result = deeper("stats", "--app", "shop:manager", "--json")
    assert json.loads(result.stdout)["queues"] == {}
    assert "hello from the shop" in result.stderr
