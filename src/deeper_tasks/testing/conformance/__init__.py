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

`BackendConformance` is composed of one class for each role of the protocol. A store that lacks a role
(`Capabilities.roles`) composes its suite from the classes of the roles that it has:

    class TestMyBackend(BasicConformance, ProgressConformance):
        ...  # no SchedulesConformance: the store keeps no schedules

`BasicConformance` holds the roles that every store has, themselves one class each: `LifecycleConformance`,
`JobsConformance`, `ConsumingConformance`, `MaintenanceConformance`, `ControlConformance`, `ReadsConformance` and
`HintsConformance`. None of its tests calls a role that a store may lack; a test that needs such a role and another
one stands in a class that says so, such as `ScheduleHintsConformance`. A test of the suite compares its classes with
`Capabilities.roles`. A store without `Role.PROGRESS` counts each job as started when it hands it out.

The rest of `Capabilities` decides about further classes:

- a store that is shared takes `SharedConformance` too, and gives it the fixture `other`; without schedules it takes
  `SharedJobsConformance`;
- a store that has transactions takes `TransactionConformance` too, and gives it the fixture `begin`;
- a store that has transactions of jobs takes `JobTransactionConformance` too, and gives it the fixture `ledger`;
- a store whose rows can be damaged takes `DamageConformance` too, and gives it the fixture `damage`; it is composed
  of `DamagedJobsConformance`, `DamagedReportsConformance` and `DamagedSchedulesConformance`;
- a store without hints is not asked to be heard.
"""

from __future__ import annotations

from deeper_tasks.testing.conformance.damage import (
    DamageConformance,
    DamagedJobsConformance,
    DamagedReportsConformance,
    DamagedSchedulesConformance,
    Damager,
    Harm,
)
from deeper_tasks.testing.conformance.hints import HintsConformance
from deeper_tasks.testing.conformance.job_transactions import JobTransactionConformance, Ledger
from deeper_tasks.testing.conformance.maintenance import MaintenanceConformance
from deeper_tasks.testing.conformance.roles import (
    BackendConformance,
    BasicConformance,
    ConsumingConformance,
    ControlConformance,
    JobsConformance,
    LifecycleConformance,
    ProgressConformance,
    ReadsConformance,
    SchedulesConformance,
)
from deeper_tasks.testing.conformance.shared import SharedConformance, SharedJobsConformance
from deeper_tasks.testing.conformance.transactions import Transaction, TransactionConformance

__all__ = [
    "BackendConformance",
    "BasicConformance",
    "ConsumingConformance",
    "ControlConformance",
    "DamageConformance",
    "DamagedJobsConformance",
    "DamagedReportsConformance",
    "DamagedSchedulesConformance",
    "Damager",
    "Harm",
    "HintsConformance",
    "JobTransactionConformance",
    "JobsConformance",
    "Ledger",
    "LifecycleConformance",
    "MaintenanceConformance",
    "ProgressConformance",
    "ReadsConformance",
    "SchedulesConformance",
    "SharedConformance",
    "SharedJobsConformance",
    "Transaction",
    "TransactionConformance",
]
