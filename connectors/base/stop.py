"""The process-wide wish to stop: SIGTERM and SIGINT set it, every source ends at its next batch border.

A stop is not an end of the data: the source adds one epoch with a Tick, then ends; the last epoch becomes durable and
the process leaves with 0. A second signal means now: it gets the handler that stood before, usually death.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_EVENT = threading.Event()
_former: dict[int, Any] = {}


def requested() -> bool:
    """Whether the process was asked to stop."""
    return _EVENT.is_set()


def request() -> None:
    """Ask the process to stop, as a signal does; may be called from any thread."""
    _EVENT.set()


def event() -> threading.Event:
    """The flag itself, for waits that a stop must end."""
    return _EVENT


def install() -> bool:
    """Set the handlers; a repeated call changes nothing. False outside the main thread, where Python allows none."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if not _former:
        for number in SIGNALS:
            _former[number] = signal.signal(number, _handle)
    return True


def reset() -> None:
    """Back to the state before install(): flag cleared, former handlers in place (main thread only)."""
    _EVENT.clear()
    while _former:
        number, handler = _former.popitem()
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handle(number: int, frame: FrameType | None) -> None:
    if _EVENT.is_set():
        signal.signal(number, _former.get(number) or signal.SIG_DFL)
        signal.raise_signal(number)
    _EVENT.set()
