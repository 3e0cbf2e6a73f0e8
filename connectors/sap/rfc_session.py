"""One ABAP session under a watchdog: a call that is not answered in time is given up, and its connection with it.

A gateway that is silent lets a call hang for ever, in C, where no signal and no timeout of Python ends it. So every
call runs in a thread of the connection's own, which is left behind where it hangs; so many may hang and no more.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from connectors.sap.rfc_config import SapRfcConfig, check_name
from connectors.sap.rfc_driver import TooMuch, connect, translated
from libcore.errors import ConfigurationError, TransientError

_CANCEL_S = 2.0
_CLOCK = re.compile(r"Date:\s*(\d{8})\s+Time:\s*(\d{6})")
_abandoned: list[threading.Thread] = []  # of this process


@dataclass
class _Call:
    """A call that waits for its answer."""

    function: Callable[[], Any]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: Exception | None = None


class _Line:
    """A thread, and the connection that only it uses."""

    def __init__(self) -> None:
        self.connection: Any = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="sap rfc", daemon=True)
        self.thread.start()

    def put(self, call: _Call) -> None:
        """Let the thread do it."""
        self._calls.put(call)

    def end(self) -> None:
        """The thread closes the connection and ends, when it is free."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.result = call.function()
            except Exception as error:
                call.error = error
            call.done.set()
        if self.connection is not None:
            self.connection.close()


class Session:
    """Remote calls, one at a time; connects when it is first needed. Used by one thread.

    Args:
        config: where, who, and how long a call may take.
    """

    def __init__(self, config: SapRfcConfig) -> None:
        self._config = config
        self._seconds = config.guardian.query_seconds_max
        self._line: _Line | None = None

    def call(self, function: str, **parameters: Any) -> dict[str, Any]:
        """What a function module answers. Raises TransientError, ConfigurationError, and those of rfc_driver."""
        try:
            check_name(function)
        except ValueError as error:
            raise ConfigurationError(f"source.sap_rfc: {error}") from None
        found: dict[str, Any] = self._run(function, lambda connection: connection.call(function, **parameters))
        return found

    def description(self, function: str) -> Any:
        """What the system says of a function's parameters. Raises NotThere where it has none."""
        return self._run(f"describe {function}", lambda connection: connection.get_function_description(function))

    def parameters(self, function: str) -> frozenset[str]:
        """The names of a function's parameters."""
        return frozenset(str(one["name"]) for one in self.description(function).parameters)

    def attributes(self) -> dict[str, Any]:
        """What the connection says of itself: host, system, release."""
        return dict(self._run("attributes", lambda connection: connection.get_connection_attributes()))

    def row_count(self, table: str) -> int | None:
        """How many rows a table has in this client; None where the user may not ask, or the answer takes too long."""
        try:
            rows = self.call("EM_GET_NUMBER_OF_ENTRIES", IT_TABLES=[{"TABNAME": table}])["IT_TABLES"]
        except (ConfigurationError, TooMuch):
            return None
        return int(rows[0]["TABROWS"]) if rows else None

    def clock(self) -> datetime:
        """The system's own time, by which change documents are written."""
        text = str(self.call("STFC_CONNECTION", REQUTEXT="headrace")["RESPTEXT"])
        if (match := _CLOCK.search(text)) is None:
            raise ConfigurationError(f"source.sap_rfc: STFC_CONNECTION: expected Date: and Time:, found {text!r}")
        return datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S")

    def close(self) -> None:
        """End the session; a later call opens another."""
        line, self._line = self._line, None
        if line is not None:
            line.end()

    def _run(self, doing: str, use: Callable[[Any], Any]) -> Any:
        line = self._line or self._open()
        call = _Call(lambda: use(line.connection))
        self._wait(line, call, doing)
        if call.error is None:
            return call.result
        error = translated(call.error, doing)
        if isinstance(error, TransientError):
            self.close()  # what is left of the connection is not known
        raise error from call.error

    def _open(self) -> _Line:
        _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
        if len(_abandoned) >= self._config.guardian.abandoned_max:
            raise TransientError(
                f"source.sap_rfc: {len(_abandoned)} calls hang that were given up: no further one is started until one "
                "of them ends (guardian.abandoned_max)"
            )
        line = _Line()

        def open_connection() -> None:
            line.connection = connect(self._config)

        call = _Call(open_connection)
        self._wait(line, call, "log on")
        if call.error is not None:
            line.end()
            raise call.error
        self._line = line
        return line

    def _wait(self, line: _Line, call: _Call, doing: str) -> None:
        line.put(call)
        if call.done.wait(self._seconds):
            return
        self._line = None
        _abandoned.append(line.thread)
        line.end()  # should the call come back, its connection is closed
        if line.connection is not None:
            # the driver's own way to end a call from outside; it may hang as well
            canceller = threading.Thread(target=_cancel, args=(line.connection,), name="sap rfc cancel", daemon=True)
            canceller.start()
            canceller.join(_CANCEL_S)
        kind = TransientError if line.connection is None else TooMuch  # a logon cannot be asked for less
        raise kind(
            f"source.sap_rfc: {doing}: expected an answer within {self._seconds:g} s (guardian.query_seconds_max), "
            "found none: the call was given up"
        )


def _cancel(connection: Any) -> None:
    with suppress(Exception):  # of any distribution: the connection is given up in any case
        connection.cancel()
