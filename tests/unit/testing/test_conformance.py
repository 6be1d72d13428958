"""The suite itself: a store that claims what it does not do fails, and does not hang."""

import asyncio

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Capabilities
from deeper_tasks.testing import BackendConformance, SharedConformance
from deeper_tasks.testing.conformance import hints


class Mute(MemoryBackend):
    """Its listeners wait, and no hint comes."""

    async def listen(self):
        await asyncio.Event().wait()
        yield


class Deaf(MemoryBackend):
    """Its listening ends at once."""

    async def listen(self):
        return
        yield


class Lonely(MemoryBackend):
    """It says that others can share it."""

    capabilities = Capabilities(is_durable=False, is_shared=True)


class SuiteOfASharedStore(SharedConformance, BackendConformance):
    pass


@pytest.mark.parametrize("store", [Mute, Deaf])
async def test_a_store_that_claims_hints_and_gives_none_fails_after_a_while(store, monkeypatch):
    monkeypatch.setattr(hints, "PATIENCE", 0.1)
    with pytest.raises((AssertionError, pytest.fail.Exception), match="heard"):
        await BackendConformance().test_a_listener_hears_a_hint(store())


async def test_a_store_that_says_it_has_no_hints_must_not_keep_its_listeners_waiting(monkeypatch):
    monkeypatch.setattr(hints, "PATIENCE", 0.1)
    with_hints, without = MemoryBackend(), MemoryBackend()
    without.capabilities = Capabilities(is_durable=False, is_shared=False, has_hints=False)
    suite = BackendConformance()
    await suite.test_in_a_store_without_hints_listening_ends_at_once(with_hints)
    with pytest.raises(TimeoutError):
        await suite.test_in_a_store_without_hints_listening_ends_at_once(without)


async def test_a_store_that_claims_to_be_shared_must_prove_it():
    await BackendConformance().test_a_store_that_is_shared_proves_it(MemoryBackend())
    await SuiteOfASharedStore().test_a_store_that_is_shared_proves_it(Lonely())
    with pytest.raises(AssertionError):
        await BackendConformance().test_a_store_that_is_shared_proves_it(Lonely())


async def test_two_stores_that_share_nothing_are_found_out():
    with pytest.raises(AssertionError):
        await SuiteOfASharedStore().test_what_one_inserts_the_other_has_at_once(Lonely(), Lonely())
