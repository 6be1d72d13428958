"""The middleware around a handler. A stop interrupts it as it interrupts the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.collaborators import Middleware, Proceed
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call

_logger = logging.getLogger("deeper_tasks")

_PATIENCE = 3.0
"""
Seconds that middleware gets to clean up after a stop, before it is interrupted again.

It is shorter than the time that a stopping worker leaves to the attempts that it interrupts.
"""


class MiddlewareChain:
    """
    Runs one attempt within the middleware; `execute` runs the handler.

    A stop cancels the middleware where it awaits. Before the handler has begun, the attempt ends as the stop says;
    after the handler has ended, that end counts. While the handler runs, its executor interrupts it, and the
    middleware has `_PATIENCE` afterwards. `run` never returns before the handler has stopped,
    even if middleware has left it running.
    """

    def __init__(self, attempt: Attempt, call: Call, middleware: Sequence[Middleware], execute: Proceed) -> None:
        self._attempt = attempt
        self._call = call
        self._middleware = middleware
        self._execute = execute
        # It interrupts a statement of the transaction, which only the handler's thread may run.
        self._interrupt_handler = attempt.interrupt
        self._innermost: Middleware | None = None
        self._interrupted: Middleware | None = None
        self._under_way = 0
        self._has_begun = self._is_interrupted = False
        self._end: Settlement | None = None
        self._again: asyncio.TimerHandle | None = None
        self._has_stopped: asyncio.Event | None = None

    async def run(self) -> Settlement:
        """Run the attempt to its end. Errors of the middleware itself are raised."""
        assert self._attempt.onlooker is not None
        # No `leave_job` follows, because the context ends with the attempt's task.
        enter_job(self._attempt.onlooker)
        around: Proceed = self._proceed
        for middleware in reversed(self._middleware):
            around = self._wrapped(middleware, around)
        self._attempt.interrupt = self._interrupt
        try:
            settlement = await around()
        except BaseException as error:  # noqa: BLE001 - errors of the middleware itself are raised again
            await self._until_handler_stopped()
            settlement = self._interrupted_by(error)
        else:
            await self._until_handler_stopped()
        finally:
            self._attempt.interrupt = None
            if self._again is not None:
                self._again.cancel()
            if self._is_interrupted:
                _forget_cancellations(self._attempt)
        return settlement

    async def _proceed(self) -> Settlement:
        attempt = self._attempt
        if attempt.forced:
            # Stopped while the middleware ran: the handler is not begun.
            return verdict.unbegun(self._call, attempt, place=self._place)
        attempt.interrupt = self._interrupt_handler
        self._has_begun = True
        self._under_way += 1
        try:
            self._end = await self._execute()
        finally:
            self._under_way -= 1
            attempt.interrupt = self._interrupt
            if attempt.forced:
                self._interrupt_later()
            if self._has_stopped is not None:
                self._has_stopped.set()
        return self._end

    def _wrapped(self, middleware: Middleware, proceed: Proceed) -> Proceed:
        attempt = self._attempt
        assert attempt.onlooker is not None
        onlooker = attempt.onlooker

        async def around() -> Settlement:
            outer, self._innermost = self._innermost, middleware
            try:
                settlement: object = await middleware(onlooker, proceed)
            finally:
                self._innermost = outer
            if not isinstance(settlement, Settlement):
                raise TypeError(f"the middleware {middleware!r} must return what proceed() gave, not {settlement!r}")
            if (settlement.id, settlement.token) != (attempt.job.id, attempt.job.token):
                raise TypeError(f"the middleware {middleware!r} returned the end of another attempt: {settlement.id}")
            return settlement

        return around

    def _interrupt(self) -> None:
        assert self._attempt.task is not None
        self._is_interrupted, self._interrupted = True, self._innermost
        self._attempt.task.cancel()
        self._interrupt_later()

    def _interrupt_later(self) -> None:
        """Interrupt the middleware once more if it does not end by itself, as when its clean-up hangs."""
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(_PATIENCE, self._interrupt_again)

    def _interrupt_again(self) -> None:
        self._again = None
        if not self._under_way:
            self._interrupt()

    async def _until_handler_stopped(self) -> None:
        """Stop a handler that middleware has left running, in another task or after a timeout of the middleware."""
        while self._under_way:
            self._has_stopped = asyncio.Event()
            if self._attempt.interrupt is not None:
                self._attempt.interrupt()
            with suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._has_stopped.wait()

    def _interrupted_by(self, error: BaseException) -> Settlement:
        """Return the settlement of an attempt whose middleware was interrupted. Raises the error if it was not."""
        if not self._is_interrupted:
            raise error
        if not self._has_begun:
            return verdict.unbegun(self._call, self._attempt, error, place=self._place)
        if self._end is None:
            raise error
        job = self._attempt.job
        with suppress(BaseException):
            _logger.warning(
                "the middleware %s was interrupted (%s) after the handler of the job %s %s had ended; that end counts",
                (self._place or "").removeprefix("the middleware "),
                self._attempt.stop,
                job.task,
                job.id,
                extra={"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt},
            )
        return self._end

    @property
    def _place(self) -> str | None:
        """The interrupted middleware with its file and line; None if none was interrupted."""
        function = self._interrupted
        if function is None:
            return None
        return f"the middleware {getattr(function, '__qualname__', '')}, {verdict.place_of_function(function)}"


def _forget_cancellations(attempt: Attempt) -> None:
    assert attempt.task is not None
    while attempt.task.cancelling():
        attempt.task.uncancel()
