"""Steps of upkeep: all are taken, the first failure is raised, and a store that is away ends them."""

import pytest

from deeper_tasks.backends.steps import each_of
from deeper_tasks.errors import BackendError, BackendUnavailableError


@pytest.fixture
def take():
    """Return a function that makes a step, which notes that it was taken; and the notes."""
    taken = []

    def make(name, error=None):
        async def step():
            taken.append(name)
            if error is not None:
                raise error
            return name

        return step

    make.taken = taken
    return make


async def test_the_answers_come_in_the_order_of_the_steps(take):
    assert await each_of(take("first"), take("second")) == ["first", "second"]
    assert await each_of() == []


async def test_each_step_is_taken_also_after_one_that_failed_and_the_first_failure_is_raised(take):
    with pytest.raises(BackendError, match="refused"):
        await each_of(take("first", BackendError("refused")), take("second", ZeroDivisionError("other")), take("third"))
    assert take.taken == ["first", "second", "third"]


async def test_no_step_is_taken_of_a_store_that_is_away(take):
    with pytest.raises(BackendUnavailableError):
        await each_of(take("first", BackendUnavailableError("gone")), take("second"))
    assert take.taken == ["first"]
