"""Conformance: one class for each role of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deeper_tasks.backends.protocol import Backend, Role
from deeper_tasks.testing.conformance.builders import check_counters
from deeper_tasks.testing.conformance.claim import ClaimConformance
from deeper_tasks.testing.conformance.concurrency import ConcurrencyConformance, ScheduleConcurrencyConformance
from deeper_tasks.testing.conformance.control import JobControlConformance
from deeper_tasks.testing.conformance.earlier_attempts import EarlierAttemptsConformance
from deeper_tasks.testing.conformance.finding import FindingConformance
from deeper_tasks.testing.conformance.hints import HintsConformance, ScheduleHintsConformance
from deeper_tasks.testing.conformance.ids import IdsConformance
from deeper_tasks.testing.conformance.insert import InsertConformance
from deeper_tasks.testing.conformance.job_transactions import TransactingConformance
from deeper_tasks.testing.conformance.life import LifeConformance
from deeper_tasks.testing.conformance.maintenance import MaintenanceConformance
from deeper_tasks.testing.conformance.moved_jobs import MovedJobsConformance
from deeper_tasks.testing.conformance.nodes import NodeConformance
from deeper_tasks.testing.conformance.patterns import PatternConformance
from deeper_tasks.testing.conformance.progress import (
    QuarantinedStartsConformance,
    ReportConformance,
    StartsConformance,
)
from deeper_tasks.testing.conformance.repeats import RepeatConformance
from deeper_tasks.testing.conformance.reschedule import RescheduleConformance
from deeper_tasks.testing.conformance.schedule_runs import ScheduleRunsConformance
from deeper_tasks.testing.conformance.schedules import EntriesConformance
from deeper_tasks.testing.conformance.settle import SettleConformance
from deeper_tasks.testing.conformance.shared import SharingConformance
from deeper_tasks.testing.conformance.statistics import StatisticsConformance
from deeper_tasks.testing.conformance.transactions import JoinConformance
from deeper_tasks.testing.conformance.unique import UniqueConformance


class LifecycleConformance(LifeConformance, SharingConformance):
    """The contract of the role `Lifecycle`."""


class JobsConformance(InsertConformance, JoinConformance, UniqueConformance):
    """The contract of the role `Jobs`: inserting, and reading one job."""


class ConsumingConformance(
    ClaimConformance,
    PatternConformance,
    SettleConformance,
    RepeatConformance,
    EarlierAttemptsConformance,
    NodeConformance,
    TransactingConformance,
    ConcurrencyConformance,
):
    """The contract of the role `Consuming`: claims, settlements and the beats of nodes."""


class ProgressConformance(ReportConformance, StartsConformance, QuarantinedStartsConformance):
    """The contract of the role `Progress`. A store may lack it."""


class SchedulesConformance(
    EntriesConformance, ScheduleRunsConformance, ScheduleConcurrencyConformance, ScheduleHintsConformance
):
    """The contract of the role `Schedules`. A store may lack it."""


class ControlConformance(JobControlConformance, RescheduleConformance):
    """The contract of the role `Control`."""


class ReadsConformance(FindingConformance, StatisticsConformance):
    """The contract of the role `Reads`."""


class BasicConformance(
    LifecycleConformance,
    JobsConformance,
    ConsumingConformance,
    MaintenanceConformance,
    ControlConformance,
    MovedJobsConformance,
    IdsConformance,
    ReadsConformance,
    HintsConformance,
):
    """
    The contract of the roles that every store has. None of these tests calls a role that a store may lack.

    The fixture `backend` gives an open and empty store. After each test the counters must equal a recount of the jobs.
    """

    @pytest.fixture(autouse=True)
    async def _counters_equal_a_recount(self, backend: Backend) -> AsyncIterator[None]:
        yield
        await check_counters(backend)

    def test_the_suite_is_composed_of_the_roles_that_the_store_has(self, backend: Backend) -> None:
        composed = {role for role, suite in OPTIONAL.items() if isinstance(self, suite)}
        assert composed == backend.capabilities.roles


OPTIONAL: dict[Role, type] = {Role.PROGRESS: ProgressConformance, Role.SCHEDULES: SchedulesConformance}
"""The classes of the roles that a store may lack."""


class BackendConformance(BasicConformance, ProgressConformance, SchedulesConformance):
    """
    The contract of a store that has all roles: the store passes it by a subclass in its tests.

    The fixture `backend` gives an open and empty store. The tests own the time by `now=`; none sleeps. It needs
    pytest, and pytest-asyncio in its auto mode.
    """
