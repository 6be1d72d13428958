"""The home of a manager: the place that another process can import it from."""

import sys
from types import ModuleType

import pytest

from deeper_tasks.worker.home import NoHomeError, find_place, no_home


@pytest.fixture
def module(monkeypatch):
    """Return a way to make a module of this name with these attributes."""

    def module(name, **attributes):
        made = ModuleType(name)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)

    return module


def test_a_manager_is_found_by_the_module_that_holds_it(module):
    manager = object()
    module("shop.tasks_of_test", manager=manager)
    assert find_place(manager) == "shop.tasks_of_test:manager"


def test_the_modules_of_its_tasks_come_first(module):
    manager = object()
    module("aaa_of_test", manager=manager)
    module("shop_of_test", queue=manager)
    assert find_place(manager, first=["gone_of_test", "shop_of_test"]) == "shop_of_test:queue"


def test_the_program_is_no_place_as_its_import_would_run_it_again(monkeypatch):
    manager = object()
    monkeypatch.setattr(sys.modules["__main__"], "manager_of_test", manager, raising=False)
    assert find_place(manager, first=["__main__"]) is None


def test_a_manager_of_a_function_has_no_place():
    assert find_place(object()) is None


def test_what_is_no_module_is_passed_over(monkeypatch):
    class Lazy:
        def __getattr__(self, name):
            raise AssertionError(name)

    class Slotted:
        __slots__ = ()

    monkeypatch.setitem(sys.modules, "lazy_of_test", Lazy())
    monkeypatch.setitem(sys.modules, "slotted_of_test", Slotted())
    monkeypatch.setitem(sys.modules, "none_of_test", None)
    assert find_place(object()) is None


def test_without_a_manager_nothing_is_known():
    with pytest.raises(NoHomeError):
        no_home()
