"""The exception tree of pyrfc."""

from __future__ import annotations


class RFCError(Exception):
    """Base of all."""


class RFCLibError(RFCError):
    """An error with what the library says of it."""

    code = 0

    def __init__(self, message: str = "", key: str = "", code: int | None = None) -> None:
        self.message, self.key = message, key
        self.code = self.code if code is None else code
        self.msg_class = self.msg_type = self.msg_number = self.msg_v1 = self.msg_v2 = self.msg_v3 = self.msg_v4 = ""
        super().__init__(f"{self.code} (rc={self.code}): key={key}, message={message}")


class CommunicationError(RFCLibError):
    """The gateway was not reached, or the connection broke."""

    code = 1


class LogonError(RFCLibError):
    """User, password or client were refused."""

    code = 2


class ABAPRuntimeError(RFCLibError):
    """The program was ended by the system."""

    code = 3


class ABAPApplicationError(RFCLibError):
    """An exception of the function module; `key` is its name."""

    code = 5


class ExternalRuntimeError(RFCLibError):
    """The library itself refuses."""

    code = 20
