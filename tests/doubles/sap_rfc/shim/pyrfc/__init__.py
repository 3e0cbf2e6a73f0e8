"""The fake pyrfc: what `import pyrfc` finds where this directory stands first on the path."""

from tests.doubles.sap_rfc.connection import Connection
from tests.doubles.sap_rfc.failures import (
    ABAPApplicationError,
    ABAPRuntimeError,
    CommunicationError,
    ExternalRuntimeError,
    LogonError,
    RFCError,
    RFCLibError,
)

__all__ = [
    "ABAPApplicationError",
    "ABAPRuntimeError",
    "CommunicationError",
    "Connection",
    "ExternalRuntimeError",
    "LogonError",
    "RFCError",
    "RFCLibError",
]
