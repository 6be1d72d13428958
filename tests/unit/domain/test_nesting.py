"""How deep a JSON document may be."""

import json
import random

import pytest

from deeper_tasks.domain.nesting import MAX_NESTING, nests_too_deep


def depth_of(value):
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def some_value(dice, levels):
    if not levels:
        return dice.choice([1, None, "[[{", 'a"]\\', "\\\\", "}"])
    inner = [some_value(dice, levels - 1 if number == 0 else dice.randrange(min(levels, 3))) for number in range(3)]
    dice.shuffle(inner)
    return inner if dice.random() < 0.5 else dict(zip('a["', inner, strict=True))


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_a_document_nests_as_deep_as_its_value(most):
    dice = random.Random(most)
    for _ in range(100 if most < 100 else 10):
        value = some_value(dice, dice.randrange(most - 1, most + 3) if most < 100 else dice.randrange(99, 103))
        document = json.dumps(value)
        assert nests_too_deep(document, most=most) is (depth_of(value) > most)
        assert nests_too_deep(document.encode(), most=most) is (depth_of(value) > most)


@pytest.mark.parametrize(("levels", "is_too_deep"), [(MAX_NESTING, False), (MAX_NESTING + 1, True), (100_000, True)])
def test_the_limit_is_what_it_says(levels, is_too_deep):
    assert nests_too_deep("[" * levels + "]" * levels) is is_too_deep
    assert nests_too_deep('{"a":' * levels + "1" + "}" * levels) is is_too_deep
    assert nests_too_deep("[1," * levels + "1" + "]" * levels) is is_too_deep


def test_brackets_in_texts_do_not_count():
    assert not nests_too_deep(json.dumps(["[" * 500, '"' * 500, "{" * 500, "\\" * 500, '\\"[' * 500]))
