"""Exception groups: the exceptions inside one, which count for a job as if each had been raised by itself."""

from __future__ import annotations

from collections.abc import Iterator

from deeper_tasks.domain.outcome import Cancel, Done, Fail, Outcome, Retry, Snooze

_FIRST_TO_LAST: tuple[type[Outcome], ...] = (Cancel, Fail, Retry, Snooze)


def exceptions_in(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of the groups inside it, in order. Any other exception is yielded itself."""
    rest = [error]
    while rest:
        first = rest.pop()
        if isinstance(first, BaseExceptionGroup):
            rest.extend(reversed(first.exceptions))
        else:
            yield first


def outcome_in(error: BaseException) -> Outcome | None:
    """
    Return the outcome that decides when a handler raised several exceptions at once; None if there is none.

    The order is `Cancel`, `Fail`, `Retry`, `Snooze`: an outcome that ends the job wins. Of two of the same kind the
    first counts. `Done` counts if there is nothing else.
    """
    errors = list(exceptions_in(error))
    if all(isinstance(one, Done) for one in errors):
        return next((one for one in errors if isinstance(one, Outcome)), None)
    found = [one for one in errors if isinstance(one, Outcome)]
    return next((one for kind in _FIRST_TO_LAST for one in found if isinstance(one, kind)), None)
