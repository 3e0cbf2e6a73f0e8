"""pyrfc.Connection of the fake: `ashost` is the path of the system's file; a path that is none is no host."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.sap_rfc import functions
from tests.doubles.sap_rfc.failures import (
    ABAPApplicationError,
    ABAPRuntimeError,
    CommunicationError,
    ExternalRuntimeError,
    LogonError,
)
from tests.doubles.sap_rfc.system import System


@dataclass(frozen=True)
class FunctionDescription:
    """What the system says of a function module."""

    name: str
    parameters: list[dict[str, Any]]


class Connection:
    """One session."""

    def __init__(self, config: dict[str, Any] | None = None, **params: str) -> None:
        self._config, self._params = config or {}, params
        self._cancelled = threading.Event()
        host = params.get("ashost") or params.get("mshost", "")
        if not Path(host).is_file():
            raise CommunicationError(f"LOCATION CPIC (TCP/IP)\nERROR partner '{host}:3300' not reached",
                                     "RFC_COMMUNICATION_FAILURE")  # fmt: skip
        self.system = System(Path(host))
        self.pending: list[Any] = []  # what a commit writes
        self._hang("LOGON")
        settings = self.system.settings
        if params.get("user") != settings["user"] or params.get("passwd") != settings["passwd"]:
            raise LogonError("Name or password is incorrect (repeat logon)", "RFC_LOGON_FAILURE")
        if params.get("client") != settings["client"]:
            raise LogonError("Client is not available in this system", "RFC_LOGON_FAILURE")
        self.alive = True

    def call(self, func_name: str, options: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """Call a function module."""
        if not self.alive:
            raise ExternalRuntimeError("An invalid handle was passed to the API call", "RFC_INVALID_HANDLE", 13)
        for hook in list(functions.BEFORE):
            hook(func_name, params)
        self.system.count(func_name)
        self._hang(func_name)
        self._fault(func_name)
        known = functions.parameters(self.system, func_name)
        if known is None:
            raise ABAPApplicationError(f"Function module {func_name} not found", "FU_NOT_FOUND")
        if func_name in self.system.settings["denied_functions"]:
            raise ABAPRuntimeError(f"No RFC authorization for function module {func_name}", "RFC_NO_AUTHORITY")
        if strange := sorted(set(params) - {one["name"] for one in known}):
            raise ExternalRuntimeError(f"field '{strange[0]}' not found", "RFC_INVALID_PARAMETER")
        return functions.run(self, func_name, params)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._hang("RFC_PING")

    def get_function_description(self, func_name: str) -> FunctionDescription:
        """A function's parameters."""
        known = functions.parameters(self.system, func_name)
        if known is None:
            raise ABAPApplicationError(f"Function module {func_name} not found", "FU_NOT_FOUND")
        return FunctionDescription(func_name, known)

    def get_connection_attributes(self) -> dict[str, str]:
        """Where this connection leads."""
        settings = self.system.settings
        return {"sysId": "FKE", "client": settings["client"], "user": settings["user"], "partnerRel": "757"}

    def cancel(self) -> None:
        """End the call that another thread waits for, unless the system is deaf to that."""
        if not self.system.settings["deaf"]:
            self._cancelled.set()

    def close(self) -> None:
        """Log off."""
        self.alive = False
        self.system.close()

    def _hang(self, func_name: str) -> None:
        if func_name in self.system.settings["hang"]:
            self._cancelled.wait()
            self.alive = False
            raise ExternalRuntimeError("Connection was canceled.", "RFC_CANCELED", 7)

    def _fault(self, func_name: str) -> None:
        if (fault := self.system.next_fault(func_name)) is None:
            return
        kind, key = fault
        if kind == "communication":
            self.alive = False
            raise CommunicationError("connection to partner broken", key)
        raise (ABAPRuntimeError if kind == "runtime" else ABAPApplicationError)(f"{key} was raised", key)
