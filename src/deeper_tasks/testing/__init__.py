"""
Testing: tools for the tests of an application, and for the author of a store.

`use_memory(manager)` puts a manager on a store in memory whose time belongs to
the test, and gives a `TaskKit`; the pytest plugin has it as the fixture
`task_kit`. `FaultyBackend` adds faults to any store. `BackendConformance` checks a store with all roles, and
`BasicConformance` with a class for each further role a store that lacks some. `SharedConformance`,
`TransactionConformance`, `JobTransactionConformance` and `DamageConformance` check abilities that not every store has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeper_tasks.testing.clock import ClockError, ManualClock
from deeper_tasks.testing.demands import StuckJobError, TooManyRunsError
from deeper_tasks.testing.faulty import Call, Fault, FaultyBackend
from deeper_tasks.testing.kit import TaskKit
from deeper_tasks.testing.store import use_memory, use_store
from deeper_tasks.testing.summary import Run, RunEnd, Summary
from deeper_tasks.testing.turns import OverlapError

if TYPE_CHECKING:
    from deeper_tasks.testing.conformance import (
        BackendConformance,
        BasicConformance,
        DamageConformance,
        DamagedJobsConformance,
        DamagedReportsConformance,
        DamagedSchedulesConformance,
        Damager,
        Harm,
        JobTransactionConformance,
        Ledger,
        ProgressConformance,
        SchedulesConformance,
        SharedConformance,
        SharedJobsConformance,
        Transaction,
        TransactionConformance,
    )

__all__ = [
    "BackendConformance",
    "BasicConformance",
    "Call",
    "ClockError",
    "DamageConformance",
    "DamagedJobsConformance",
    "DamagedReportsConformance",
    "DamagedSchedulesConformance",
    "Damager",
    "Fault",
    "FaultyBackend",
    "Harm",
    "JobTransactionConformance",
    "Ledger",
    "ManualClock",
    "OverlapError",
    "ProgressConformance",
    "Run",
    "RunEnd",
    "SchedulesConformance",
    "SharedConformance",
    "SharedJobsConformance",
    "StuckJobError",
    "Summary",
    "TaskKit",
    "TooManyRunsError",
    "Transaction",
    "TransactionConformance",
    "use_memory",
    "use_store",
]

_OF_THE_SUITE = frozenset(
    {
        "BackendConformance",
        "BasicConformance",
        "DamageConformance",
        "DamagedJobsConformance",
        "DamagedReportsConformance",
        "DamagedSchedulesConformance",
        "Damager",
        "Harm",
        "JobTransactionConformance",
        "Ledger",
        "ProgressConformance",
        "SchedulesConformance",
        "SharedConformance",
        "SharedJobsConformance",
        "Transaction",
        "TransactionConformance",
    }
)


def __getattr__(name: str) -> Any:
    # The suite needs pytest, which an application's own code has no reason to have installed.
    if name in _OF_THE_SUITE:
        from deeper_tasks.testing import conformance

        return getattr(conformance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
