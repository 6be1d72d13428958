"""The identity of a manager: by it a running job knows which manager it belongs to."""

from __future__ import annotations


class ManagerIdentity:
    """
    Identify one manager in its process.

    A manager makes one and gives it to its workers, which put it into the context of each job. An enqueue joins the
    transaction of a job only if its manager has the identity that the job carries. Identities are compared by `is`.
    """

    __slots__ = ()
