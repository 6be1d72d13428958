"""The maintenance of a store: the roles that keep it in order, put together over one backend."""

from __future__ import annotations

from deeper_tasks.backends.protocol import Folding
from deeper_tasks.backends.protocol import Role as StoreRole
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.maintainers import Expirer, Folder, Promoter, Pruner, Rescuer
from deeper_tasks.worker.maintenance.scheduler import Scheduler
from deeper_tasks.worker.role import Role
from deeper_tasks.worker.settings import WorkerSettings


class Maintenance:
    """The roles that the store can have. Without a `membership` there is no rescuer: nothing judges other workers."""

    def __init__(
        self, collaborators: Collaborators, settings: WorkerSettings, *, membership: Membership | None = None
    ) -> None:
        backend, bus = collaborators.backend, collaborators.bus
        self.promoter = Promoter(backend=backend, settings=settings)
        has_schedules = StoreRole.SCHEDULES in backend.capabilities.roles
        self.scheduler = (
            Scheduler(backend=backend, settings=settings, bus=bus, declare=collaborators.declare)
            if has_schedules
            else None
        )
        self.expirer = Expirer(
            backend=backend,
            settings=settings,
            bus=bus,
            node_id=lambda: None if membership is None else membership.node_id,
        )
        self.pruner = Pruner(backend=backend, settings=settings, clock=collaborators.clock, bus=bus)
        self.rescuer = None if membership is None else Rescuer(collaborators, settings, membership=membership)
        self.folder = Folder(backend=backend, settings=settings) if isinstance(backend, Folding) else None

    @property
    def roles(self) -> dict[str, Role]:
        """The roles by the names under which they are logged."""
        roles: dict[str, Role | None] = {
            "promoter": self.promoter,
            "scheduler": self.scheduler,
            "rescuer": self.rescuer,
            "expirer": self.expirer,
            "pruner": self.pruner,
            "folder of the counters": self.folder,
        }
        return {name: role for name, role in roles.items() if role is not None}
