"""Try again what failed for a passing reason: exponential waits with jitter, ended by a stop request.

Only TransientError is retried; every other error passes at once. The waits double from `first_s` to `wait_max_s`, with
full jitter, so that many workers do not come back to a restarted server in step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity

from connectors.base import stop
from libcore.errors import TransientError

T = TypeVar("T")
FIRST_S, WAIT_MAX_S = 0.2, 10.0

_log = structlog.get_logger()


def retrying(
    what: str, *, total_s: float | None, first_s: float = FIRST_S, wait_max_s: float = WAIT_MAX_S
) -> tenacity.Retrying:
    """A tenacity retrier for TransientError; the last one is raised as it is.

    Args:
        what: the thing tried, for the log.
        total_s: seconds after which no further try starts; None tries for ever (until a stop request).
        first_s, wait_max_s: upper bound of the first wait and of any wait, in seconds.
    """
    stops: list[tenacity.stop.stop_base] = [tenacity.stop_when_event_set(stop.event())]
    if total_s is not None:
        stops.append(tenacity.stop_after_delay(total_s))

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        wait_s = state.next_action.sleep if state.next_action is not None else 0.0
        _log.warning("retry", what=what, attempt=state.attempt_number, wait_s=round(wait_s, 2), error=str(error))

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=first_s, max=wait_max_s),
        stop=tenacity.stop_any(*stops),
        sleep=tenacity.sleep_using_event(stop.event()),
        before_sleep=report,
        reraise=True,
    )


def call(
    what: str,
    function: Callable[[], T],
    *,
    total_s: float | None,
    first_s: float = FIRST_S,
    wait_max_s: float = WAIT_MAX_S,
) -> T:
    """The function's result, tried again while it raises TransientError (see `retrying`)."""
    return retrying(what, total_s=total_s, first_s=first_s, wait_max_s=wait_max_s)(function)
