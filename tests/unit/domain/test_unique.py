"""Keys of calls and given keys."""

from deeper_tasks.domain.unique import call_key, given_key


def test_the_same_call_has_the_same_key():
    assert call_key("shop.send", "[[42],{}]") == call_key("shop.send", "[[42],{}]")


def test_another_task_or_other_arguments_have_another_key():
    keys = {call_key("shop.send", "[[42],{}]"), call_key("shop.sent", "[[42],{}]"), call_key("shop.send", "[[43],{}]")}
    assert len(keys) == 3


def test_task_and_arguments_do_not_run_into_each_other():
    assert call_key("ab", "c") != call_key("a", "bc")


def test_a_given_key_never_meets_the_key_of_a_call():
    call = call_key("shop.send", "[[42],{}]")
    assert given_key(call) != call
    assert given_key("a") == given_key("a") != given_key("b")


def test_the_key_of_a_call_is_short_however_long_its_arguments_are():
    assert len(call_key("shop.größe", "x" * 1_000_000)) < 100
