"""
The conformance suite: every promise of the backend protocol, as tests that any store must pass.

A store's test file is a few lines. It needs pytest and pytest-asyncio in its auto mode
(`asyncio_mode = "auto"` under `[tool.pytest.ini_options]`), and pytest-timeout is of
use while the store does not yet do what it should:

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        async def backend(self, tmp_path):
            backend = MyBackend(tmp_path)
            await backend.open()
            yield backend
            await backend.close()

The fixture gives an open and empty store. The tests own the time by `now=`; none sleeps.
What the store's `Capabilities` say decides about the rest:

- one that is shared takes `SharedConformance` too, and gives it the fixture `other`;
- one that has transactions takes `TransactionConformance` too, and gives it the fixture `begin`;
- one that has transactions of jobs takes `JobTransactionConformance` too, and gives it the fixture `ledger`;
- one whose rows can be damaged takes `DamageConformance` too, and gives it the fixture `damage`;
- one without hints is not asked to be heard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.testing.conformance.builders import check_counters
from deeper_tasks.testing.conformance.claim import ClaimConformance
from deeper_tasks.testing.conformance.concurrency import ConcurrencyConformance
from deeper_tasks.testing.conformance.control import ControlConformance
from deeper_tasks.testing.conformance.damage import DamageConformance, Damager, Harm
from deeper_tasks.testing.conformance.earlier_attempts import EarlierAttemptsConformance
from deeper_tasks.testing.conformance.hints import HintsConformance
from deeper_tasks.testing.conformance.insert import InsertConformance
from deeper_tasks.testing.conformance.job_transactions import (
    JobTransactionConformance,
    Ledger,
    TransactingConformance,
)
from deeper_tasks.testing.conformance.life import LifeConformance
from deeper_tasks.testing.conformance.maintenance import MaintenanceConformance
from deeper_tasks.testing.conformance.moved_jobs import MovedJobsConformance
from deeper_tasks.testing.conformance.nodes import NodeConformance
from deeper_tasks.testing.conformance.patterns import PatternConformance
from deeper_tasks.testing.conformance.reads import ReadsConformance
from deeper_tasks.testing.conformance.repeats import RepeatConformance
from deeper_tasks.testing.conformance.reschedule import RescheduleConformance
from deeper_tasks.testing.conformance.schedule_runs import ScheduleRunsConformance
from deeper_tasks.testing.conformance.schedules import SchedulesConformance
from deeper_tasks.testing.conformance.settle import SettleConformance
from deeper_tasks.testing.conformance.shared import SharedConformance, SharingConformance
from deeper_tasks.testing.conformance.transactions import JoinConformance, Transaction, TransactionConformance
from deeper_tasks.testing.conformance.unique import UniqueConformance

__all__ = [
    "BackendConformance",
    "DamageConformance",
    "Damager",
    "Harm",
    "JobTransactionConformance",
    "Ledger",
    "SharedConformance",
    "Transaction",
    "TransactionConformance",
]


class BackendConformance(
    LifeConformance,
    InsertConformance,
    JoinConformance,
    TransactingConformance,
    UniqueConformance,
    ClaimConformance,
    PatternConformance,
    SettleConformance,
    RepeatConformance,
    EarlierAttemptsConformance,
    NodeConformance,
    MaintenanceConformance,
    MovedJobsConformance,
    SchedulesConformance,
    ScheduleRunsConformance,
    ControlConformance,
    RescheduleConformance,
    ReadsConformance,
    HintsConformance,
    ConcurrencyConformance,
    SharingConformance,
):
    """
    All of the suite: a store passes it by a subclass in its tests, with a fixture `backend`.

    The fixture gives an open and empty store. The tests own the time by `now=`;
    none sleeps. After each the counters must equal a recount of the jobs. It needs
    pytest, and pytest-asyncio in its auto mode.
    """

    @pytest.fixture(autouse=True)
    async def _counters_equal_a_recount(self, backend: Backend) -> AsyncIterator[None]:
        yield
        await check_counters(backend)
