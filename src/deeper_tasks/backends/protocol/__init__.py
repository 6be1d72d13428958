"""
The backend protocol: what a store must do, and what it promises, cut into roles.

Each module holds one role and the values beside it. `Backend` composes the roles that a whole store has; a
store that lacks some of them says so in `Capabilities.roles`. The optional roles (`Transacting`,
`Compacting`, `Folding`, `Scripting`, `Diagnosable`, `Scanning`, `Located`, `Announcing`) are offered by having the
method.

These rules hold for every method:

- **Atomic.** A call happens as a whole or not at all, also against other processes.
- **Never waits for work.** A claim that finds nothing returns nothing.
- **Repeatable.** A call that raised `BackendUnavailableError` may be sent again as it
  was: the parts that it had done already are not done twice. `insert`, `claim`, `settle` and `report`
  give the same answer again (`settle` until the job is claimed again or deleted); the
  others answer as if another caller had done it.
- **Time is the store's.** `now` is for tests; without it the store's own clock decides
  when a job is due, expired, or finished.
- **Batches.** A call costs about the same for one job as for many.
- **One bad row never stops the others.** A row whose content cannot be read (a document
  that is no JSON or of another shape, a moment outside of the calendar) makes no call
  fail. The value that stands for it says so in its `damage`, with stand-ins for the fields that cannot be read; a claim
  hands such a job out, and the worker fails it. Anything written to a damaged
  field starts anew. A damaged schedule stays as it is, fires and runs nothing, until it is put anew or removed.
- **Any loop.** The methods may be called from several event loops and threads of one process.

`BackendConformance` in `deeper_tasks.testing` checks all of this for any store.
"""

from __future__ import annotations

from deeper_tasks.backends.protocol.announcing import Announcing
from deeper_tasks.backends.protocol.backend import Backend
from deeper_tasks.backends.protocol.capabilities import MAX_BATCH, Capabilities, Role
from deeper_tasks.backends.protocol.compacting import Compacting
from deeper_tasks.backends.protocol.consuming import MAX_NODE_TASKS, Beat, Claim, Consuming
from deeper_tasks.backends.protocol.control import Control, Retried
from deeper_tasks.backends.protocol.diagnosis import BROKEN_OFF, NOT_EXAMINED, RIGHTS, Diagnosable
from deeper_tasks.backends.protocol.folding import Folding
from deeper_tasks.backends.protocol.hints import Hints, Notification, Topic
from deeper_tasks.backends.protocol.jobs import Jobs
from deeper_tasks.backends.protocol.lifecycle import Lifecycle
from deeper_tasks.backends.protocol.located import Located
from deeper_tasks.backends.protocol.maintenance import SILENT_NODES_KEPT, Maintenance, Promotion, Rescue, Retention
from deeper_tasks.backends.protocol.progress import Progress
from deeper_tasks.backends.protocol.reads import (
    Counts,
    Cursor,
    HeldJobs,
    JobList,
    JobQuery,
    QueueCounts,
    Reads,
    Service,
    SortKey,
)
from deeper_tasks.backends.protocol.scanning import Scanning
from deeper_tasks.backends.protocol.schedules import Schedules
from deeper_tasks.backends.protocol.scripting import Scripting
from deeper_tasks.backends.protocol.transactions import JobTransaction, Transacting
from deeper_tasks.backends.protocol.values import JobFilter, Node, NodeRecord, QueueSettings

__all__ = [
    "BROKEN_OFF",
    "MAX_BATCH",
    "MAX_NODE_TASKS",
    "NOT_EXAMINED",
    "RIGHTS",
    "SILENT_NODES_KEPT",
    "Announcing",
    "Backend",
    "Beat",
    "Capabilities",
    "Claim",
    "Compacting",
    "Consuming",
    "Control",
    "Counts",
    "Cursor",
    "Diagnosable",
    "Folding",
    "HeldJobs",
    "Hints",
    "JobFilter",
    "JobList",
    "JobQuery",
    "JobTransaction",
    "Jobs",
    "Lifecycle",
    "Located",
    "Maintenance",
    "Node",
    "NodeRecord",
    "Notification",
    "Progress",
    "Promotion",
    "QueueCounts",
    "QueueSettings",
    "Reads",
    "Rescue",
    "Retention",
    "Retried",
    "Role",
    "Scanning",
    "Schedules",
    "Scripting",
    "Service",
    "SortKey",
    "Topic",
    "Transacting",
]
